//! All that is known about one lease.

use crate::api::{LeasePolicy, Reason};
use crate::lifecycle::capacity::Capacity;
use crate::lifecycle::{Ending, LeaseState, RunOutcome};

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
