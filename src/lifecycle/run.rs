//! When a run is over, and how it ended: for rows of `heartbeat_runs` and for objects of the configured run kinds.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

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

/// That a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunEnd {
    /// How it ended.
    pub outcome: RunOutcome,
    /// When, as far as the run itself tells; objects do in whole seconds.
    pub at: Option<Timestamp>,
}

/// The part of a run object's `status` that tells whether it is over, and since when.
///
/// A field of another shape than expected tells nothing, and takes nothing from the others: kinds of all sorts are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunObjectStatus {
    /// `status.phase`, where the kind has one.
    #[serde(default)]
    pub phase: Option<String>,
    /// `status.conditions`, where the kind has them.
    #[serde(default)]
    pub conditions: Vec<RunObjectCondition>,
    /// `status.completionTime`: of a Job that has succeeded, and of kinds that follow it.
    #[serde(default, deserialize_with = "lenient")]
    pub completion_time: Option<Timestamp>,
    /// `status.finishedAt`, as workflows tell it.
    #[serde(default, deserialize_with = "lenient")]
    pub finished_at: Option<Timestamp>,
    /// `status.containerStatuses` of a Pod.
    #[serde(default, deserialize_with = "lenient")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// One condition of a run object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunObjectCondition {
    /// What it speaks of.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    #[serde(default)]
    pub reason: Option<String>,
    /// When its status last changed.
    #[serde(default, deserialize_with = "lenient")]
    pub last_transition_time: Option<Timestamp>,
}

/// The part of a container's status that tells when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ContainerStatus {
    /// `state`.
    #[serde(default)]
    pub state: ContainerState,
}

/// What has become of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ContainerState {
    /// `terminated`, once it has.
    #[serde(default)]
    pub terminated: Option<ContainerEnd>,
}

/// A container's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEnd {
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
}

/// Reads a field that other kinds may use for something else.
fn lenient<'a, D: Deserializer<'a>, T: DeserializeOwned + Default>(field: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(field)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// How and when a run object ended, seen from its status; `None` while it is not over.
///
/// `group` and `kind` are the object's own: a Job and a Pod speak a language of their own, every other kind is read by the
/// conventions that workflow engines share. Which moment counts: of a Pod the end of its last container; else the completion
/// that the status tells, else the moment of the condition that says so.
pub fn end_of_object(group: &str, kind: &str, status: &RunObjectStatus) -> Option<RunEnd> {
    let (outcome, condition) = match (group, kind) {
        ("batch", "Job") => of_job(status)?,
        ("", "Pod") => {
            let of_pod = [("Succeeded", RunOutcome::Succeeded), ("Failed", RunOutcome::Failed)];
            (outcome_of_phase(status.phase.as_deref(), &of_pod)?, None)
        }
        _ => of_any(status)?,
    };
    let containers = status.container_statuses.iter();
    let last_container = containers
        .filter_map(|container| container.state.terminated.as_ref()?.finished_at)
        .max();
    let told = last_container.or(status.completion_time).or(status.finished_at);
    Some(RunEnd {
        outcome,
        at: told.or_else(|| condition?.last_transition_time),
    })
}

/// An outcome, and the condition that tells it.
type Told<'a> = (RunOutcome, Option<&'a RunObjectCondition>);

/// A Job is over with the condition Complete or Failed. SuccessCriteriaMet and FailureTarget come earlier, while its Pods
/// still run, and Suspended is no end.
fn of_job(status: &RunObjectStatus) -> Option<Told<'_>> {
    if let Some(complete) = condition(status, "Complete", "True") {
        return Some((RunOutcome::Succeeded, Some(complete)));
    }
    let failed = condition(status, "Failed", "True")?;
    let outcome = match failed.reason.as_deref() {
        Some("DeadlineExceeded") => RunOutcome::TimedOut,
        _ => RunOutcome::Failed,
    };
    Some((outcome, Some(failed)))
}

fn of_any(status: &RunObjectStatus) -> Option<Told<'_>> {
    if let Some(succeeded) = condition(status, "Succeeded", "True").or(condition(status, "Complete", "True")) {
        return Some((RunOutcome::Succeeded, Some(succeeded)));
    }
    if let Some(failed) = condition(status, "Succeeded", "False").or(condition(status, "Failed", "True")) {
        return Some((RunOutcome::Failed, Some(failed)));
    }
    let outcome = outcome_of_phase(
        status.phase.as_deref(),
        &[
            ("Succeeded", RunOutcome::Succeeded),
            ("Completed", RunOutcome::Succeeded),
            ("Failed", RunOutcome::Failed),
            ("Error", RunOutcome::Failed),
            ("Cancelled", RunOutcome::Cancelled),
        ],
    )?;
    Some((outcome, None))
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
mod tests;
