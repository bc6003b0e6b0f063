//! When a run is over, and how it ended: for rows of `heartbeat_runs` and for objects of the configured run kinds.

use serde::Deserialize;

use super::RunStatus;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunOutcome {
    /// It did what it was for.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// It exceeded its own deadline.
    TimedOut,
    /// Somebody called it off.
    Cancelled,
    /// It was stopped half-way; another run may go on from there.
    Interrupted,
}

impl RunOutcome {
    /// The outcome as the end of a sentence: "run job/x …".
    pub const fn as_verb(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Cancelled => "was cancelled",
            Self::Interrupted => "was interrupted",
        }
    }
}

impl RunStatus {
    /// The outcome that a row's status stands for; `None` while the run is live.
    pub const fn outcome(self) -> Option<RunOutcome> {
        match self {
            Self::Queued | Self::ScheduledRetry | Self::Running => None,
            Self::Succeeded => Some(RunOutcome::Succeeded),
            Self::Failed => Some(RunOutcome::Failed),
            Self::TimedOut => Some(RunOutcome::TimedOut),
            Self::Cancelled => Some(RunOutcome::Cancelled),
            Self::Interrupted => Some(RunOutcome::Interrupted),
        }
    }
}

/// The part of a run object's `status` that tells whether it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RunObjectStatus {
    /// `status.phase`, where the kind has one.
    #[serde(default)]
    pub phase: Option<String>,
    /// `status.conditions`, where the kind has them.
    #[serde(default)]
    pub conditions: Vec<RunObjectCondition>,
}

/// One condition of a run object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunObjectCondition {
    /// What it speaks of.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How a run object ended, seen from its status; `None` while it is not over.
///
/// `group` and `kind` are the object's own: a Job and a Pod speak a language of their own, every other kind is read by the
/// conventions that workflow engines share.
pub fn outcome_of_object(group: &str, kind: &str, status: &RunObjectStatus) -> Option<RunOutcome> {
    match (group, kind) {
        ("batch", "Job") => outcome_of_job(status),
        ("", "Pod") => outcome_of_phase(
            status.phase.as_deref(),
            &[("Succeeded", RunOutcome::Succeeded), ("Failed", RunOutcome::Failed)],
        ),
        _ => outcome_of_any(status),
    }
}

/// A Job is over with the condition Complete or Failed. SuccessCriteriaMet and FailureTarget come earlier, while its Pods
/// still run, and Suspended is no end.
fn outcome_of_job(status: &RunObjectStatus) -> Option<RunOutcome> {
    if condition(status, "Complete", "True").is_some() {
        return Some(RunOutcome::Succeeded);
    }
    condition(status, "Failed", "True").map(|failed| match failed.reason.as_deref() {
        Some("DeadlineExceeded") => RunOutcome::TimedOut,
        _ => RunOutcome::Failed,
    })
}

fn outcome_of_any(status: &RunObjectStatus) -> Option<RunOutcome> {
    if condition(status, "Succeeded", "True")
        .or(condition(status, "Complete", "True"))
        .is_some()
    {
        return Some(RunOutcome::Succeeded);
    }
    if condition(status, "Succeeded", "False")
        .or(condition(status, "Failed", "True"))
        .is_some()
    {
        return Some(RunOutcome::Failed);
    }
    outcome_of_phase(
        status.phase.as_deref(),
        &[
            ("Succeeded", RunOutcome::Succeeded),
            ("Completed", RunOutcome::Succeeded),
            ("Failed", RunOutcome::Failed),
            ("Error", RunOutcome::Failed),
            ("Cancelled", RunOutcome::Cancelled),
        ],
    )
}

fn outcome_of_phase(phase: Option<&str>, outcomes: &[(&str, RunOutcome)]) -> Option<RunOutcome> {
    outcomes
        .iter()
        .find(|(name, _)| phase == Some(name))
        .map(|(_, outcome)| *outcome)
}

fn condition<'a>(status: &'a RunObjectStatus, type_: &str, value: &str) -> Option<&'a RunObjectCondition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(group: &str, kind: &str, status: serde_json::Value) -> Option<RunOutcome> {
        outcome_of_object(group, kind, &serde_json::from_value(status).unwrap())
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
        for status in RunStatus::ALL {
            assert_eq!(status.outcome().is_some(), status.is_terminal(), "{status:?}");
        }
    }
}
