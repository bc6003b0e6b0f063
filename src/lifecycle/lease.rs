//! The one decision about a lease: from all that is known about it to what has to be done.
//!
//! Every way of noticing (a notification, a watch, a deadline, the sweep, a restart) ends here, with facts gathered afresh.
//! The decision is a function of the facts alone; so it does not matter in which order, how often or by whom they were noticed.

mod proof;

pub use proof::Proof;

use super::capacity::Capacity;
use super::ending::{Cause, Ending};
use super::{LeaseState, RunOutcome};
use crate::api::{LeasePolicy, Reason};

/// All that is known about one lease at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What is known of the object.
    pub object: Object,
    /// What the database holds.
    pub row: Row,
    /// The run that the lease is for.
    pub run: Run,
    /// The environment: of the row where there is one, else the one that the claim chooses.
    pub environment: Environment,
    /// Whether the Namespace is being deleted.
    pub namespace_terminating: bool,
    /// What stands between the claim and a grant besides run and environment.
    pub obstacle: Option<Obstacle>,
    /// Whether the environment has room for the claim.
    pub capacity: Capacity,
    pub policy: LeasePolicy,
    /// How messages call the run: `job/x`, `run/1a2b3c4d`.
    pub run_display: Option<String>,
    /// How a claim calls the run that it names and that is not there: by all that its spec says of it.
    pub run_named: Option<String>,
    /// The environment's name, for messages: the row's, else the one in the spec.
    pub environment_display: String,
    /// Whether `expiresAt` has passed (a hint: the UPDATE judges again by the database's clock).
    pub expired: bool,
    /// Whether no heartbeat came for `heartbeatTimeoutSeconds` in which one could have been heard.
    pub heartbeat_missed: bool,
    /// Whether the claim's `acquireTimeoutSeconds` has passed since its creation, by the database's clock.
    pub acquire_timed_out: bool,
}

/// What is known of the lease object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// It is there.
    Present {
        release: bool,
        /// It carries a deletion timestamp (somebody else's finalizer holds it).
        deleting: bool,
        /// The ending that its status shows already.
        shown: Option<Ending>,
    },
    /// It was seen to be deleted.
    Deleted,
    /// Nothing is known: the row is ours, but no watch has shown the object (its Namespace is not watched any more).
    Unseen,
}

/// What the database holds of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// There never was a row: the claim was not granted.
    Never,
    /// The row is there.
    Present {
        state: LeaseState,
        /// The ending that the operator has recorded, if any.
        recorded: Option<Ending>,
    },
    /// There was a row, and somebody else deleted it.
    Deleted {
        /// The ending that the operator had recorded, if any.
        recorded: Option<Ending>,
    },
    /// The object shows that there was a row, and the database has never had it: it is an older state of itself (a backup).
    Lost,
}

/// What is known of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The lease names none.
    None,
    /// It may still run.
    Live,
    Over(RunOutcome),
    /// It was there, or its uid was given, and it is certainly not there any more.
    Gone,
    /// It is not there (yet), as far as the claim's own company or namespace goes.
    NotFound,
    /// Nothing can be said at the moment.
    Unknown,
}

/// What is known of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Grants leases.
    Active,
    /// Its row is archived.
    Archived,
    /// Its object was deleted (never a Local).
    Deleted,
    /// The object is there, and the row is not (yet), or is archived although the object is not.
    NotMirrored,
    /// No such object in the lease's namespace.
    NotFound,
    /// The company has no Local yet: it is to be made.
    LocalMissing,
    /// It is an agent's default environment, and the agent, or the run that tells which, is not there (yet).
    Unsettled,
}

/// What stands between a claim and a grant besides run and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// May go away by itself: the claim waits.
    Waits(Reason, String),
    /// Never goes away: the claim has failed.
    Refuses(Reason, String),
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make the company's Local, then look again.
    MakeLocal,
    /// Grant: write the row.
    Grant,
    /// The claim waits, for this reason.
    Wait(Reason, String),
    /// The claim has failed and never becomes a lease.
    Refuse(Reason, String),
    /// The lease is held: keep row and object in step.
    Hold,
    /// End the row.
    End(Ending),
    /// The row is ended: the object follows. `record` says that the ending is another writer's and not recorded yet.
    Follow {
        /// What row and object say.
        ending: Ending,
        /// The ending has still to be recorded in the operator's own table.
        record: bool,
    },
    /// The object is gone and nothing is left to end: forget it.
    Forget,
    /// Nothing: it is as it should be, or more has to be known first.
    Nothing,
}

impl Decision {
    /// Whether it leaves a claim a claim, for the time being.
    pub const fn is_of_claim(&self) -> bool {
        match self {
            Self::MakeLocal | Self::Grant | Self::Wait(..) | Self::Nothing => true,
            Self::Refuse(..) | Self::Hold | Self::End(_) | Self::Follow { .. } | Self::Forget => false,
        }
    }
}

