//! Why a lease ends: each cause with the status, the reason and the sentence that it gives.

use super::{LeaseState, RunOutcome};
use crate::api::{LeasePolicy, Reason};

/// How a lease ends: what its row and its object will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The status that the row is left in.
    pub state: LeaseState,
    /// The cause, as one word.
    pub reason: Reason,
    /// The cause, as a sentence.
    pub message: String,
}

/// Something that ends a lease that is held. Which of several visible causes wins is [`super::lease::decide`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The run came to an end of its own.
    RunOver(RunOutcome),
    /// `spec.release` was set.
    ReleaseRequested,
    /// The lease object was deleted, or its Namespace is terminating.
    LeaseDeleted,
    /// The environment's object was deleted (never said of a Local, which belongs to the company).
    EnvironmentDeleted,
    /// The run's row or object is gone, and nobody saw how it ended.
    RunGone,
    /// `expiresAt` has passed by the database's clock.
    TtlExpired,
    /// No heartbeat came for `spec.heartbeatTimeoutSeconds`.
    HeartbeatMissed,
}

impl Cause {
    /// The ending that this cause gives.
    ///
    /// `run` is how messages call the run (`job/x`, `run/1a2b3c4d`), `environment` the environment's name.
    pub fn ending(self, policy: LeasePolicy, run: Option<&str>, environment: &str) -> Ending {
        let run = run.unwrap_or("the run");
        let (state, reason, message) = match self {
            Self::RunOver(outcome) => {
                let (state, reason) = match outcome {
                    RunOutcome::Succeeded | RunOutcome::Interrupted => (LeaseState::Released, Reason::RunFinished),
                    RunOutcome::Failed | RunOutcome::TimedOut if policy == LeasePolicy::RetainOnFailure => {
                        (LeaseState::Retained, Reason::RunFailed)
                    }
                    RunOutcome::Failed | RunOutcome::TimedOut => (LeaseState::Failed, Reason::RunFailed),
                    RunOutcome::Cancelled => (LeaseState::Expired, Reason::RunCancelled),
                };
                (state, reason, format!("{run} {}", outcome.as_verb()))
            }
            Self::ReleaseRequested => (
                LeaseState::Released,
                Reason::ReleaseRequested,
                "spec.release was set".to_owned(),
            ),
            Self::LeaseDeleted => (
                LeaseState::Released,
                Reason::LeaseDeleted,
                "the lease object was deleted".to_owned(),
            ),
            Self::EnvironmentDeleted => (
                LeaseState::Failed,
                Reason::EnvironmentDeleted,
                format!("environment {environment} was deleted"),
            ),
            Self::RunGone => (
                LeaseState::Expired,
                Reason::RunGone,
                format!("{run} is gone, and its outcome was not seen"),
            ),
            Self::TtlExpired => (
                LeaseState::Expired,
                Reason::TtlExpired,
                "the time of spec.ttlSeconds has passed".to_owned(),
            ),
            Self::HeartbeatMissed => (
                LeaseState::Expired,
                Reason::HeartbeatMissed,
                "no heartbeat came within spec.heartbeatTimeoutSeconds".to_owned(),
            ),
        };
        Ending { state, reason, message }
    }
}
