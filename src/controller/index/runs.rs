//! Run objects: where they are found, and what is known of them.

use uuid::Uuid;

use crate::api::ObjectRef;
use crate::lifecycle::RunOutcome;

/// Where a run object is found. The version is left out: one object may be read through several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace: always the lease's own.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl RunKey {
    /// The object that a lease in `namespace` names.
    pub fn of(namespace: &str, reference: &ObjectRef) -> Self {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        Self {
            group: group.to_owned(),
            kind: reference.kind.clone(),
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
        }
    }
}

/// What the index knows of a run object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownRun {
    /// It is there.
    Present {
        /// Its uid.
        uid: Uuid,
        /// How it ended, once it has.
        outcome: Option<RunOutcome>,
    },
    /// The one with the pinned uid was seen to vanish; this is the last outcome seen.
    Vanished(Option<RunOutcome>),
    /// No event told of it.
    Unknown,
}
