//! A release from its installation to the end of its namespace.

use environment_operator::api::{EnvironmentLease, LeasePhase, Reason};
use harness::namespace::Namespace;
use harness::objects;
use harness::wait::eventually;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams};

use super::release::Site;
use crate::installed::{LIMIT, OPERATOR};
use crate::support::{NAMESPACE, RELEASE, read};

#[tokio::test]
async fn a_release_works_as_its_service_account_and_leaves_definitions_and_leases_behind() {
    let site = Site::prepare().await;
    let mark = site.control_plane.audit().mark().unwrap();
    site.install(&[]).await;
    let names = site.names().await;
    assert_eq!(names.len(), 2, "{names:?}");
    for answer in site.ask("/readyz").await {
        assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
    }
    leads_to(&site, 2).await;
    assert_eq!(site.metric("environment_operator_leadership").await, 1.0, "one leads");

    // A runner's Job, as the example has it: its Pod waits for the lease with its own few rights.
    let namespace = Namespace::create(&site.client, "runner").await.unwrap();
    let example = read("examples/job-with-lease.yaml");
    let example = example.replace("namespace: default", &format!("namespace: {}", namespace.name()));
    objects::apply(&site.client, namespace.name(), &example).await.unwrap();
    site.lease_in(namespace.name(), "build", LeasePhase::Active).await;
    let status = site.lease_in(namespace.name(), "build", LeasePhase::Released).await;
    assert_eq!(status.reason, Some(Reason::RunFinished), "{status:?}");

    let tested = site.helm(&["test", RELEASE, "--logs", "--timeout", "60s"]).await;
    let log = site.node.logs(NAMESPACE, "demo-environment-operator-test");
    let said = tested.unwrap_or_else(|said| panic!("{said}\n{log}"));
    assert!(
        said.contains("Phase:          Succeeded") && said.contains("COMPANY"),
        "{said}"
    );

    speaks_by_its_pods_tokens(&site, mark, &names);

    site.uninstall().await;
    assert!(site.operators().await.is_empty());
    let definitions: Api<CustomResourceDefinition> = Api::all(site.client.clone());
    definitions.get("environmentleases.paperclip.ing").await.unwrap();
    let leases: Api<EnvironmentLease> = Api::namespaced(site.client.clone(), namespace.name());
    leases.get("build").await.unwrap();
    // Without an operator nothing holds a namespace, not the release's and not one with leases.
    goes(&site, namespace.name()).await;
    goes(&site, NAMESPACE).await;
}

/// Waits until the release's Service leads to so many Pods that are ready.
async fn leads_to(site: &Site, expected: usize) {
    let slices: Api<EndpointSlice> = Api::namespaced(site.client.clone(), NAMESPACE);
    eventually("the Service leads to its Pods", LIMIT, async || {
        let slices = slices
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let endpoints: Vec<_> = slices.items.into_iter().flat_map(|slice| slice.endpoints).collect();
        let is_ready = |conditions: Option<bool>| conditions == Some(true);
        let ready = endpoints
            .iter()
            .filter(|one| is_ready(one.conditions.as_ref().and_then(|all| all.ready)));
        if ready.count() == expected {
            Ok(())
        } else {
            Err(format!("{endpoints:?}"))
        }
    })
    .await;
}

/// Every request of the operator's ServiceAccount came with the token of one of these Pods or of the test's, each of them came,
/// and none was refused.
fn speaks_by_its_pods_tokens(site: &Site, mark: harness::control_plane::audit::Mark, names: &[String]) {
    let mut asked = site.control_plane.audit().since(mark).unwrap();
    asked.retain(|event| event.user() == OPERATOR);
    let test = "demo-environment-operator-test".to_owned();
    let known: Vec<&String> = names.iter().chain([&test]).collect();
    for event in &asked {
        let pod = event.pod().map(str::to_owned);
        assert!(pod.as_ref().is_some_and(|pod| known.contains(&pod)), "{event:?}");
        assert!(
            event.response_status.as_ref().is_some_and(|status| status.code != 403),
            "{event:?}"
        );
    }
    for name in known {
        assert!(
            asked.iter().any(|event| event.pod() == Some(name)),
            "{name} has asked nothing"
        );
    }
}

/// Deletes a namespace and waits until it is gone.
async fn goes(site: &Site, name: &str) {
    let namespaces: Api<NamespaceObject> = Api::all(site.client.clone());
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&format!("namespace {name} is gone"), LIMIT, async || {
        match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
