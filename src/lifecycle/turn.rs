//! The order in which claims are served where an environment admits only so many leases.

use jiff::Timestamp;
use uuid::Uuid;

/// A claim's place among others, compared field by field: the smaller one is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// `metadata.creationTimestamp`, in whole seconds.
    pub created_at: Timestamp,
    /// Of claims of one second: rises with each event that this process has seen; those of one list share a number.
    pub seen: u64,
    /// uid of the object.
    pub id: Uuid,
}
