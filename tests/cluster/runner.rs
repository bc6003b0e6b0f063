//! The way of an agent's runner: the example that runners are told to copy, with everything in it real.

use environment_operator::api::{LeasePhase, Reason};
use harness::node_agent::{Images, NodeAgent};
use harness::wait::eventually;

use crate::support::{Expected, LIMIT, TestEnvironment};

#[tokio::test]
async fn the_example_s_job_waits_for_its_lease_works_and_ends_it() {
    let world = TestEnvironment::new("runner").await;
    let (plane, namespace) = (world.control_plane(), world.namespace.name());
    let _node = NodeAgent::start(plane, Some(namespace), Images::usual().await.unwrap())
        .await
        .unwrap();
    let example = include_str!("../../examples/job-with-lease.yaml");
    // Before any operator runs: the Job has to wait for its lease.
    world
        .apply(&example.replace("namespace: default", &format!("namespace: {namespace}")))
        .await;
    eventually("the Job's Pod waits in its first step", LIMIT, async || {
        let output = kubectl(
            &world,
            &[
                "get",
                "pods",
                "--output=jsonpath={.items[*].status.initContainerStatuses}",
            ],
        )
        .await;
        if output.contains("running") {
            Ok(())
        } else {
            Err(output)
        }
    })
    .await;
    let _operator = world.start().await;
    world.lease_in("build", LeasePhase::Active).await;
    let message = "job/build succeeded";
    Expected {
        phase: LeasePhase::Released,
        reason: Reason::RunFinished,
        message,
    }
    .of(&world, "build")
    .await;
}

#[tokio::test]
async fn the_example_s_job_fails_at_once_when_its_claim_is_refused() {
    let world = TestEnvironment::new("runner-refused").await;
    let (plane, namespace) = (world.control_plane(), world.namespace.name());
    let _node = NodeAgent::start(plane, Some(namespace), Images::usual().await.unwrap())
        .await
        .unwrap();
    let _operator = world.start().await;
    let example = include_str!("../../examples/job-with-lease.yaml")
        .replace("namespace: default", &format!("namespace: {namespace}"))
        .replace(
            "  acquireTimeoutSeconds: 300\n",
            "  acquireTimeoutSeconds: 1\n  environmentRef: { name: nowhere }\n",
        );
    world.apply(&example).await;
    // The steps of the Pod would wait for minutes.
    kubectl(
        &world,
        &["wait", "--for=condition=Failed", "--timeout=30s", "job/build"],
    )
    .await;
    world
        .lease_because("build", LeasePhase::Failed, Reason::AcquireTimedOut)
        .await;
}

#[tokio::test]
async fn the_example_s_pod_renews_its_lease_and_is_deleted_when_the_lease_has_ended() {
    let world = TestEnvironment::new("runner-heartbeats").await;
    let (plane, namespace) = (world.control_plane(), world.namespace.name());
    let _node = NodeAgent::start(plane, Some(namespace), Images::usual().await.unwrap())
        .await
        .unwrap();
    let _operator = world.start().await;
    let example = include_str!("../../examples/pod-with-heartbeats.yaml")
        .replace("namespace: default", &format!("namespace: {namespace}"))
        .replace("sleep 10 &", "sleep 1 &");
    world.apply(&example).await;
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pod/service"];
    kubectl(&world, &ready).await;
    let renewed = [
        "wait",
        "--for=jsonpath={.metadata.annotations.paperclip\\.ing/renew-time}",
        "--timeout=30s",
        "envlease/service",
    ];
    kubectl(&world, &renewed).await;
    let release = r#"{"spec":{"release":true}}"#;
    kubectl(
        &world,
        &["patch", "envlease/service", "--type=merge", "--patch", release],
    )
    .await;
    world
        .lease_because("service", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    kubectl(&world, &["wait", "--for=delete", "--timeout=60s", "pod/service"]).await;
}

#[tokio::test]
async fn kubectl_waits_for_a_lease_and_shows_what_became_of_it() {
    let world = TestEnvironment::new("runner-kubectl").await;
    let _operator = world.start().await;
    world.job("build", serde_json::json!({})).await;
    world.claim(crate::support::lease("mine").job("build")).await;
    for waits in [
        ["wait", "--for=condition=Decided", "--timeout=30s", "envlease/mine"],
        ["wait", "--for=condition=Active", "--timeout=0s", "envlease/mine"],
    ] {
        kubectl(&world, &waits).await;
    }
    world.end_job("build", "Failed").await;
    kubectl(
        &world,
        &["wait", "--for=condition=Finished", "--timeout=30s", "envlease/mine"],
    )
    .await;
    let table = kubectl(&world, &["get", "envlease"]).await;
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().take(5).collect())
        .collect();
    assert_eq!(words[0], ["NAME", "PHASE", "ENVIRONMENT", "RUN", "REASON"], "{table}");
    assert_eq!(
        words[1],
        ["mine", "Failed", "local", "job/build", "RunFailed"],
        "{table}"
    );
}

#[tokio::test]
async fn kubectl_shows_what_a_waiting_claim_asks_for_and_why_it_waits() {
    let world = TestEnvironment::new("runner-waits").await;
    let _operator = world.start().await;
    world.job("build", serde_json::json!({})).await;
    world
        .claim(crate::support::lease("mine").environment("nowhere").job("build"))
        .await;
    let waits = world
        .lease_because("mine", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    let message = waits.status.unwrap().message.unwrap();
    let table = kubectl(&world, &["get", "envlease"]).await;
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().take(5).collect();
    let asked = ["mine", "Pending", "nowhere", "job/build", "EnvironmentNotFound"];
    assert_eq!(row, asked, "{table}");
    let wide = kubectl(&world, &["get", "envlease", "--output=wide"]).await;
    let last: Vec<&str> = wide.lines().map(str::trim_end).collect();
    assert!(last[0].ends_with("MESSAGE") && last[1].ends_with(&message), "{wide}");
}

/// kubectl in the world's namespace; fails the test where kubectl fails.
async fn kubectl(world: &TestEnvironment<'_>, arguments: &[&str]) -> String {
    let mut command = world.control_plane().kubectl().await.unwrap();
    let output = command
        .args(["--namespace", world.namespace.name()])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "kubectl {arguments:?}: {error}");
    out.into_owned()
}
