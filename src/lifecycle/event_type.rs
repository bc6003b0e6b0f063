//! Which type the Event has that tells of a transition of a lease: one rule for all reasons. A Warning is for what a person has to
//! look at; what passes by itself within seconds as a rule is Normal, and becomes a Warning once it has lasted.

use crate::api::{LeasePhase, Reason};

/// What becomes of the Events of a claim that waits, by its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nobody has to do anything, however long it takes: one Normal Event.
    Ordinary,
    /// Objects that are made together come in any order: a Normal Event, and a Warning once it has lasted.
    Passing,
    /// A person has to look: a Warning at once.
    Lasting,
}

/// How a reason to wait is told.
pub const fn wait(reason: Reason) -> Wait {
    match reason {
        Reason::CapacityFull => Wait::Ordinary,
        Reason::EnvironmentNotFound
        | Reason::EnvironmentNotActive
        | Reason::RunNotFound
        | Reason::ReferenceNotFound
        | Reason::CompanyNotFound => Wait::Passing,
        _ => Wait::Lasting,
    }
}

/// Whether the Event of a transition to this phase is a Warning.
pub fn is_warning(phase: LeasePhase, reason: Reason) -> bool {
    let good = [
        Reason::Granted,
        Reason::RunFinished,
        Reason::ReleaseRequested,
        Reason::LeaseDeleted,
        Reason::RunCancelled,
    ];
    match phase {
        LeasePhase::Pending => wait(reason) == Wait::Lasting,
        _ => !good.contains(&reason),
    }
}
