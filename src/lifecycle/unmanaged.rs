//! The one decision about an unmanaged lease: a row that never had an object, made by a Paperclip server or by hand.
//!
//! Nobody watches over it here, so only the sweep ends it, and only once a cause has stood for a grace: whoever made the row
//! had time enough to end it himself. Its ending has the same status and reason as an own lease's.

use std::time::Duration;

use super::ending::{Cause, Ending};
use super::{LeaseState, RunOutcome};
use crate::api::{Driver, LeasePolicy};

/// What the database shows of one unmanaged lease; every length of time is by the database's clock.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Status of the row: what is neither active nor retained has ended, and stays so.
    pub state: LeaseState,
    pub run: Run,
    /// How long ago it was last used.
    pub unused_for: Duration,
    /// How long ago its `expires_at` passed; `None`: it has none, or it is to come.
    pub expired_for: Option<Duration>,
    /// The driver that its maker has noted, else its environment's.
    pub driver: Driver,
    pub policy: LeasePolicy,
    /// How messages call the run.
    pub run_display: Option<String>,
    /// The environment's name.
    pub environment_display: String,
}

/// What the database shows of an unmanaged lease's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It may still run.
    Live,
    /// It has been over for so long.
    Over(RunOutcome, Duration),
    /// The row names none: it never did, or its run was deleted, which looks the same. As good: it names one that is not there.
    Missing,
}

/// What this installation may do about unmanaged leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// It may end them; else it only reports them.
    pub ends: bool,
    /// An origin's server tears down what sandboxes and plugins hold, and has to find their leases for that.
    pub origin_cleans_up: bool,
    /// How long a cause must have stood.
    pub grace: Duration,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: no cause has stood for the grace, or it has ended.
    Leave,
    /// It would end so, and it is not for this installation to do it.
    Report(Ending),
    /// End the row.
    End {
        /// How.
        ending: Ending,
        /// What must still be so when the row is written.
        only_if: Condition,
        /// Nobody is left who could tear down what the lease holds: the row's `cleanup_status` says `failed`.
        cleanup_failed: bool,
    },
}

/// What the UPDATE judges again under the row's lock, for its maker may use the lease meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A run that is over does not come back.
    None,
    /// `expires_at` has passed.
    Expired,
    /// It has not been used for the grace.
    Unused,
}

/// Decides about one unmanaged lease.
pub fn decide(facts: &Facts, rules: &Rules) -> Decision {
    let Some((cause, only_if)) = cause(facts, rules.grace) else {
        return Decision::Leave;
    };
    let mut ending = cause.ending(facts.policy, facts.run_display.as_deref(), &facts.environment_display);
    match cause {
        Cause::RunGone => {
            ending.message = "it names no run, or its run was deleted, and it was not used since".to_owned()
        }
        Cause::TtlExpired => ending.message = "its expires_at has passed".to_owned(),
        _ => {}
    }
    let remote = matches!(facts.driver, Driver::Sandbox | Driver::Plugin);
    if remote && !rules.origin_cleans_up {
        ending.state = LeaseState::Failed;
    }
    if !rules.ends || (remote && rules.origin_cleans_up) {
        return Decision::Report(ending);
    }
    Decision::End {
        ending,
        only_if,
        cleanup_failed: remote,
    }
}

/// The first visible cause in order of precedence, if any of them has stood for the grace. For a retained lease its run no
/// longer counts. That a row names no run is legal, so that becomes a cause only by the grace itself.
fn cause(facts: &Facts, grace: Duration) -> Option<(Cause, Condition)> {
    let by_run = match (facts.state, facts.run) {
        (LeaseState::Active, Run::Over(outcome, since)) => Some((Cause::RunOver(outcome), Condition::None, since)),
        (LeaseState::Active, Run::Missing) if facts.unused_for >= grace => {
            Some((Cause::RunGone, Condition::Unused, facts.unused_for))
        }
        (LeaseState::Active, Run::Missing | Run::Live) | (LeaseState::Retained, _) => None,
        _ => return None,
    };
    let by_time = facts
        .expired_for
        .map(|since| (Cause::TtlExpired, Condition::Expired, since));
    let visible = [by_run, by_time].into_iter().flatten();
    let stood = visible.clone().any(|(_, _, since)| since >= grace);
    let (cause, only_if, _) = visible.into_iter().next().filter(|_| stood)?;
    Some((cause, only_if))
}

#[cfg(test)]
mod tests;
