//! Leases of Jobs, which end when the Job does: not before, and whatever becomes of the Job afterwards.

use environment_operator::api::LeasePhase;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{failed, gone, still_held, succeeded};
use crate::support::{GRACE, TestEnvironment, lease};

#[tokio::test]
async fn a_lease_ends_with_its_job_whichever_way_that_ends() {
    let world = TestEnvironment::new("jobs").await;
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
    succeeded("job/good succeeded").of(&world, "of-good").await;
    failed("job/bad failed").of(&world, "of-bad").await;
    gone("job/deleted is gone, and its outcome was not seen")
        .of(&world, "of-deleted")
        .await;
    world.lease_in("of-bystander", LeasePhase::Active).await;
}

#[tokio::test]
async fn a_job_past_its_own_deadline_has_timed_out() {
    let world = TestEnvironment::new("jobs-deadline").await;
    let _operator = world.start().await;
    world.job("slow", json!({ "activeDeadlineSeconds": 5 })).await;
    world.granted(lease("of-slow").job("slow")).await;
    failed("job/slow timed out").of(&world, "of-slow").await;
}

#[tokio::test]
async fn the_outcome_of_a_job_that_vanishes_at_once_is_not_lost() {
    let world = TestEnvironment::new("jobs-vanish").await;
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
        failed("job/fleeting failed").of(&world, name).await;
    }
}

#[tokio::test]
async fn another_job_of_the_same_name_is_another_run() {
    let world = TestEnvironment::new("jobs-again").await;
    let mut operator = world.start().await;
    world.job("build", json!({})).await;
    world.granted(lease("of-the-first").job("build")).await;
    operator.stop(GRACE).await.unwrap();
    world.delete_job("build").await;
    world.job("build", json!({})).await;
    world.end_job("build", "Succeeded").await;
    operator.start_again().unwrap();
    gone("job/build is gone, and its outcome was not seen")
        .of(&world, "of-the-first")
        .await;
}

#[tokio::test]
async fn a_job_that_ends_while_no_operator_runs_is_seen_at_the_next_start() {
    let world = TestEnvironment::new("jobs-stopped").await;
    let mut operator = world.start().await;
    world.job("quiet", json!({})).await;
    world.granted(lease("of-quiet").job("quiet")).await;
    operator.stop(GRACE).await.unwrap();
    world.end_job("quiet", "Succeeded").await;
    world.job_finished("quiet").await;
    operator.start_again().unwrap();
    succeeded("job/quiet succeeded").of(&world, "of-quiet").await;
}

#[tokio::test]
async fn a_job_that_is_deleted_while_no_operator_runs_is_missed_at_the_next_start() {
    let world = TestEnvironment::new("jobs-missed").await;
    let mut operator = world.start().await;
    world.job("quiet", json!({})).await;
    world.granted(lease("of-quiet").job("quiet")).await;
    operator.stop(GRACE).await.unwrap();
    world.delete_job("quiet").await;
    operator.start_again().unwrap();
    gone("job/quiet is gone, and its outcome was not seen")
        .of(&world, "of-quiet")
        .await;
}

#[tokio::test]
async fn a_job_that_is_suspended_is_not_over_and_goes_on_where_it_is_resumed() {
    let world = TestEnvironment::new("jobs-suspended").await;
    let _operator = world.start().await;
    world.job("patient", json!({ "suspend": true })).await;
    world.granted(lease("of-patient").job("patient")).await;
    world.job_condition("patient", "Suspended").await;
    still_held(&world, "of-patient").await;
    suspend(&world, "patient", false).await;
    world.live_pod_of_job("patient").await;
    suspend(&world, "patient", true).await;
    world.job_condition("patient", "Suspended").await;
    still_held(&world, "of-patient").await;
    suspend(&world, "patient", false).await;
    world.end_job("patient", "Succeeded").await;
    succeeded("job/patient succeeded").of(&world, "of-patient").await;
}

