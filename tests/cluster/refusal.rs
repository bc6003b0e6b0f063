//! Claims that wait or fail: each with its reason, and without a trace in the Paperclip server's tables.

use environment_operator::api::{LeasePhase, Reason};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Claim, TestEnvironment, lease};

/// Waits until the claim has failed for the reason, and looks whether it left anything behind.
async fn refused(world: &TestEnvironment<'_>, claim: Claim, reason: Reason) -> String {
    let made = world.claim(claim).await;
    let lease = world.lease_because(&made.name_any(), LeasePhase::Failed, reason).await;
    let id = lease.uid().unwrap().parse().unwrap();
    assert_eq!(
        (world.lease_row(id).await, world.record(id).await),
        (None, None),
        "it never was a lease"
    );
    assert_eq!(world.activity(id).await, Vec::<Value>::new(), "it never was a lease");
    let status = lease.status.unwrap();
    assert_eq!(
        (status.lease_id, status.acquired_at, status.released_at),
        (None, None, None)
    );
    status.message.unwrap()
}

#[tokio::test]
async fn an_archived_environment_refuses_in_the_origin_s_words() {
    let world = TestEnvironment::new("refuse-archived").await;
    let _operator = world.start().await;
    world.ssh_environment("builder").await;
    let held = world.granted(lease("before").environment("builder")).await;
    let patch = Patch::Merge(json!({ "spec": { "archived": true, "displayName": "Old builder" } }));
    world
        .environments()
        .patch("builder", &PatchParams::default(), &patch)
        .await
        .unwrap();
    world
        .environment_in("builder", environment_operator::api::EnvironmentPhase::Archived)
        .await;

    let said = refused(
        &world,
        lease("after").environment("builder"),
        Reason::EnvironmentArchived,
    )
    .await;
    assert_eq!(said, "Environment \"Old builder\" is not active.");
    // What it has runs out.
    let row = world.lease_row(held.uid().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(row["status"], "active");
}

#[tokio::test]
async fn an_archived_local_that_the_origin_made_refuses_too_and_is_left_untouched() {
    let world = TestEnvironment::new("refuse-local").await;
    let _operator = world.start().await;
    world.insert_agent(world.company()).await;
    sqlx::query(
        "INSERT INTO environments (company_id, name, driver, status) VALUES ($1, 'My machine', 'local', 'archived')",
    )
    .bind(world.company())
    .execute(&world.pool)
    .await
    .unwrap();
    let before = world.environment_rows(world.company()).await;
    let said = refused(&world, lease("late"), Reason::EnvironmentArchived).await;
    assert_eq!(said, "Environment \"My machine\" is not active.");
    assert_eq!(world.environment_rows(world.company()).await, before);
}

#[tokio::test]
async fn a_run_that_is_over_refuses_whether_row_or_job() {
    let world = TestEnvironment::new("refuse-over").await;
    let _operator = world.start().await;
    let agent = world.insert_agent(world.company()).await;
    let run = world
        .insert_run_of(world.company(), agent, "cancelled", json!({}))
        .await;
    let said = refused(&world, lease("of-a-row").heartbeat_run(run), Reason::RunAlreadyFinished).await;
    let display = format!("run/{}", &run.simple().to_string()[..8]);
    assert_eq!(said, format!("{display} was cancelled before the lease was granted"));
    assert_eq!(
        world.run_row(run).await.unwrap()["context_snapshot"],
        json!({}),
        "its context is left alone"
    );

    world.job("done", json!({})).await;
    let held = world.granted(lease("in-time").job("done")).await;
    world.end_job("done", "Succeeded").await;
    world.lease_in(&held.name_any(), LeasePhase::Released).await;
    let said = refused(&world, lease("too-late").job("done"), Reason::RunAlreadyFinished).await;
    assert_eq!(said, "job/done succeeded before the lease was granted");
}

#[tokio::test]
async fn what_a_spec_can_not_mean_is_refused_at_once() {
    let world = TestEnvironment::new("refuse-spec").await;
    let _operator = world.start().await;
    let pod = refused(
        &world,
        lease("of-a-pod").run_object("v1", "Pod", "x"),
        Reason::InvalidSpec,
    )
    .await;
    assert!(pod.contains("--run-kinds"), "{pod}");

    let (agent, other) = (
        world.insert_agent(world.company()).await,
        world.insert_agent(world.company()).await,
    );
    let run = world.insert_run_of(world.company(), agent, "running", json!({})).await;
    let claim = lease("mismatch").heartbeat_run(run).set("agentId", json!(other));
    let said = refused(&world, claim, Reason::AgentMismatch).await;
    assert!(said.contains(&other.to_string()), "{said}");

    let uid = Uuid::new_v4();
    let gone = json!({ "objectRef": { "apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": uid } });
    let said = refused(&world, lease("gone").set("run", gone), Reason::RunGone).await;
    assert_eq!(said, format!("job/x with uid \"{uid}\" is gone"));

    refused(&world, lease("released").set("release", true), Reason::ReleaseRequested).await;
}

#[tokio::test]
async fn a_claim_that_waits_in_vain_times_out_and_says_what_for() {
    let world = TestEnvironment::new("refuse-time").await;
    let _operator = world.start().await;
    // Tried at least once. It leaves a Local, which is not what the other one names.
    world.granted(lease("at-once").set("acquireTimeoutSeconds", 0)).await;
    let claim = lease("in-vain").environment("nowhere").set("acquireTimeoutSeconds", 1);
    let said = refused(&world, claim, Reason::AcquireTimedOut).await;
    assert!(
        said.contains("spec.acquireTimeoutSeconds") && said.contains("nowhere"),
        "{said}"
    );
}

#[tokio::test]
async fn metadata_that_can_not_be_stored_is_refused_and_its_neighbours_are_granted() {
    let world = TestEnvironment::new("refuse-poison").await;
    let _operator = world.start().await;
    let bad = [
        ("null-character", json!({ "text": "a\u{0}b" })),
        ("null-in-a-key", json!({ "a\u{0}b": 1 })),
        ("too-long", json!({ "text": "x".repeat(33 * 1024) })),
    ];
    let good: Vec<String> = (0..6).map(|number| format!("good-{number}")).collect();
    for name in &good {
        world
            .claim(lease(name).set("metadata", json!({ "text": "good" })))
            .await;
    }
    for (name, metadata) in bad {
        let said = refused(&world, lease(name).set("metadata", metadata), Reason::InvalidSpec).await;
        assert!(said.contains("spec.metadata"), "{said}");
    }
    for name in &good {
        world.lease_in(name, LeasePhase::Active).await;
    }
}
