//! Every Pod of the chart passes the restricted level of the Pod security standards, on a real API server.

use harness::control_plane::ControlPlane;
use harness::namespace::Namespace;
use harness::objects;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::rendered::{CASES, case};
use crate::support::of_kind;

/// The templates of Pods in what a case renders, each with the name of its object.
async fn templates(name: &str) -> Vec<(String, Value)> {
    let objects = objects::parse(&case(name).await).unwrap();
    let template = |object: &DynamicObject| {
        let name = object.metadata.name.clone().unwrap();
        let template = match object.data["spec"].get("template") {
            Some(template) => template.clone(),
            None => json!({ "spec": object.data["spec"] }),
        };
        (name, template)
    };
    let kinds = ["Deployment", "StatefulSet", "Job", "Pod"].into_iter();
    kinds.flat_map(|kind| of_kind(&objects, kind)).map(template).collect()
}

/// Tries to make a Pod of a template in a namespace of the restricted level.
async fn try_out(client: &Client, namespace: &Namespace, mut pod: Value) -> kube::Result<Pod> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pod["metadata"]["name"] = json!("pod");
    // The chart's own is not made here, and the level does not look at it.
    pod["spec"]["serviceAccountName"] = json!("default");
    // These volumes are put in by the controller of a StatefulSet.
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut()
        && !volumes
            .iter()
            .any(|volume| volume["name"] == "data" || volume["name"] == "database-certificates")
    {
        volumes.push(json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }));
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    pods.create(&dry_run, &serde_json::from_value(pod).unwrap()).await
}

#[tokio::test]
async fn every_pod_passes_the_restricted_level() {
    let client = ControlPlane::shared().await.client().await.unwrap();
    let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
    let namespace = Namespace::create_with_labels(&client, "restricted", labels)
        .await
        .unwrap();
    let mut tried = 0;
    for case in CASES {
        for (name, pod) in templates(case).await {
            let answer = try_out(&client, &namespace, pod.clone()).await;
            answer.unwrap_or_else(|error| panic!("{case}: {name}: {error}"));
            tried += 1;

            let mut privileged = pod;
            privileged["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
            let answer = try_out(&client, &namespace, privileged).await.unwrap_err().to_string();
            assert!(
                answer.contains("violates PodSecurity"),
                "the level is enforced here: {answer}"
            );
        }
    }
    assert_eq!(
        tried,
        2 * CASES.len() + 3,
        "a Deployment and a test each, one Postgres, two migrations"
    );
}
