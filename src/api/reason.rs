//! The closed set of reasons: the same word in condition, Event, activity row and metric.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// Why something is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum Reason {
    /// A lease ended: its run succeeded, or was interrupted and may be taken up by another run.
    RunFinished,
    /// A lease ended, or is retained: its run failed or took too long.
    RunFailed,
    /// A lease ended: its run was cancelled.
    RunCancelled,
    /// A lease ended: `spec.release` was set.
    ReleaseRequested,
    /// A lease ended, or a claim was refused: its object was deleted, or its Namespace is terminating.
    LeaseDeleted,
    /// A lease ended: its Environment was deleted.
    EnvironmentDeleted,
    /// A lease ended: the row or the object of its run is gone, or another object has its name. Also a claim that
    /// named a run object by uid which is not there.
    RunGone,
    /// A lease ended: `status.expiresAt` passed.
    TtlExpired,
    /// A lease ended: the annotation `paperclip.ing/renew-time` did not change for `spec.heartbeatTimeoutSeconds`.
    HeartbeatMissed,
    /// A lease ended: another writer ended or deleted its row in the database.
    EndedInDatabase,
    /// A claim waits: no Environment of that name is in its namespace.
    EnvironmentNotFound,
    /// A claim waits: the Environment exists and has no row in the database yet.
    EnvironmentNotActive,
    /// A claim waits: the run is not there (yet).
    RunNotFound,
    /// A claim waits: the company has no such agent, issue or execution workspace.
    ReferenceNotFound,
    /// A claim waits: the Environment holds as many leases as `spec.maxActiveLeases` admits.
    CapacityFull,
    /// The Namespace's company label was changed after the company of its first object was recorded.
    CompanyChanged,
    /// The Namespace's company label is malformed, or its company is gone from the database.
    CompanyNotFound,
    /// The database cannot be reached, or does not fit as it is: nothing is granted or ended until it is back or mended. Or it
    /// does not take this object's row at the moment: another transaction holds what it needs, or refuses it; the message
    /// says what was answered.
    StoreUnavailable,
    /// A claim was refused: it was not granted within `spec.acquireTimeoutSeconds`.
    AcquireTimedOut,
    /// A claim was refused: its run is over already.
    RunAlreadyFinished,
    /// A claim was refused: `spec.agentId` is not the agent of its run.
    AgentMismatch,
    /// The spec cannot be stored as it is; the message says what to change.
    InvalidSpec,
    /// A claim was refused: the Environment is archived.
    EnvironmentArchived,
    /// A lease is held.
    Granted,
    /// An Environment has no row in the database yet, or gets none because its Namespace is going. Also an object at which the
    /// operator fails, by a fault of its own.
    Waiting,
    /// An Environment is valid and mirrored.
    Ready,
    /// An object's row in the database agrees with it.
    Mirrored,
    /// An object's row was changed in the database into what its object does not say, where nothing is written again.
    ChangedInDatabase,
    /// An Environment is archived and grants nothing new.
    Archived,
    /// A Local Environment is the one that stands for its company's row.
    Canonical,
    /// A Local Environment stands beside the canonical one, to which its `status.canonicalRef` points.
    Duplicate,
}
