//! The decision about a lease that is held.

use super::decision::Decision;
use super::facts::{Environment, Facts, Object, Run};
use super::{ended_by_another, follow};
use crate::lifecycle::ending::Cause;
use crate::lifecycle::{Ending, LeaseState};

/// A lease that is held goes on until a cause is visible. One that another writer has retained is recorded as that, and one
/// that was retained and is set back to active is retained again.
pub(super) fn decide_held(facts: &Facts, state: LeaseState, retained: Option<&Ending>) -> Decision {
    let counts_as = if retained.is_some() {
        LeaseState::Retained
    } else {
        state
    };
    match cause(facts, counts_as) {
        Some(cause) => {
            let mut ending = cause.ending(facts.policy, facts.run_display.as_deref(), &facts.environment_display);
            if facts.namespace_terminating && cause == Cause::LeaseDeleted {
                ending.message = "the namespace is being deleted".to_owned();
            }
            Decision::End(ending)
        }
        None => match (state, retained) {
            (LeaseState::Retained, None) => follow(facts, &ended_by_another(facts, state, false), true),
            (LeaseState::Active, Some(retained)) => Decision::End(retained.clone()),
            _ => Decision::Hold,
        },
    }
}

/// The first visible cause in order of precedence. For a retained lease neither its run nor its heartbeat counts.
fn cause(facts: &Facts, state: LeaseState) -> Option<Cause> {
    let retained = state == LeaseState::Retained;
    let (release, deleting) = match &facts.object {
        Object::Present { release, deleting, .. } => (*release, *deleting),
        Object::Deleted => (false, true),
        Object::Unseen => (false, false),
    };
    match facts.run {
        Run::Over(outcome) if !retained => Some(Cause::RunOver(outcome)),
        _ if release => Some(Cause::ReleaseRequested),
        _ if deleting || facts.namespace_terminating => Some(Cause::LeaseDeleted),
        _ if facts.environment == Environment::Deleted => Some(Cause::EnvironmentDeleted),
        Run::Gone | Run::NotFound if !retained => Some(Cause::RunGone),
        _ if facts.expired => Some(Cause::TtlExpired),
        _ if facts.heartbeat_missed && !retained => Some(Cause::HeartbeatMissed),
        _ => None,
    }
}
