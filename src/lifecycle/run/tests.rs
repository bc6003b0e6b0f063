//! Ends of runs, as rows and objects of each kind show them.

use serde_json::json;
use strum::VariantArray as _;

use super::*;

fn end(group: &str, kind: &str, status: serde_json::Value) -> Option<RunEnd> {
    end_of_object(group, kind, &RunObjectStatus::read(&status.to_string()))
}

fn outcome(group: &str, kind: &str, status: serde_json::Value) -> Option<RunOutcome> {
    end(group, kind, status).map(|end| end.outcome)
}

fn conditions(type_: &str, status: &str, reason: &str) -> serde_json::Value {
    json!({ "conditions": [{ "type": type_, "status": status, "reason": reason }] })
}

#[test]
fn a_job_is_over_only_with_complete_or_failed() {
    let job = |type_, status, reason| outcome("batch", "Job", conditions(type_, status, reason));
    assert_eq!(
        job("Complete", "True", "CompletionsReached"),
        Some(RunOutcome::Succeeded)
    );
    assert_eq!(job("Failed", "True", "BackoffLimitExceeded"), Some(RunOutcome::Failed));
    assert_eq!(job("Failed", "True", "PodFailurePolicy"), Some(RunOutcome::Failed));
    assert_eq!(job("Failed", "True", "DeadlineExceeded"), Some(RunOutcome::TimedOut));
    assert_eq!(job("Failed", "False", ""), None);
    for early in ["SuccessCriteriaMet", "FailureTarget", "Suspended"] {
        assert_eq!(job(early, "True", ""), None, "{early}");
    }
    assert_eq!(outcome("batch", "Job", json!({ "active": 1 })), None);
}

#[test]
fn a_pod_is_over_by_its_phase() {
    let pod = |phase| outcome("", "Pod", json!({ "phase": phase }));
    assert_eq!(pod("Succeeded"), Some(RunOutcome::Succeeded));
    assert_eq!(pod("Failed"), Some(RunOutcome::Failed));
    for live in ["Pending", "Running", "Unknown", "Completed"] {
        assert_eq!(pod(live), None, "{live}");
    }
    // A restart of a container is not the end of its Pod.
    assert_eq!(
        outcome(
            "",
            "Pod",
            json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "False" }] })
        ),
        None
    );
}

#[test]
fn any_other_kind_is_over_by_condition_or_phase() {
    let any = |status| outcome("tekton.dev", "TaskRun", status);
    assert_eq!(any(conditions("Succeeded", "True", "")), Some(RunOutcome::Succeeded));
    assert_eq!(any(conditions("Succeeded", "False", "")), Some(RunOutcome::Failed));
    assert_eq!(any(conditions("Succeeded", "Unknown", "Running")), None);
    assert_eq!(any(conditions("Complete", "True", "")), Some(RunOutcome::Succeeded));
    assert_eq!(any(conditions("Complete", "False", "")), None);
    assert_eq!(any(conditions("Failed", "True", "")), Some(RunOutcome::Failed));
    for (phase, expected) in [
        ("Succeeded", Some(RunOutcome::Succeeded)),
        ("Completed", Some(RunOutcome::Succeeded)),
        ("Failed", Some(RunOutcome::Failed)),
        ("Error", Some(RunOutcome::Failed)),
        ("Cancelled", Some(RunOutcome::Cancelled)),
        ("Running", None),
    ] {
        assert_eq!(any(json!({ "phase": phase })), expected, "{phase}");
    }
}

#[test]
fn a_row_is_over_exactly_when_its_status_is_terminal() {
    for status in RunStatus::VARIANTS {
        assert_eq!(status.outcome().is_some(), status.is_terminal(), "{status:?}");
    }
}

fn at(group: &str, kind: &str, status: serde_json::Value) -> Option<String> {
    Some(end(group, kind, status).unwrap().at?.to_string())
}

#[test]
fn a_job_tells_its_end_by_its_completion_or_by_the_condition_of_its_failure() {
    let condition = |type_| json!({ "type": type_, "status": "True", "lastTransitionTime": "2026-01-01T00:00:02Z" });
    let early = json!({ "type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z" });
    let complete = json!({ "conditions": [early, condition("Complete")], "completionTime": "2026-01-01T00:00:03Z" });
    assert_eq!(at("batch", "Job", complete).unwrap(), "2026-01-01T00:00:03Z");
    let failed = json!({ "conditions": [condition("Failed")] });
    assert_eq!(at("batch", "Job", failed).unwrap(), "2026-01-01T00:00:02Z");
}

