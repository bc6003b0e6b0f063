//! What the lease policies keep after the end: a failed run's lease, a provider's place for the next one.

use environment_operator::api::{
    ConditionStatus, ConditionType, EnvironmentLease, EnvironmentPhase, LeasePhase, Reason,
};
use harness::wait::eventually;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Claim, LIMIT, TestEnvironment, id_of, lease};

/// A lease that is retained after its run has failed, in the environment `box` unless the claim says otherwise.
async fn retained(world: &TestEnvironment<'_>, claim: Claim, name: &str) -> EnvironmentLease {
    let run = world.insert_run().await;
    world
        .granted(claim.heartbeat_run(run).set("policy", "RetainOnFailure"))
        .await;
    world.set_run_status(&[run], "failed").await;
    let retained = world.lease_because(name, LeasePhase::Retained, Reason::RunFailed).await;
    let status = retained.status.clone().unwrap();
    assert_eq!(status.released_at, None);
    for condition in &status.conditions {
        let expected = matches!(condition.type_, ConditionType::Decided | ConditionType::Mirrored);
        assert_eq!(condition.status == ConditionStatus::True, expected, "{condition:?}");
    }
    retained
}

async fn patch(world: &TestEnvironment<'_>, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world
        .leases()
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Waits until the row has ended as this status for this reason.
async fn ended_row(world: &TestEnvironment<'_>, id: Uuid, status: &str, reason: Reason) {
    eventually(&format!("the row is {status}"), LIMIT, async || {
        let row = world.lease_row(id).await.ok_or("it is gone")?;
        let record = world.record(id).await.ok_or("nothing is remembered")?;
        let so = row["status"] == status && record["ended_status"] == status && record["reason"] == json!(reason);
        if so && row["released_at"] != Value::Null {
            Ok(())
        } else {
            Err(format!("{row} {record}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_retained_lease_ends_by_each_later_cause_and_not_by_its_run() {
    let world = TestEnvironment::new("policy-retained").await;
    let _operator = world.start_with(&["--sweep-interval=1s"]).await;
    world.ssh_environment("box").await;
    world.ssh_environment("doomed").await;
    let in_box = |name| lease(name).environment("box");

    let released = retained(&world, in_box("released"), "released").await;
    let deleted = retained(&world, in_box("deleted"), "deleted").await;
    let expired = retained(&world, in_box("expired"), "expired").await;
    let doomed = retained(&world, lease("orphaned").environment("doomed"), "orphaned").await;
    let ended = retained(&world, in_box("ended"), "ended").await;
    let row_deleted = retained(&world, in_box("row-deleted"), "row-deleted").await;
    let stays = retained(&world, in_box("stays"), "stays").await;

    world.release("released").await;
    world.delete_lease("deleted").await;
    patch(&world, "expired", json!({ "ttlSeconds": 1 })).await;
    world.delete_environment("doomed").await;
    world.set_lease_status(id_of(&ended), "released").await;
    world.delete_lease_row(id_of(&row_deleted)).await;
    // What becomes of the run counts no longer.
    let run = world.lease_row(id_of(&stays)).await.unwrap()["heartbeat_run_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    world.delete_run(run).await;

    for (name, phase, reason) in [
        ("released", LeasePhase::Released, Reason::ReleaseRequested),
        ("expired", LeasePhase::Expired, Reason::TtlExpired),
        ("orphaned", LeasePhase::Failed, Reason::EnvironmentDeleted),
        ("ended", LeasePhase::Released, Reason::EndedInDatabase),
        ("row-deleted", LeasePhase::Expired, Reason::EndedInDatabase),
    ] {
        let ended = world.lease_because(name, phase, reason).await.status.unwrap();
        assert!(ended.released_at.is_some(), "{name}");
        let finished = ended.conditions.iter().find(|one| one.type_ == ConditionType::Finished);
        assert_eq!(finished.unwrap().status, ConditionStatus::True, "{name}");
    }
    for (lease, status, reason) in [
        (&released, "released", Reason::ReleaseRequested),
        (&deleted, "released", Reason::LeaseDeleted),
        (&expired, "expired", Reason::TtlExpired),
        (&doomed, "failed", Reason::EnvironmentDeleted),
        (&ended, "released", Reason::EndedInDatabase),
    ] {
        ended_row(&world, id_of(lease), status, reason).await;
    }
    let row = world.lease_row(id_of(&stays)).await.unwrap();
    assert_eq!(
        (&row["status"], &row["heartbeat_run_id"]),
        (&json!("retained"), &Value::Null)
    );
    assert_eq!(
        world.leases().get("stays").await.unwrap().status.unwrap().phase,
        Some(LeasePhase::Retained)
    );
}

#[tokio::test]
async fn a_lease_that_another_writer_retains_is_shown_as_retained_and_one_set_back_is_retained_again() {
    let world = TestEnvironment::new("policy-retained-by-others").await;
    let _operator = world.start_with(&["--sweep-interval=1s"]).await;
    let theirs = world.granted(lease("theirs")).await;
    sqlx::query("UPDATE environment_leases SET status = 'retained', cleanup_status = 'failed' WHERE id = $1")
        .bind(id_of(&theirs))
        .execute(&world.pool)
        .await
        .unwrap();
    let shown = world
        .lease_because("theirs", LeasePhase::Retained, Reason::EndedInDatabase)
        .await;
    assert_eq!(shown.status.unwrap().cleanup_status.as_deref(), Some("failed"));
    let ours = retained(&world, lease("ours"), "ours").await;
    world.set_lease_status(id_of(&ours), "active").await;
    world.lease_row_is(id_of(&ours), "retained").await;
    for (name, id) in [("theirs", id_of(&theirs)), ("ours", id_of(&ours))] {
        world.release(name).await;
        world
            .lease_because(name, LeasePhase::Released, Reason::ReleaseRequested)
            .await;
        ended_row(&world, id, "released", Reason::ReleaseRequested).await;
    }
}

/// A sandbox environment in the database.
async fn sandbox(world: &TestEnvironment<'_>) {
    let spec = json!({ "driver": "Sandbox", "sandbox": { "provider": "e2b", "config": { "reuseLease": true } } });
    world.environment("sandbox", spec).await;
    world.environment_in("sandbox", EnvironmentPhase::Active).await;
}

/// What the row says of the provider's lease.
async fn provider_of(world: &TestEnvironment<'_>, lease: &EnvironmentLease) -> (Value, Value) {
    let row = world.lease_row(id_of(lease)).await.unwrap();
    (row["provider"].clone(), row["provider_lease_id"].clone())
}

/// Plays the provider's side: it has made something for the lease.
async fn provide(world: &TestEnvironment<'_>, lease: &EnvironmentLease, provider_lease: &str) {
    sqlx::query("UPDATE environment_leases SET provider_lease_id = $2 WHERE id = $1")
        .bind(id_of(lease))
        .bind(provider_lease)
        .execute(&world.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_next_lease_takes_over_what_the_last_has_left_and_no_two_share_it() {
    let world = TestEnvironment::new("policy-reuse").await;
    let mut operator = world.start().await;
    sandbox(&world).await;
    let claim = |name: &str| lease(name).environment("sandbox").set("policy", "ReuseByEnvironment");
    let first = world.granted(claim("first")).await;
    assert_eq!(provider_of(&world, &first).await, (json!("e2b"), Value::Null));
    provide(&world, &first, "sandbox-1").await;
    let beside = world.granted(claim("beside")).await;
    assert_eq!(provider_of(&world, &beside).await.1, Value::Null, "the first is live");
    world.release("first").await;
    world.lease_in("first", LeasePhase::Released).await;
    let second = world.granted(claim("second")).await;
    assert_eq!(provider_of(&world, &second).await, (json!("e2b"), json!("sandbox-1")));
    let third = world.granted(claim("third")).await;
    assert_eq!(provider_of(&world, &third).await.1, Value::Null, "the second is live");
    // A restart and a change of the spec leave it as it is.
    operator.kill().unwrap();
    operator.start_again().unwrap();
    operator.wait_ready().await;
    patch(&world, "second", json!({ "metadata": { "changed": true } })).await;
    eventually("the change is in the row", LIMIT, async || {
        let row = world.lease_row(id_of(&second)).await.unwrap();
        if row["metadata"]["changed"] == true {
            Ok(())
        } else {
            Err(row.to_string())
        }
    })
    .await;
    assert_eq!(provider_of(&world, &second).await, (json!("e2b"), json!("sandbox-1")));

    let workspace = Uuid::new_v4().to_string();
    let of_workspace = |name: &str, workspace: &str| {
        lease(name)
            .environment("sandbox")
            .set("policy", "ReuseByExecutionWorkspace")
            .set("executionWorkspaceId", workspace)
    };
    let mine = world.granted(of_workspace("mine", &workspace)).await;
    provide(&world, &mine, "sandbox-2").await;
    world.release("mine").await;
    world.lease_in("mine", LeasePhase::Released).await;
    let stranger = world
        .granted(of_workspace("stranger", &Uuid::new_v4().to_string()))
        .await;
    assert_eq!(provider_of(&world, &stranger).await.1, Value::Null);
    let mine_again = world.granted(of_workspace("mine-again", &workspace)).await;
    assert_eq!(provider_of(&world, &mine_again).await.1, json!("sandbox-2"));
    let ephemeral = world.granted(lease("ephemeral").environment("sandbox")).await;
    assert_eq!(provider_of(&world, &ephemeral).await, (json!("e2b"), Value::Null));
    world.settles().await;
}

#[tokio::test]
async fn how_the_cleanup_goes_is_copied_from_the_row_and_never_written_to_it() {
    let world = TestEnvironment::attached("policy-cleanup").await;
    let operator = world.start_with(&["--sweep-interval=1s", "--resync-interval=2s"]).await;
    let ours = world.granted(lease("ours")).await;
    let theirs = world.granted(lease("theirs")).await;
    let pending = world.granted(lease("pending")).await;
    world.release("ours").await;
    world.lease_in("ours", LeasePhase::Released).await;
    assert_eq!(
        world.lease_row(id_of(&ours)).await.unwrap()["cleanup_status"],
        Value::Null
    );
    let set = async |lease: &EnvironmentLease, status: &str, cleanup: &str| {
        sqlx::query(
            "UPDATE environment_leases SET status = $2, cleanup_status = $3, released_at = now() WHERE id = $1",
        )
        .bind(id_of(lease))
        .bind(status)
        .bind(cleanup)
        .execute(&world.pool)
        .await
        .unwrap();
    };
    let shows = async |name: &str, phase: LeasePhase, cleanup: &str| {
        eventually(&format!("{name} shows {cleanup}"), LIMIT, async || {
            let status = world.leases().get(name).await.unwrap().status.unwrap();
            let so = status.phase == Some(phase) && status.cleanup_status.as_deref() == Some(cleanup);
            if so { Ok(()) } else { Err(json!(status).to_string()) }
        })
        .await;
    };
    set(&theirs, "failed", "pending").await;
    shows("theirs", LeasePhase::Failed, "pending").await;
    set(&theirs, "failed", "success").await;
    shows("theirs", LeasePhase::Failed, "success").await;
    set(&ours, "released", "failed").await;
    shows("ours", LeasePhase::Released, "failed").await;
    // A newer origin's own: read as it is, and no reason to write.
    set(&pending, "pending_cleanup", "pending").await;
    shows("pending", LeasePhase::PendingCleanup, "pending").await;
    let row = world.lease_row(id_of(&pending)).await.unwrap();
    assert_eq!(
        (&row["status"], &row["cleanup_status"]),
        (&json!("pending_cleanup"), &json!("pending"))
    );
    // Its end is followed to the last, with its reason, and then it is removed like any other.
    let before = world.leases().get("pending").await.unwrap().status.unwrap();
    set(&pending, "released", "success").await;
    shows("pending", LeasePhase::Released, "success").await;
    let status = world.leases().get("pending").await.unwrap().status.unwrap();
    assert_eq!((status.reason, status.message), (before.reason, before.message));
    let rewritten = operator
        .metric("environment_operator_rewritten_endings_total", "")
        .await;
    assert_eq!(rewritten.unwrap(), 0.0, "it was no rewriting of an ending");
    patch(&world, "pending", json!({ "ttlSecondsAfterFinished": 0 })).await;
    eventually("it is removed", LIMIT, async || {
        match world.leases().get_opt("pending").await.unwrap() {
            None => Ok(()),
            Some(lease) => Err(json!(lease.status).to_string()),
        }
    })
    .await;
}
