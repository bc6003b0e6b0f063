//! The two kinds: their types, schema, validation rules, conditions and reasons. No I/O.

mod compact;
mod condition;
mod environment;
mod lease;
mod reason;
mod rules;
mod salvage;
mod schema;
#[cfg(test)]
mod tests;
mod timestamp;
mod validation;

pub use compact::{CompactObject, FREE_OBJECT_BYTES, FREE_OBJECT_DEPTH, Unfit};
pub use condition::{Condition, ConditionStatus, ConditionType};
pub use environment::{
    CanonicalRef, Driver, Environment, EnvironmentPhase, EnvironmentSpec, EnvironmentStatus, PluginSpec, Probe,
    SandboxSpec, SecretKeyRef, SshSpec,
};
pub use lease::{
    EnvironmentLease, EnvironmentLeaseSpec, EnvironmentLeaseStatus, EnvironmentRef, LeasePhase, LeasePolicy,
    LeasedEnvironment, LeasedRun, ObjectRef, RunRef,
};
pub use reason::Reason;
pub use salvage::{Part, Salvaged, cut, salvage};
pub use schema::{crd_yaml, crds, crds_yaml};
pub use timestamp::Timestamp;
pub use validation::{INDEXED_TEXT_BYTES, validate, validate_lease};

/// API group of both kinds.
pub const GROUP: &str = "paperclip.ing";

/// API version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// Label of a Namespace that names its company (a uuid). Without it the Namespace's uid is the company.
pub const COMPANY_LABEL: &str = "paperclip.ing/company-id";

/// Annotation of a lease whose every change is a heartbeat.
pub const RENEW_TIME_ANNOTATION: &str = "paperclip.ing/renew-time";

/// Annotation of a Local object that the operator has made: which of its recorded intents the object fulfils. It only leads to
/// the record; on an object that a user has made it says nothing.
pub const LOCAL_INTENT_ANNOTATION: &str = "paperclip.ing/local-intent";

/// The largest integer that every JSON reader keeps (2^53 - 1): the bound of 64-bit numbers in the schema.
const LARGEST_INTEGER: i64 = 9_007_199_254_740_991;

/// A free JSON object: kept as it is, at most 64 members (schema) and 32 KiB (operator).
pub type FreeObject = serde_json::Map<String, serde_json::Value>;