/// Decides about one lease.
pub fn decide(facts: &Facts) -> Decision {
    match &facts.row {
        Row::Never => decide_claim(facts),
        Row::Present {
            state: state @ (LeaseState::Active | LeaseState::Retained),
            recorded,
        } => match for_good(recorded).or(shown(facts)) {
            // Another writer (or an old backup) has set an ended lease back to active: it ends again as it ended.
            Some(ending) => Decision::End(as_written(ending)),
            None => decide_held(facts, *state, recorded.as_ref()),
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

/// A lease that is held goes on until a cause is visible. One that another writer has retained is recorded as that, and one
/// that was retained and is set back to active is retained again.
fn decide_held(facts: &Facts, state: LeaseState, retained: Option<&Ending>) -> Decision {
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

/// A claim is granted as soon as nothing stands against it; what can't change refuses it, what may change makes it wait.
fn decide_claim(facts: &Facts) -> Decision {
    let Object::Present {
        release,
        deleting,
        shown,
    } = &facts.object
    else {
        return Decision::Forget; // it never was a lease
    };
    if shown.is_some() {
        return Decision::Nothing; // an ended object stays as it is
    }
    // Neither is ever taken back. Somebody's finalizer may keep the object for as long as it likes.
    if facts.namespace_terminating {
        return Decision::Refuse(Reason::LeaseDeleted, "the namespace is being deleted".to_owned());
    }
    if *deleting {
        return Decision::Refuse(Reason::LeaseDeleted, "the lease object is being deleted".to_owned());
    }
    if *release {
        return Decision::Refuse(
            Reason::ReleaseRequested,
            "spec.release was set before the lease was granted".to_owned(),
        );
    }
    let run = facts.run_display.as_deref().unwrap_or("the run");
    let named = facts.run_named.as_deref().unwrap_or(run);
    let environment = &facts.environment_display;
    match (&facts.obstacle, facts.run, facts.environment) {
        (Some(Obstacle::Refuses(reason, message)), _, _) => Decision::Refuse(*reason, message.clone()),
        (_, Run::Over(outcome), _) => Decision::Refuse(
            Reason::RunAlreadyFinished,
            format!("{run} {} before the lease was granted", outcome.as_verb()),
        ),
        (_, Run::Gone, _) => Decision::Refuse(Reason::RunGone, format!("{named} is gone")),
        (_, _, Environment::Archived) => Decision::Refuse(
            Reason::EnvironmentArchived,
            format!("Environment \"{environment}\" is not active."),
        ),
        (Some(Obstacle::Waits(reason, message)), _, _) => wait(facts, *reason, message.clone()),
        (None, Run::NotFound, _) => wait(facts, Reason::RunNotFound, format!("{named} does not exist (yet)")),
        (None, _, Environment::NotFound | Environment::Deleted) => wait(
            facts,
            Reason::EnvironmentNotFound,
            format!("environment {environment} does not exist (yet) in this namespace"),
        ),
        (None, _, Environment::NotMirrored) => wait(
            facts,
            Reason::EnvironmentNotActive,
            format!("environment {environment} is not in the database yet, or not as its spec says"),
        ),
        (None, Run::Unknown, _) => wait(
            facts,
            Reason::RunNotFound,
            format!("{named} can't be looked at at the moment"),
        ),
        (None, _, Environment::Unsettled) => wait(
            facts,
            Reason::EnvironmentNotFound,
            "the agent whose default environment counts does not exist (yet)".to_owned(),
        ),
        (None, _, Environment::LocalMissing) => Decision::MakeLocal,
        (None, _, Environment::Active) => match &facts.capacity {
            Capacity::Free => Decision::Grant,
            Capacity::InDoubt => wait(
                facts,
                Reason::CapacityFull,
                "claims that came earlier are looked at first".to_owned(),
            ),
            Capacity::Full(message) => wait(facts, Reason::CapacityFull, message.clone()),
        },
    }
}

/// The decision after the database has refused a grant: under its locks it may have seen more than the facts. None: look and
/// decide again.
pub fn refused_by_database(facts: &Facts, reason: Reason, message: String) -> Option<Decision> {
    match reason {
        Reason::RunAlreadyFinished | Reason::AgentMismatch | Reason::InvalidSpec => {
            Some(Decision::Refuse(reason, message))
        }
        // The row alone doesn't tell why: its user may have archived it, for good, or its object was deleted and comes back.
        Reason::EnvironmentArchived | Reason::EnvironmentNotFound => None,
        _ => Some(wait(facts, reason, message)),
    }
}

/// The decision after the company's Local was refused: the claim waits for another Namespace of the company to have it, or
/// for its own to let it in, and is tried once at least before its time is out.
pub fn local_refused(facts: &Facts, message: &str) -> Decision {
    let message = format!("the company's Local can't be made in this namespace: {message}");
    wait(facts, Reason::EnvironmentNotActive, message)
}

/// The decision about a claim that could not be carried out for now: it waits, and times out like any other.
pub fn put_off(facts: &Facts, reason: Reason, message: String) -> Decision {
    wait(facts, reason, message)
}

/// Whether a claim waits for what passes by itself within a moment as a rule.
pub fn waits_for_a_moment(facts: &Facts) -> bool {
    facts.obstacle.is_none()
        && (facts.run == Run::Unknown
            || facts.environment == Environment::Unsettled
            || facts.capacity == Capacity::InDoubt)
}

fn wait(facts: &Facts, reason: Reason, message: String) -> Decision {
    if facts.acquire_timed_out {
        return Decision::Refuse(Reason::AcquireTimedOut, timed_out(&message));
    }
    Decision::Wait(reason, message)
}

/// The sentence of a claim whose time is out, with its last obstacle.
pub(super) fn timed_out(last: &str) -> String {
    format!("not granted within spec.acquireTimeoutSeconds; last: {last}")
}

#[cfg(test)]
mod tests;
