//! When a run is over, and how it ended: for rows of `heartbeat_runs` and for objects of the configured run kinds.

use std::fmt;

use jiff::Timestamp;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunObjectStatus {
    /// `status.phase`, where the kind has one.
    pub phase: Option<String>,
    /// `status.conditions`, where the kind has them: of those that tell an end, the first of each.
    pub conditions: Vec<RunObjectCondition>,
    /// `status.completionTime`: of a Job that has succeeded, and of kinds that follow it.
    pub completion_time: Option<Timestamp>,
    /// `status.finishedAt`, as workflows tell it.
    pub finished_at: Option<Timestamp>,
    /// When the last of a Pod's `status.containerStatuses` ended.
    pub last_container: Option<Timestamp>,
}

/// One condition of a run object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunObjectCondition {
    /// What it speaks of.
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: Option<String>,
    /// When its status last changed.
    pub last_transition_time: Option<Timestamp>,
}

/// The types of conditions that can tell an end.
const ENDS: [&str; 3] = ["Complete", "Failed", "Succeeded"];

/// Any of the objects that a run object's status is made of, its fields as they are written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire<'a> {
    #[serde(borrow)]
    phase: Option<&'a RawValue>,
    #[serde(borrow)]
    conditions: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_time: Option<&'a RawValue>,
    #[serde(borrow)]
    finished_at: Option<&'a RawValue>,
    #[serde(borrow)]
    container_statuses: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    terminated: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    type_: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    last_transition_time: Option<&'a RawValue>,
}

impl RunObjectStatus {
    /// Reads the text of a `status`, each field by itself. Nothing is held but what can tell an end.
    pub fn read(text: &str) -> Self {
        let wire: Wire<'_> = serde_json::from_str(text).unwrap_or_default();
        let mut status = Self {
            phase: lenient(wire.phase),
            completion_time: lenient(wire.completion_time),
            finished_at: lenient(wire.finished_at),
            ..Self::default()
        };
        each(wire.conditions, |entry| status.hear(&entry));
        each(wire.container_statuses, |container| {
            let state: Wire<'_> = lenient(container.state).unwrap_or_default();
            let end: Wire<'_> = lenient(state.terminated).unwrap_or_default();
            status.last_container = status.last_container.max(lenient(end.finished_at));
        });
        status
    }

    fn hear(&mut self, entry: &Wire<'_>) {
        let (Some(type_), Some(status)) = (lenient::<String>(entry.type_), lenient::<String>(entry.status)) else {
            return;
        };
        let tells = ENDS.contains(&&*type_) && ["True", "False"].contains(&&*status);
        if tells && condition(self, &type_, &status).is_none() {
            self.conditions.push(RunObjectCondition {
                type_,
                status,
                reason: lenient(entry.reason),
                last_transition_time: lenient(entry.last_transition_time),
            });
        }
    }
}

/// Reads a field that other kinds may use for something else.
fn lenient<'a, T: Deserialize<'a>>(field: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(field?.get()).ok()
}

/// Hands on each object of a list, one after the other; what is no object has no fields, and what is no list no objects.
fn each<'a>(list: Option<&'a RawValue>, act: impl FnMut(Wire<'a>)) {
    struct Each<F>(F);

    impl<'a, F: FnMut(Wire<'a>)> Visitor<'a> for Each<F> {
        type Value = ();

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut access: A) -> Result<(), A::Error> {
            while let Some(entry) = access.next_element::<&RawValue>()? {
                (self.0)(lenient(Some(entry)).unwrap_or_default());
            }
            Ok(())
        }
    }

    if let Some(list) = list {
        let mut reader = serde_json::Deserializer::from_str(list.get());
        let _no_list = reader.deserialize_seq(Each(act)); // it tells nothing
    }
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
    let told = status.last_container.or(status.completion_time).or(status.finished_at);
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
