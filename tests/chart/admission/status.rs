//! Status is written by operators alone.

use harness::namespace::Namespace;
use harness::wait::eventually;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::installed::{LIMIT, OPERATOR, User, helm, installed, lease, refused};
use crate::support::{LEAST, chart};

#[tokio::test]
async fn nobody_but_the_operator_writes_a_status_not_even_an_administrator() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespace = Namespace::create(&client, "status").await.unwrap();
    let admin = User { client };
    let operator = User::named(control_plane, OPERATOR).await;
    let (leases, environments) = (admin.leases(namespace.name()), admin.environments(namespace.name()));
    leases.create(&PostParams::default(), &lease("one")).await.unwrap();
    let spec: Value = json!({ "driver": "Local" });
    let environment = environment_operator::api::Environment::new("mine", serde_json::from_value(spec).unwrap());
    environments.create(&PostParams::default(), &environment).await.unwrap();

    let write = PatchParams::default();
    let patch = Patch::Merge(json!({ "status": { "phase": "Pending" } }));
    let sentence = "the status of environments and leases is written by operators alone: it takes the verb report";
    let said = refused(leases.patch_status("one", &write, &patch).await).unwrap();
    assert!(said.contains(sentence), "{said}");
    let said = refused(environments.patch_status("mine", &write, &patch).await).unwrap();
    assert!(said.contains(sentence), "{said}");

    let shown = operator
        .leases(namespace.name())
        .patch_status("one", &write, &patch)
        .await
        .unwrap();
    assert!(shown.status.unwrap().phase.is_some());
    let shown = operator
        .environments(namespace.name())
        .patch_status("mine", &write, &patch)
        .await;
    assert!(shown.unwrap().status.unwrap().phase.is_some());
}

/// A right on the status by a wildcard, as a platform's own controllers often have it, is no operator's.
#[tokio::test]
async fn a_wildcard_is_not_the_right_to_report() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespace = Namespace::create(&client, "wildcard").await.unwrap();
    let admin = User { client };
    let leases = admin.leases(namespace.name());
    leases.create(&PostParams::default(), &lease("one")).await.unwrap();
    let anything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    let wild = User::with_rule(control_plane, &admin.client, &anything).await;
    let named = json!([
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"] },
        { "apiGroups": ["paperclip.ing"], "resources": ["environmentleases/status"], "verbs": ["patch", "report"] },
    ]);
    let other_operator = User::with_rule(control_plane, &admin.client, &named).await;
    let patch = Patch::Merge(json!({ "status": { "phase": "Pending" } }));
    let write = async |user: &User| {
        let leases = user.leases(namespace.name());
        leases.patch_status("one", &PatchParams::default(), &patch).await
    };
    refused(write(&wild).await).unwrap();
    eventually("the other operator writes", LIMIT, async || {
        write(&other_operator).await
    })
    .await;
}

#[tokio::test]
async fn a_second_release_leaves_the_status_to_the_first_one_too() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespace = Namespace::create(&client, "second").await.unwrap();
    let leases = User { client: client.clone() }.leases(namespace.name());
    for name in ["one", "signal"] {
        leases.create(&PostParams::default(), &lease(name)).await.unwrap();
    }
    let chart = chart();
    let values = "crds.install=false,replicaCount=0";
    let install = [
        "install",
        "second",
        chart.to_str().unwrap(),
        "--set",
        LEAST[0],
        "--set",
        values,
    ];
    helm(control_plane, &install).await.unwrap();

    // One more rule of its policy is what tells that the API server has taken it up.
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
    let policy = "second-environment-operator-status";
    let mut spec = serde_json::to_value(policies.get(policy).await.unwrap().spec).unwrap();
    spec["validations"].as_array_mut().unwrap().push(json!({
        "expression": format!("request.name != 'signal' || request.namespace != '{}'", namespace.name()),
        "message": "the signal",
    }));
    let signal = Patch::Merge(json!({ "spec": { "validations": spec["validations"] } }));
    policies.patch(policy, &PatchParams::default(), &signal).await.unwrap();
    let operator = User::named(control_plane, OPERATOR).await.leases(namespace.name());
    let patch = Patch::Merge(json!({ "status": { "phase": "Pending" } }));
    eventually("the second policy holds", LIMIT, async || {
        refused(operator.patch_status("signal", &PatchParams::default(), &patch).await)
    })
    .await;
    operator
        .patch_status("one", &PatchParams::default(), &patch)
        .await
        .unwrap();
    helm(control_plane, &["uninstall", "second"]).await.unwrap();
}
