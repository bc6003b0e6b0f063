//! The examples are what a user copies: the API server takes each as it stands.

use std::path::Path;

use environment_operator::api::{self, Environment, EnvironmentLease};
use harness::wait::eventually;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

use crate::support::{Kind, Namespaced, dynamic};

/// The text of an example, for a namespace of the test's own.
fn example(name: &str, namespace: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    std::fs::read_to_string(path)
        .unwrap()
        .replace("namespace: default", &format!("namespace: {namespace}"))
}

async fn apply(namespace: &Namespaced, name: &str) -> Vec<Value> {
    let text = example(name, &namespace.name);
    let printed = namespace
        .kubectl(&["apply", "-f", "-", "-o", "json"], &text)
        .await
        .unwrap();
    let applied: Value = serde_json::from_str(&printed).unwrap();
    match applied.get("items") {
        Some(items) => items.as_array().unwrap().clone(),
        None => vec![applied],
    }
}

#[tokio::test]
async fn there_is_an_environment_of_each_driver_and_a_lease() {
    let namespace = Namespaced::new("examples").await;
    for (name, driver) in [
        ("local.yaml", api::Driver::Local),
        ("ssh.yaml", api::Driver::Ssh),
        ("exclusive.yaml", api::Driver::Ssh),
        ("sandbox.yaml", api::Driver::Sandbox),
        ("plugin.yaml", api::Driver::Plugin),
    ] {
        let applied = apply(&namespace, name).await;
        let environment: Environment = serde_json::from_value(applied[0].clone()).unwrap();
        assert_eq!(environment.spec.driver, driver, "{name}");
        assert_eq!(api::validate(&environment.spec), Ok(()), "{name}");
    }
    for name in ["lease.yaml", "pod-with-heartbeats.yaml"] {
        let applied = apply(&namespace, name).await;
        let lease = applied.iter().find(|one| one["kind"] == "EnvironmentLease").unwrap();
        let lease: EnvironmentLease = serde_json::from_value(lease.clone()).unwrap();
        assert_eq!(api::validate_lease(&lease.spec), Ok(()), "{name}");
    }
}

/// What an init container of a Job runs kubectl with.
fn wait_of(job: &Value, step: usize) -> Vec<String> {
    serde_json::from_value(job["spec"]["template"]["spec"]["initContainers"][step]["args"].clone()).unwrap()
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_job_waits_for_its_lease_with_the_least_rights() {
    let namespace = Namespaced::new("job").await;
    let applied = apply(&namespace, "job-with-lease.yaml").await;
    let find = |kind: &str| applied.iter().find(|object| object["kind"] == kind).unwrap();
    let lease: EnvironmentLease = serde_json::from_value(find("EnvironmentLease").clone()).unwrap();
    let job = lease.spec.run.unwrap().object_ref.unwrap();
    assert_eq!(job.uid, None, "a uid is not known before the Job is made");
    assert_eq!(
        lease.metadata.owner_references, None,
        "an ownerReference would need the uid"
    );
    assert_eq!(
        [job.kind.as_str(), job.name.as_str()],
        ["Job", find("Job")["metadata"]["name"].as_str().unwrap()]
    );

    // Whatever becomes of the lease's time, the Job has stopped before: thirty seconds are a Pod's to end.
    let deadline = find("Job")["spec"]["activeDeadlineSeconds"].as_i64().unwrap();
    assert!(deadline + 30 < i64::from(lease.spec.ttl_seconds), "{deadline}");
    let decided = wait_of(find("Job"), 0);
    let limit: i32 = decided
        .iter()
        .find_map(|word| word.strip_prefix("--timeout=")?.strip_suffix('s')?.parse().ok())
        .unwrap();
    assert!(
        limit > lease.spec.acquire_timeout_seconds,
        "the claim is decided before"
    );

    // What the init containers do, as the account that they do it with.
    let account = format!("--as=system:serviceaccount:{}:build", namespace.name);
    let conditions = ["Decided", "Active"].map(|type_| {
        json!({
            "type": type_,
            "status": "True",
            "reason": "Granted",
            "message": "The lease is held.",
            "lastTransitionTime": "2026-01-31T12:00:00.000Z",
        })
    });
    let active = json!({ "status": { "phase": "Active", "conditions": conditions } });
    let waited = async {
        // Rights are granted a moment after their objects are stored.
        eventually("the account has its rights", Duration::from_secs(30), async || {
            namespace
                .kubectl(&["get", "environmentlease", "build", &account], "")
                .await
        })
        .await;
        namespace
            .kubectl(&[&words(&decided)[..], &[&account]].concat(), "")
            .await
            .unwrap();
        let granted = wait_of(find("Job"), 1);
        namespace
            .kubectl(&[&words(&granted)[..], &[&account]].concat(), "")
            .await
    };
    let granted = async {
        let leases = dynamic(&namespace.client, api::GROUP, &namespace.name, Kind::Lease);
        leases
            .patch_status("build", &PatchParams::default(), &Patch::Merge(active))
            .await
            .unwrap();
    };
    let (waited, ()) = tokio::join!(waited, granted);
    assert_eq!(
        waited.as_deref(),
        Ok("environmentlease.paperclip.ing/build condition met\n")
    );

    for refused in [
        ["patch", "environmentlease/build"],
        ["delete", "environmentlease/build"],
        ["get", "environmentlease/other"],
        ["list", "environmentleases"],
        ["get", "secrets"],
        ["get", "environments"],
    ] {
        let answer = namespace
            .kubectl(&["auth", "can-i", refused[0], refused[1], &account], "")
            .await;
        assert!(answer.is_err(), "the account may {refused:?}");
    }
}
