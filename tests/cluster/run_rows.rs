//! Leases of heartbeat runs, which end when the run's row says so: the Paperclip server writes it by plain SQL.

use environment_operator::api::{LeasePhase, Reason};
use futures::future::join_all;
use kube::ResourceExt;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Expected, GRACE, TestEnvironment, lease};

fn display(run: Uuid) -> String {
    format!("run/{}", &run.simple().to_string()[..8])
}

#[tokio::test]
async fn each_terminal_status_of_a_run_ends_all_its_leases_and_no_other() {
    let world = TestEnvironment::new("rows").await;
    let operator = world.start().await;
    let bystander = world.insert_run().await;
    let other = world.granted(lease("of-another-run").heartbeat_run(bystander)).await;
    let without = world.granted(lease("of-no-run")).await;
    let untouched = world.lease_rows(world.company()).await;

    let cases = [
        ("succeeded", LeasePhase::Released, Reason::RunFinished, "succeeded"),
        (
            "interrupted",
            LeasePhase::Released,
            Reason::RunFinished,
            "was interrupted",
        ),
        ("failed", LeasePhase::Failed, Reason::RunFailed, "failed"),
        ("timed_out", LeasePhase::Failed, Reason::RunFailed, "timed out"),
        ("cancelled", LeasePhase::Expired, Reason::RunCancelled, "was cancelled"),
    ];
    for (status, phase, reason, verb) in cases {
        let run = world.insert_run().await;
        let names = ["one", "two"].map(|which| format!("{}-{which}", status.replace('_', "-")));
        for name in &names {
            world.granted(lease(name).heartbeat_run(run)).await;
        }
        world.set_run_status(&[run], status).await;
        let message = format!("{} {verb}", display(run));
        for name in &names {
            Expected {
                phase,
                reason,
                message: &message,
            }
            .of(&world, name)
            .await;
        }
    }
    let mut rows = world.lease_rows(world.company()).await;
    rows.retain(|row| untouched.iter().any(|before| before["id"] == row["id"]));
    assert_eq!(
        rows,
        untouched,
        "neither {} nor {} was touched",
        other.name_any(),
        without.name_any()
    );
    let counted = operator
        .metric("environment_operator_lease_endings_total", "")
        .await
        .unwrap();
    assert_eq!(counted, 10.0);
    let finished = operator
        .metric("environment_operator_lease_endings_total", "reason=\"RunFinished\"")
        .await
        .unwrap();
    assert_eq!(finished, 4.0);
}

#[tokio::test]
async fn twelve_runs_that_end_in_one_statement_end_twelve_leases() {
    let world = TestEnvironment::new("rows-twelve").await;
    let _operator = world.start().await;
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(world.insert_run().await);
    }
    let names: Vec<String> = (0..12).map(|number| format!("lease-{number}")).collect();
    join_all(
        names
            .iter()
            .zip(&runs)
            .map(|(name, run)| world.granted(lease(name).heartbeat_run(*run))),
    )
    .await;
    world.set_run_status(&runs, "failed").await;
    join_all(names.iter().zip(&runs).map(async |(name, run)| {
        let message = format!("{} failed", display(*run));
        Expected {
            phase: LeasePhase::Failed,
            reason: Reason::RunFailed,
            message: &message,
        }
        .of(&world, name)
        .await;
    }))
    .await;
}

#[tokio::test]
async fn released_stays_released_when_the_run_changes_again() {
    let world = TestEnvironment::new("rows-again").await;
    let _operator = world.start().await;
    let (run, later) = (world.insert_run().await, world.insert_run().await);
    world.granted(lease("once").heartbeat_run(run)).await;
    world.granted(lease("marker").heartbeat_run(later)).await;
    world.set_run_status(&[run], "succeeded").await;
    let message = format!("{} succeeded", display(run));
    let ended = Expected {
        phase: LeasePhase::Released,
        reason: Reason::RunFinished,
        message: &message,
    };
    let object = ended.of(&world, "once").await;
    let id = object.uid().unwrap().parse().unwrap();
    let row = world.lease_row(id).await;
    let activity = world.activity(id).await;

    for status in ["running", "failed", "cancelled"] {
        world.set_run_status(&[run], status).await;
    }
    // The operator hears of run ends in their order: once it has dealt with this one, it has with those.
    world.set_run_status(&[later], "succeeded").await;
    world.lease_in("marker", LeasePhase::Released).await;
    assert_eq!((world.lease_row(id).await, world.activity(id).await), (row, activity));
    assert_eq!(world.leases().get("once").await.unwrap(), object);
}

#[tokio::test]
async fn a_run_whose_row_is_deleted_leaves_an_expired_lease_behind() {
    let world = TestEnvironment::new("rows-gone").await;
    let _operator = world.start().await;
    let run = world.insert_run().await;
    let held = world.granted(lease("orphan").heartbeat_run(run)).await;
    world.delete_run(run).await;
    let message = format!("{} is gone, and its outcome was not seen", display(run));
    Expected {
        phase: LeasePhase::Expired,
        reason: Reason::RunGone,
        message: &message,
    }
    .of(&world, "orphan")
    .await;
    let row = world.lease_row(held.uid().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(row["heartbeat_run_id"], Value::Null);
}

#[tokio::test]
async fn what_ended_while_no_operator_ran_is_ended_by_the_next_one() {
    let world = TestEnvironment::new("rows-stopped").await;
    let mut operator = world.start().await;
    let (finished, deleted) = (world.insert_run().await, world.insert_run().await);
    world.granted(lease("of-finished").heartbeat_run(finished)).await;
    world.granted(lease("of-deleted").heartbeat_run(deleted)).await;
    let status = operator.stop(GRACE).await.unwrap();
    assert!(status.success(), "SIGTERM ends it in good order, not with {status}");
    world.set_run_status(&[finished], "timed_out").await;
    world.delete_run(deleted).await;
    operator.start_again().unwrap();
    let message = format!("{} timed out", display(finished));
    Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message: &message,
    }
    .of(&world, "of-finished")
    .await;
    let message = format!("{} is gone, and its outcome was not seen", display(deleted));
    Expected {
        phase: LeasePhase::Expired,
        reason: Reason::RunGone,
        message: &message,
    }
    .of(&world, "of-deleted")
    .await;
}
