//! `environments`: the places where runs may execute.

mod archive;
mod local;
mod read;
mod request;
mod sync;

pub use archive::{Archive, ArchiveOutcome};
pub use local::ensure_local;
pub use read::{list, read};
pub use request::{EnvironmentOutcome, EnvironmentSync};

pub use super::environment_row::EnvironmentRow;
