//! Leases of Jobs, which end when the Job does.

use environment_operator::api::{LeasePhase, Reason};
use serde_json::json;

use crate::support::{Expected, GRACE, World, lease};

#[tokio::test]
async fn a_lease_ends_with_its_job_whichever_way_that_ends() {
    let world = World::new("jobs").await;
    let _operator = world.start().await;
    for name in ["good", "bad", "deleted", "bystander"] {
        let job = world.job(name, json!({})).await;
        let held = world.granted(lease(&format!("of-{name}")).job(name)).await;
        let run = held.status.unwrap().run.unwrap();
        assert_eq!(
            (run.display, run.kind.as_deref(), run.name.as_deref()),
            (format!("job/{name}"), Some("Job"), Some(name))
        );
        assert_eq!(run.uid, job.metadata.uid, "the uid was pinned");
    }
    world.end_job("good", "Succeeded").await;
    world.end_job("bad", "Failed").await;
    world.delete_job("deleted").await;
    let cases = [
        (
            "of-good",
            LeasePhase::Released,
            Reason::RunFinished,
            "job/good succeeded",
        ),
        ("of-bad", LeasePhase::Failed, Reason::RunFailed, "job/bad failed"),
        (
            "of-deleted",
            LeasePhase::Expired,
            Reason::RunGone,
            "job/deleted is gone, and its outcome was not seen",
        ),
    ];
    for (name, phase, reason, message) in cases {
        Expected { phase, reason, message }.of(&world, name).await;
    }
    world.lease_in("of-bystander", LeasePhase::Active).await;
}

#[tokio::test]
async fn a_job_past_its_own_deadline_has_timed_out() {
    let world = World::new("jobs-deadline").await;
    let _operator = world.start().await;
    world.job("slow", json!({ "activeDeadlineSeconds": 5 })).await;
    world.granted(lease("of-slow").job("slow")).await;
    let expected = Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message: "job/slow timed out",
    };
    expected.of(&world, "of-slow").await;
}

#[tokio::test]
async fn the_outcome_of_a_job_that_vanishes_at_once_is_not_lost() {
    let world = World::new("jobs-vanish").await;
    let mut operator = world.start().await;
    world.job("fleeting", json!({ "ttlSecondsAfterFinished": 0 })).await;
    for name in ["one", "two"] {
        world.granted(lease(name).job("fleeting")).await;
    }
    // Halted, so that the Job is gone for certain when the operator hears of its end.
    operator.pause().unwrap();
    world.end_job("fleeting", "Failed").await;
    world.job_gone("fleeting").await;
    operator.resume().unwrap();
    for name in ["one", "two"] {
        let expected = Expected {
            phase: LeasePhase::Failed,
            reason: Reason::RunFailed,
            message: "job/fleeting failed",
        };
        expected.of(&world, name).await;
    }
}

#[tokio::test]
async fn another_job_of_the_same_name_is_another_run() {
    let world = World::new("jobs-again").await;
    let mut operator = world.start().await;
    world.job("build", json!({})).await;
    world.granted(lease("of-the-first").job("build")).await;
    operator.stop(GRACE).await.unwrap();
    world.delete_job("build").await;
    world.job("build", json!({})).await;
    world.end_job("build", "Succeeded").await;
    operator.start_again().unwrap();
    let message = "job/build is gone, and its outcome was not seen";
    Expected {
        phase: LeasePhase::Expired,
        reason: Reason::RunGone,
        message,
    }
    .of(&world, "of-the-first")
    .await;
}

#[tokio::test]
async fn a_job_that_ends_while_no_operator_runs_is_seen_at_the_next_start() {
    let world = World::new("jobs-stopped").await;
    let mut operator = world.start().await;
    world.job("quiet", json!({})).await;
    world.granted(lease("of-quiet").job("quiet")).await;
    operator.stop(GRACE).await.unwrap();
    world.end_job("quiet", "Succeeded").await;
    world.job_finished("quiet").await;
    operator.start_again().unwrap();
    let expected = Expected {
        phase: LeasePhase::Released,
        reason: Reason::RunFinished,
        message: "job/quiet succeeded",
    };
    expected.of(&world, "of-quiet").await;
}

#[tokio::test]
async fn pods_are_runs_where_the_operator_is_told_so() {
    let world = World::new("pods").await;
    let _operator = world.start_with(&["--run-kinds=batch/v1/Job,v1/Pod"]).await;
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: lone}, spec: {schedulerName: by-hand, containers: [{name: run, image: run}]}}";
    world.apply(pod).await;
    world.granted(lease("of-lone").run_object("v1", "Pod", "lone")).await;
    world.end_pod("lone", "Failed").await;
    let expected = Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message: "pod/lone failed",
    };
    expected.of(&world, "of-lone").await;
}
