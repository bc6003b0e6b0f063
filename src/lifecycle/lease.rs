//! The one decision about a lease: from all that is known about it to what has to be done.
//!
//! Every way of noticing (a notification, a watch, a deadline, the sweep, a restart) ends here, with facts gathered afresh.
//! The decision is a function of the facts alone; so it does not matter in which order, how often or by whom they were noticed.
//!
//! - [`facts`]: what is known
//! - [`decision`]: what may have to be done
//! - [`claim`]: the decision as long as there is no row
//! - [`held`]: the decision while the row is held
//! - [`proof`]: what has to be proven before it is carried out

use super::LeaseState;
use super::ending::{Cause, Ending};
use crate::api::Reason;

mod claim;
mod decision;
#[cfg(test)]
mod examples;
mod facts;
mod held;
mod proof;
#[cfg(test)]
mod tests;

pub(super) use claim::timed_out;
pub use claim::{local_refused, put_off, refused_by_database, waits_for_a_moment};
pub use decision::Decision;
pub use facts::{Environment, Facts, Object, Obstacle, Row, Run};
pub use proof::Proof;

/// Decides about one lease.
pub fn decide(facts: &Facts) -> Decision {
    match &facts.row {
        Row::Never => claim::decide_claim(facts),
        Row::Present {
            state: state @ (LeaseState::Active | LeaseState::Retained),
            recorded,
        } => match for_good(recorded).or(shown(facts)) {
            // Another writer (or an old backup) has set an ended lease back to active: it ends again as it ended.
            Some(ending) => Decision::End(as_written(ending)),
            None => held::decide_held(facts, *state, recorded.as_ref()),
        },
        Row::Present { state, recorded } => match for_good(recorded) {
            // What became of the cleanup follows the ending, which keeps its reason.
            Some(ending) if !ending.state.is_final() && state.is_final() => {
                follow(facts, &ended_as(ending, *state), true)
            }
            Some(ending) => follow(facts, ending, false),
            None => follow(facts, &ended_by_another(facts, *state, recorded.is_some()), true),
        },
        Row::Deleted { recorded } => match for_good(recorded) {
            // The row that would have told what became of the cleanup is gone.
            Some(ending) if !ending.state.is_final() => follow(facts, &as_written(ending), true),
            Some(ending) => follow(facts, ending, false),
            None => {
                let ending = Ending {
                    state: LeaseState::Expired,
                    reason: Reason::EndedInDatabase,
                    message: "its row was deleted in the database".to_owned(),
                };
                follow(facts, &ending, true)
            }
        },
        // A status says Active only after the row was committed (I1), and a row is inserted once. To grant again would be
        // to take whatever stands under the run's name now for the run that it was granted to.
        Row::Lost => {
            let ending = Ending {
                state: LeaseState::Expired,
                reason: Reason::EndedInDatabase,
                message: "its row is not in the database, which was restored to an earlier state".to_owned(),
            };
            follow(facts, &ending, false)
        }
    }
}

/// A recorded ending that nothing follows any more: a lease that is recorded as retained has yet to end.
fn for_good(recorded: &Option<Ending>) -> Option<&Ending> {
    recorded.as_ref().filter(|ending| ending.state != LeaseState::Retained)
}

/// An ending as it may be written: `pending_cleanup` is only ever read, for readers of older origins throw on it.
fn as_written(ending: &Ending) -> Ending {
    let state = match ending.state {
        LeaseState::PendingCleanup => LeaseState::Expired,
        state => state,
    };
    ended_as(ending, state)
}

/// The same ending with another status.
fn ended_as(ending: &Ending, state: LeaseState) -> Ending {
    Ending {
        state,
        ..ending.clone()
    }
}

fn shown(facts: &Facts) -> Option<&Ending> {
    match &facts.object {
        Object::Present { shown, .. } => shown.as_ref(),
        Object::Deleted | Object::Unseen => None,
    }
}

/// The row's status stands always; of a run that is over, its reason stands too, for that is why the other writer ended it.
/// Once the lease was retained its run no longer counts.
fn ended_by_another(facts: &Facts, state: LeaseState, was_retained: bool) -> Ending {
    match facts.run {
        Run::Over(outcome) if !was_retained => {
            let ending =
                Cause::RunOver(outcome).ending(facts.policy, facts.run_display.as_deref(), &facts.environment_display);
            Ending { state, ..ending }
        }
        _ => Ending {
            state,
            reason: Reason::EndedInDatabase,
            message: "its row was ended in the database".to_owned(),
        },
    }
}

fn follow(facts: &Facts, ending: &Ending, record: bool) -> Decision {
    match facts.object {
        Object::Deleted if !record => Decision::Forget,
        Object::Deleted | Object::Unseen | Object::Present { .. } => Decision::Follow {
            ending: ending.clone(),
            record,
        },
    }
}
