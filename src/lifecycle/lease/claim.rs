//! The decisions about a claim, which has no row yet.

use super::decision::Decision;
use super::facts::{Environment, Facts, Object, Obstacle, Run};
use crate::api::Reason;
use crate::lifecycle::capacity::Capacity;

/// A claim is granted as soon as nothing stands against it; what can't change refuses it, what may change makes it wait.
pub(super) fn decide_claim(facts: &Facts) -> Decision {
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
    if let Some((reason, message)) = never(facts, *deleting, *release) {
        return Decision::Refuse(reason, message);
    }
    if let Some((reason, message)) = not_yet(facts) {
        return wait(facts, reason, message);
    }
    match &facts.capacity {
        _ if facts.environment == Environment::LocalMissing => Decision::MakeLocal,
        Capacity::Free => Decision::Grant,
        Capacity::InDoubt => wait(
            facts,
            Reason::CapacityFull,
            "claims that came earlier are looked at first".to_owned(),
        ),
        Capacity::Full(message) => wait(facts, Reason::CapacityFull, message.clone()),
    }
}

/// What stands against the claim and never goes away.
fn never(facts: &Facts, deleting: bool, release: bool) -> Option<(Reason, String)> {
    // None of these three is ever taken back. Somebody's finalizer may keep the object for as long as it likes.
    if facts.namespace_terminating {
        return Some((Reason::LeaseDeleted, "the namespace is being deleted".to_owned()));
    }
    if deleting {
        return Some((Reason::LeaseDeleted, "the lease object is being deleted".to_owned()));
    }
    if release {
        let message = "spec.release was set before the lease was granted".to_owned();
        return Some((Reason::ReleaseRequested, message));
    }
    if let Some(Obstacle::Refuses(reason, message)) = &facts.obstacle {
        return Some((*reason, message.clone()));
    }
    match (facts.run, facts.environment) {
        (Run::Over(outcome), _) => {
            let message = format!("{} {} before the lease was granted", run(facts), outcome.as_verb());
            Some((Reason::RunAlreadyFinished, message))
        }
        (Run::Gone, _) => Some((Reason::RunGone, format!("{} is gone", named_run(facts)))),
        (_, Environment::Archived) => {
            let message = format!("Environment \"{}\" is not active.", facts.environment_display);
            Some((Reason::EnvironmentArchived, message))
        }
        _ => None,
    }
}

/// What stands against the claim besides the room there is, and may go away by itself.
fn not_yet(facts: &Facts) -> Option<(Reason, String)> {
    if let Some(Obstacle::Waits(reason, message)) = &facts.obstacle {
        return Some((*reason, message.clone()));
    }
    let environment = &facts.environment_display;
    match (facts.run, facts.environment) {
        (Run::NotFound, _) => Some((
            Reason::RunNotFound,
            format!("{} does not exist (yet)", named_run(facts)),
        )),
        (_, Environment::NotFound | Environment::Deleted) => Some((
            Reason::EnvironmentNotFound,
            format!("environment {environment} does not exist (yet) in this namespace"),
        )),
        (_, Environment::NotMirrored) => Some((
            Reason::EnvironmentNotActive,
            format!("environment {environment} is not in the database yet, or not as its spec says"),
        )),
        (Run::Unknown, _) => Some((
            Reason::RunNotFound,
            format!("{} can't be looked at at the moment", named_run(facts)),
        )),
        (_, Environment::Unsettled) => Some((
            Reason::EnvironmentNotFound,
            "the agent whose default environment counts does not exist (yet)".to_owned(),
        )),
        (
            Run::None | Run::Live | Run::Over(_) | Run::Gone,
            Environment::Active | Environment::Archived | Environment::LocalMissing,
        ) => None,
    }
}

/// How messages call the run.
fn run(facts: &Facts) -> &str {
    facts.run_display.as_deref().unwrap_or("the run")
}

/// How messages call a run that is not there.
fn named_run(facts: &Facts) -> &str {
    facts.run_named.as_deref().unwrap_or_else(|| run(facts))
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
pub(in crate::lifecycle) fn timed_out(last: &str) -> String {
    format!("not granted within spec.acquireTimeoutSeconds; last: {last}")
}