async fn suspend(world: &TestEnvironment<'_>, job: &str, suspend: bool) {
    let patch = Patch::Merge(json!({ "spec": { "suspend": suspend } }));
    world.jobs().patch(job, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_job_with_tries_left_is_over_with_its_last_one() {
    let world = TestEnvironment::new("jobs-backoff").await;
    let _operator = world.start().await;
    world.job("flaky", json!({ "backoffLimit": 1 })).await;
    world.granted(lease("of-flaky").job("flaky")).await;
    world.end_job("flaky", "Failed").await;
    // The Job's controller waits for ten seconds before it tries again.
    world.live_pod_of_job("flaky").await;
    still_held(&world, "of-flaky").await;
    world.end_job("flaky", "Failed").await;
    failed("job/flaky failed").of(&world, "of-flaky").await;
}

#[tokio::test]
async fn a_pod_failure_policy_says_which_failure_ends_a_job() {
    let world = TestEnvironment::new("jobs-policy").await;
    let _operator = world.start().await;
    let policy = json!({ "rules": [
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
        { "action": "FailJob", "onExitCodes": { "containerName": "run", "operator": "In", "values": [42] } },
    ] });
    world
        .job("strict", json!({ "backoffLimit": 0, "podFailurePolicy": policy }))
        .await;
    world.granted(lease("of-strict").job("strict")).await;
    let disrupted = json!({ "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler" });
    world
        .end_job_with("strict", json!({ "phase": "Failed", "conditions": [disrupted] }))
        .await;
    world.live_pod_of_job("strict").await;
    still_held(&world, "of-strict").await;
    let terminated = json!({
        "name": "run", "image": "run", "imageID": "run", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 42 } },
    });
    world
        .end_job_with(
            "strict",
            json!({ "phase": "Failed", "containerStatuses": [terminated] }),
        )
        .await;
    failed("job/strict failed").of(&world, "of-strict").await;
    let strict = world.jobs().get("strict").await.unwrap();
    let conditions = json!(strict.status.unwrap().conditions);
    assert!(conditions.to_string().contains("PodFailurePolicy"), "{conditions}");
}

#[tokio::test]
async fn a_job_that_has_failed_is_over_once_its_last_pod_is_gone() {
    let more = json!({ "completions": 2, "parallelism": 2 });
    last_pod_story("jobs-target", more, "Failed", "FailureTarget").await;
}

#[tokio::test]
async fn a_job_that_has_succeeded_is_over_once_its_last_pod_is_gone() {
    let policy = json!({ "rules": [{ "succeededCount": 1 }] });
    let more = json!({ "completions": 2, "parallelism": 2, "completionMode": "Indexed", "successPolicy": policy });
    last_pod_story("jobs-criteria", more, "Succeeded", "SuccessCriteriaMet").await;
}

/// A Job of two Pods of which one decides, while the other takes its time to go: the Job says early what will become of it.
async fn last_pod_story(prefix: &str, more: Value, phase: &str, early: &str) {
    let world = TestEnvironment::new(prefix).await;
    let _operator = world.start().await;
    // A Pod that is on a node goes when its kubelet says so: here, when the test does.
    world.job_on_node("pair", more).await;
    world.granted(lease("of-pair").job("pair")).await;
    world.end_job("pair", phase).await;
    world.job_condition("pair", early).await;
    still_held(&world, "of-pair").await;
    world.remove_terminating_pods().await;
    let expected = match phase {
        "Failed" => failed("job/pair failed"),
        _ => succeeded("job/pair succeeded"),
    };
    expected.of(&world, "of-pair").await;
}

#[tokio::test]
async fn a_job_whose_deletion_is_held_up_is_not_gone_yet() {
    let world = TestEnvironment::new("jobs-held-up").await;
    let _operator = world.start().await;
    world.job("sticky", json!({})).await;
    finalizers(&world, "sticky", json!(["example.test/hold"])).await;
    world.granted(lease("of-sticky").job("sticky")).await;
    world
        .jobs()
        .delete("sticky", &DeleteParams::background())
        .await
        .unwrap();
    still_held(&world, "of-sticky").await;
    finalizers(&world, "sticky", json!(null)).await;
    gone("job/sticky is gone, and its outcome was not seen")
        .of(&world, "of-sticky")
        .await;
}

async fn finalizers(world: &TestEnvironment<'_>, job: &str, list: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    world.jobs().patch(job, &PatchParams::default(), &patch).await.unwrap();
}
