//! Endings that need no run: by time, by request, by another writer.

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::support::{Expected, LIMIT, TestEnvironment, lease, moment};

#[tokio::test]
async fn a_lease_expires_at_its_time_by_the_database_s_clock() {
    let world = TestEnvironment::new("end-ttl").await;
    let _operator = world.start().await;
    world.granted(lease("short").set("ttlSeconds", 2)).await;
    let message = "the time of spec.ttlSeconds has passed";
    let ended = Expected {
        phase: LeasePhase::Expired,
        reason: Reason::TtlExpired,
        message,
    }
    .of(&world, "short")
    .await;
    let status = ended.status.unwrap();
    assert!(status.released_at.unwrap() >= status.expires_at.unwrap(), "never early");
}

#[tokio::test]
async fn a_lease_whose_time_is_prolonged_does_not_expire_at_its_first_time() {
    let world = TestEnvironment::new("end-prolonged").await;
    let _operator = world.start().await;
    let held = world.granted(lease("prolonged").set("ttlSeconds", 3)).await;
    let patch = kube::api::Patch::Merge(json!({ "spec": { "ttlSeconds": 3600 } }));
    world
        .leases()
        .patch("prolonged", &Default::default(), &patch)
        .await
        .unwrap();
    // Made after it with the same time, so when this one expires, that one's first time has passed.
    world.granted(lease("marker").set("ttlSeconds", 3)).await;
    world.lease_in("marker", LeasePhase::Expired).await;
    let row = world.lease_row(held.uid().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(row["status"], "active");
    assert!(moment(&row["expires_at"]) > held.status.unwrap().expires_at.map(|at| at.get()));
}

#[tokio::test]
async fn a_lease_ends_when_its_release_is_asked_for() {
    let world = TestEnvironment::new("end-release").await;
    let _operator = world.start().await;
    let run = world.insert_run().await;
    world.granted(lease("done").heartbeat_run(run)).await;
    world.release("done").await;
    let message = "spec.release was set";
    Expected {
        phase: LeasePhase::Released,
        reason: Reason::ReleaseRequested,
        message,
    }
    .of(&world, "done")
    .await;
}

#[tokio::test]
async fn an_ending_by_another_writer_stands_and_the_object_follows() {
    let world = TestEnvironment::new("end-unmanaged").await;
    let _operator = world.start_with(&["--sweep-interval=1s"]).await;
    for (name, status, phase) in [
        ("released", "released", LeasePhase::Released),
        ("failed", "failed", LeasePhase::Failed),
        ("expired", "expired", LeasePhase::Expired),
    ] {
        let held = world.granted(lease(name)).await;
        let id = held.uid().unwrap().parse().unwrap();
        world.set_lease_status(id, status).await;
        let as_written = world.lease_row(id).await;
        let ended = world.lease_because(name, phase, Reason::EndedInDatabase).await;
        assert_eq!(world.lease_row(id).await, as_written, "the row is left as written");
        let row = as_written.unwrap();
        let shown = ended.status.unwrap().released_at.unwrap().get();
        assert_eq!(
            shown.as_millisecond(),
            moment(&row["released_at"]).unwrap().as_millisecond()
        );
    }
}

#[tokio::test]
async fn a_lease_row_that_another_writer_deletes_is_never_inserted_again() {
    let world = TestEnvironment::new("end-deleted-row").await;
    let mut operator = world.start_with(&["--sweep-interval=1s"]).await;
    let held = world.granted(lease("deleted")).await;
    let id = held.uid().unwrap().parse().unwrap();
    world.delete_lease_row(id).await;
    world
        .lease_because("deleted", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
    operator.kill().unwrap();
    operator.start_again().unwrap();
    // It takes the leadership over once the killed one's has expired, and looks at everything.
    world.granted(lease("marker")).await;
    assert_eq!(world.lease_row(id).await, None);
    world
        .lease_because("deleted", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
}

#[tokio::test]
async fn an_ended_lease_that_is_set_back_to_active_is_ended_again_as_it_had_ended() {
    let world = TestEnvironment::new("end-again").await;
    let _operator = world.start_with(&["--sweep-interval=1s"]).await;
    let run = world.insert_run().await;
    let held = world.granted(lease("zombie").heartbeat_run(run)).await;
    let id = held.uid().unwrap().parse().unwrap();
    world.set_run_status(&[run], "cancelled").await;
    let ended = world
        .lease_because("zombie", LeasePhase::Expired, Reason::RunCancelled)
        .await;
    world.set_lease_status(id, "active").await;
    eventually("the row is expired again", LIMIT, async || {
        let row = world.lease_row(id).await.unwrap();
        let reason = format!(
            "RunCancelled: {}",
            ended.status.as_ref().unwrap().message.as_ref().unwrap()
        );
        let so =
            row["status"] == "expired" && row["failure_reason"] == json!(reason) && row["released_at"] != Value::Null;
        if so { Ok(()) } else { Err(row.to_string()) }
    })
    .await;
    assert_eq!(
        world.leases().get("zombie").await.unwrap().status,
        ended.status,
        "the first ending stays shown"
    );
}

#[tokio::test]
async fn a_lease_that_is_retained_on_failure_ends_for_good_when_its_release_is_asked_for() {
    let world = TestEnvironment::new("end-retained").await;
    let _operator = world.start().await;
    let run = world.insert_run().await;
    let claim = lease("inspected").heartbeat_run(run).set("policy", "RetainOnFailure");
    let id = world.granted(claim).await.uid().unwrap().parse().unwrap();
    world.set_run_status(&[run], "failed").await;
    let retained = world
        .lease_because("inspected", LeasePhase::Retained, Reason::RunFailed)
        .await;
    assert_eq!(retained.status.unwrap().released_at, None);
    let row = world.lease_row(id).await.unwrap();
    assert_eq!(
        (&row["status"], &row["released_at"]),
        (&json!("retained"), &Value::Null)
    );
    world.release("inspected").await;
    let ended = world
        .lease_because("inspected", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    assert!(ended.status.unwrap().released_at.is_some());
    let row = world.lease_row(id).await.unwrap();
    assert_eq!(
        (&row["status"], &row["failure_reason"]),
        (&json!("released"), &Value::Null)
    );
}
