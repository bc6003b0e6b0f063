//! Leases of run objects that outlive their runs: the gauge shows them meanwhile, the record and a counter afterwards.

use environment_operator::api::{LeasePhase, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease};
use crate::unmanaged::sweeps;

#[tokio::test]
async fn a_lease_that_outlives_its_job_is_counted_while_it_is_active_and_recorded_when_it_ends() {
    let world = TestEnvironment::new("outlived").await;
    // Whatever the watch of Jobs tells it, it ends nothing by it, and its sweep ends nothing.
    let mut blind = world.start_with(&["--notice-by=watches", "--sweep-interval=1s"]).await;
    let granted = async |name| {
        // Its status is the test's to write, not the Job controller's.
        world.job(name, json!({ "managedBy": "example.com/by-hand" })).await;
        id_of(&world.granted(lease(name).job(name)).await)
    };
    let held = granted("completes").await;
    granted("vanishes").await;
    granted("runs").await;
    sweeps(&blind, 2).await;
    assert_eq!(leaked(&blind).await, 0.0);

    let completed_at = whole_second(Timestamp::now() - SignedDuration::from_mins(5));
    complete(&world, "completes", completed_at).await;
    world.delete_job("vanishes").await;
    leak(&blind, 2.0).await;
    blind.stop(GRACE).await.unwrap();

    // As if it had been held since before its Job completed.
    sqlx::query("UPDATE environment_leases SET acquired_at = acquired_at - interval '10 minutes' WHERE id = $1")
        .bind(held)
        .execute(&world.pool)
        .await
        .unwrap();
    let operator = world.start_with(&["--sweep-interval=1s"]).await;
    world
        .lease_because("completes", LeasePhase::Released, Reason::RunFinished)
        .await;
    world
        .lease_because("vanishes", LeasePhase::Expired, Reason::RunGone)
        .await;
    leak(&operator, 0.0).await;
    let late = operator
        .metric(
            "environment_operator_late_lease_endings_total",
            "reason=\"RunFinished\"",
        )
        .await;
    assert_eq!(late.unwrap(), 1.0);
    let (ended_at, late): (f64, bool) = sqlx::query_as(
        "SELECT extract(epoch FROM run_ended_at)::float8, held_until - run_ended_at > interval '5 minutes'
         FROM environment_operator.lease_object WHERE id = $1",
    )
    .bind(held)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(ended_at, completed_at.as_second() as f64);
    assert!(late);
}

/// Writes the status of a Job that has completed.
async fn complete(world: &TestEnvironment<'_>, name: &str, at: Timestamp) {
    let condition = |kind| json!({ "type": kind, "status": "True", "lastTransitionTime": at, "lastProbeTime": at });
    let status = json!({ "status": {
        "startTime": at - SignedDuration::from_mins(1), "completionTime": at, "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    } });
    world
        .jobs()
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

async fn leaked(operator: &Operator) -> f64 {
    let leaked = operator.metric("environment_operator_leaked_leases", "owner=\"operator\"");
    leaked.await.unwrap()
}

/// Waits until so many leases of objects have leaked.
async fn leak(operator: &Operator, expected: f64) {
    eventually(
        &format!("{expected} leases have leaked"),
        LIMIT,
        async || match leaked(operator).await {
            found if found == expected => Ok(()),
            other => Err(other),
        },
    )
    .await;
}
