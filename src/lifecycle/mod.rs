//! Every decision about environments and leases, pure: no I/O, no clock, no async.

mod vocabulary;

pub use vocabulary::{EnvironmentState, LeaseState, RunStatus};
