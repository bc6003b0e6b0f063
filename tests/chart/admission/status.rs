//! Status is written by the operator alone.

use harness::namespace::Namespace;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::installed::{OPERATOR, User, installed, lease, refused};

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
    let sentence = "the status of environments and leases is written by the operator alone";
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
