//! The lease as the watches know it, before the database is asked.

use std::sync::Arc;

use uuid::Uuid;

use crate::cache::Looked;
use crate::cache::object::LeaseObject;
use crate::store::lease_object::EnvironmentChoice;

/// The lease as the watches know it.
#[derive(Clone, Debug)]
pub struct ObservedLease {
    /// uid of the object.
    pub id: Uuid,
    /// The object: as it is, or as it was before its deletion.
    pub object: Option<Arc<LeaseObject>>,
    /// It was seen to be deleted.
    pub deleted: bool,
    /// The leadership in which it was looked up: what is found out about it counts in no other.
    pub term: u64,
}

impl ObservedLease {
    /// Which lease was looked at, and in which leadership.
    pub const fn looked(&self) -> Looked {
        Looked {
            id: self.id,
            term: self.term,
        }
    }

    /// The object, where it is there.
    pub fn present(&self) -> Option<&LeaseObject> {
        self.object.as_deref().filter(|_| !self.deleted)
    }
}

/// What was known of a lease's environment before the database was asked.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The environment that a claim names; none where it names one that is not there.
    pub environment: Option<EnvironmentChoice>,
    /// Whether the environment that the lease shows is gone.
    pub was_gone: bool,
}