#[test]
fn a_pod_has_ended_with_its_last_container() {
    let ended = |time: &str| json!({ "state": { "terminated": { "exitCode": 0, "finishedAt": time } } });
    let pod = json!({
        "phase": "Succeeded",
        "containerStatuses": [ended("2026-01-01T00:00:05Z"), ended("2026-01-01T00:00:07Z"), { "state": {} }],
    });
    assert_eq!(at("", "Pod", pod).unwrap(), "2026-01-01T00:00:07Z");
    assert_eq!(at("", "Pod", json!({ "phase": "Failed", "reason": "Evicted" })), None);
}

#[test]
fn any_other_kind_tells_its_end_in_one_of_the_usual_fields_and_other_shapes_tell_none() {
    let any = |status| at("example.org", "Run", status);
    assert_eq!(
        any(json!({ "phase": "Succeeded", "finishedAt": "2026-01-01T00:00:07Z" })).unwrap(),
        "2026-01-01T00:00:07Z"
    );
    let condition = json!({ "type": "Succeeded", "status": "False", "lastTransitionTime": "2026-01-01T00:00:02Z" });
    assert_eq!(
        any(json!({ "conditions": [condition] })).unwrap(),
        "2026-01-01T00:00:02Z"
    );
    for odd in [
        json!({ "phase": "Error", "finishedAt": "yesterday" }),
        json!({ "phase": "Error", "completionTime": 7 }),
        json!({ "phase": "Error", "containerStatuses": "none" }),
        json!({ "phase": "Error", "conditions": [{ "type": "Other", "status": "True", "lastTransitionTime": {} }] }),
    ] {
        assert_eq!(any(odd), None);
    }
}

#[test]
fn a_field_of_another_shape_hides_no_other_field() {
    let phase = |conditions: serde_json::Value| json!({ "phase": "Succeeded", "conditions": conditions });
    for odd in [
        json!(null),
        json!({ "Ready": true }),
        json!("none"),
        json!([{ "type": "Ready" }]),
        json!([{ "status": "True" }]),
        json!([null, 7, "x", [], { "type": {}, "status": "True" }, { "type": "Failed", "status": true }]),
    ] {
        for (group, kind) in [("example.org", "Run"), ("", "Pod")] {
            let told = outcome(group, kind, phase(odd.clone()));
            assert_eq!(told, Some(RunOutcome::Succeeded), "{kind} {odd}");
        }
    }
    for odd in [json!({ "name": "x" }), json!(null), json!(7), json!(["Running"])] {
        for (group, kind) in [("example.org", "Run"), ("batch", "Job")] {
            let complete = json!([{ "type": "Complete", "status": "True", "reason": {}, "lastTransitionTime": 1 }]);
            let told = outcome(group, kind, json!({ "phase": odd, "conditions": complete }));
            assert_eq!(told, Some(RunOutcome::Succeeded), "{kind} {odd}");
        }
    }
    // An odd entry hides neither those before nor those after it.
    let among = json!([{ "type": "Ready" }, { "type": "Failed", "status": "True", "reason": "DeadlineExceeded" }, 7]);
    assert_eq!(
        outcome("batch", "Job", json!({ "conditions": among, "startTime": {} })),
        Some(RunOutcome::TimedOut)
    );
    for odd in [json!(null), json!("over"), json!([])] {
        assert_eq!(outcome("example.org", "Run", odd.clone()), None, "{odd}");
    }
}

#[test]
fn a_container_of_another_shape_hides_no_other_container() {
    let ended = json!({ "state": { "terminated": { "finishedAt": "2026-01-01T00:00:07Z" } } });
    for odd in [
        json!(null),
        json!({ "state": [] }),
        json!({ "state": { "terminated": "yes" } }),
        json!(7),
    ] {
        let pod = json!({ "phase": "Succeeded", "containerStatuses": [odd, ended, odd] });
        assert_eq!(at("", "Pod", pod).unwrap(), "2026-01-01T00:00:07Z");
    }
}
