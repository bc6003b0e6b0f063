//! Keys of metadata that are a Paperclip server's or the operator's to set are refused whoever sets them.

use environment_operator::api::{Environment, EnvironmentLease};
use harness::namespace::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::installed::{installed, refused};

fn environment(name: &str, metadata: &Value) -> Environment {
    let spec = json!({ "driver": "Local", "metadata": metadata });
    Environment::new(name, serde_json::from_value(spec).unwrap())
}

fn lease(name: &str, metadata: &Value) -> EnvironmentLease {
    EnvironmentLease::new(name, serde_json::from_value(json!({ "metadata": metadata })).unwrap())
}

/// The policy has refused, and names the key.
fn says<T: std::fmt::Debug>(answer: kube::Result<T>, key: &str) {
    let sentence = refused(answer).unwrap();
    assert!(
        sentence.contains(&format!("spec.metadata has the key {key}, which the operator")),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_key_that_is_not_the_user_s_to_set_is_refused_when_it_is_set_whoever_sets_it() {
    let client = installed().await.client().await.unwrap();
    let namespace = Namespace::create(&client, "metadata").await.unwrap();
    let environments: Api<Environment> = Api::namespaced(client.clone(), namespace.name());
    let leases: Api<EnvironmentLease> = Api::namespaced(client, namespace.name());
    let create = PostParams::default();
    for key in [
        "managedByPaperclip",
        "managedKubernetesSandbox",
        "managedSandboxProvider",
        "defaultForCompany",
        "defaultForInstance",
        "_paperclipAnything",
    ] {
        let answer = environments
            .create(&create, &environment("taken", &json!({ key: true })))
            .await;
        says(answer, key);
    }
    for key in ["driver", "_paperclipAnything"] {
        let answer = leases.create(&create, &lease("taken", &json!({ key: "x" }))).await;
        says(answer, key);
    }

    // The same words are anybody's where they mean nothing, and an object without metadata is one.
    let other = environment(
        "own",
        &json!({ "driver": "x", "nested": { "managedByPaperclip": true } }),
    );
    environments.create(&create, &other).await.unwrap();
    leases
        .create(&create, &lease("own", &json!({ "managedByPaperclip": "x" })))
        .await
        .unwrap();
    environments
        .create(&create, &environment("none", &Value::Null))
        .await
        .unwrap();

    let set = Patch::Merge(json!({ "spec": { "metadata": { "defaultForCompany": true } } }));
    let answer = environments.patch("own", &PatchParams::default(), &set).await;
    says(answer, "defaultForCompany");
}
