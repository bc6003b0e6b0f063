//! The two kinds: their types, schema, validation rules, conditions and reasons. No I/O.

mod condition;
mod environment;
mod lease;
mod reason;
mod timestamp;

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
pub use timestamp::Timestamp;

/// API group of both kinds.
pub const GROUP: &str = "paperclip.ing";

/// API version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// Label of a Namespace that names its company (a uuid). Without it the Namespace's uid is the company.
pub const COMPANY_LABEL: &str = "paperclip.ing/company-id";

/// Annotation of a lease whose every change is a heartbeat.
pub const RENEW_TIME_ANNOTATION: &str = "paperclip.ing/renew-time";

/// A free JSON object: kept as it is, at most 64 members (schema) and 32 KiB (operator).
pub type FreeObject = serde_json::Map<String, serde_json::Value>;
