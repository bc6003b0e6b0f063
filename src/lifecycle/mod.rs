//! Every decision about environments and leases, pure: no I/O, no clock, no async.
//!
//! - [`vocabulary`]: the closed sets of the Paperclip server's tables
//! - [`run`]: when a run is over, and how it ended
//! - [`ending`]: why a lease ends, and which cause wins when several are visible
//! - [`capacity`]: whether a limited environment has a free lease
//! - [`lease`]: what to do with one lease, from all that is known about it
//! - [`unseen`]: what to do with a claim whose snapshot can't be read
//! - [`unmanaged`]: what to do with a lease that never had an object
//! - [`lease_status`], [`environment_status`]: what the objects show
//! - [`condition`]: how either of them writes a condition
//! - [`event_type`]: which of a lease's transitions need a person, and are Warnings
//! - [`removal`]: when the object of a finished lease has had its time
//! - [`Turn`]: in which order claims are served where not all can be
//! - [`resource_version`]: which of two versions of an object is the newer one

pub mod capacity;
mod condition;
pub mod ending;
pub mod environment_status;
pub mod event_type;
pub mod lease;
pub mod lease_status;
pub mod removal;
pub mod resource_version;
pub mod run;
mod turn;
pub mod unmanaged;
pub mod unseen;
mod vocabulary;

pub use ending::Ending;
pub use resource_version::ResourceVersion;
pub use run::{RunEnd, RunOutcome};
pub use turn::Turn;
pub use vocabulary::{EnvironmentState, LeaseState, RunStatus};
