//! The closed set of reasons: the same word in condition, Event, activity row and metric.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why something is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    // A lease that ended.
    RunFinished,
    RunFailed,
    RunCancelled,
    ReleaseRequested,
    LeaseDeleted,
    EnvironmentDeleted,
    RunGone,
    TtlExpired,
    HeartbeatMissed,
    EndedInDatabase,
    // A claim that waits or is refused.
    EnvironmentNotFound,
    EnvironmentNotActive,
    RunNotFound,
    ReferenceNotFound,
    CapacityFull,
    CompanyChanged,
    CompanyNotFound,
    StoreUnavailable,
    AcquireTimedOut,
    RunAlreadyFinished,
    AgentMismatch,
    InvalidSpec,
    EnvironmentArchived,
    // A lease that is held.
    Granted,
    /// A claim that is new and has not been looked at.
    Waiting,
    // An environment.
    Ready,
    Mirrored,
    Archived,
    Canonical,
    Duplicate,
}
