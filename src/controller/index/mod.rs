//! What the feeds have shown: a synchronous index of small structs, and which keys an event concerns.
//!
//! Absence here is never proof of a deletion: only a Deleted event, a relist or a live read is (I5).

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::line::Line;
use super::object::{EnvironmentObject, LeaseObject, NamespaceObject};
use crate::lifecycle::ResourceVersion;

mod census;
mod environments;
mod heartbeats;
mod leases;
mod namespaces;
mod objects;
mod runs;

use heartbeats::Heartbeats;
pub use heartbeats::Silence;
use leases::Reference;
pub use objects::Objects;
use runs::RunObjects;
pub use runs::{KnownRun, RunKey, RunKindState};

/// Something to be reconciled, by uid: another object under the same name is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An Environment.
    Environment(Uuid),
    /// An EnvironmentLease.
    Lease(Uuid),
}

/// Everything that the feeds have shown.
#[derive(Debug, Default)]
pub struct Index {
    /// Namespaces by name.
    pub namespaces: HashMap<String, NamespaceObject>,
    /// Environments.
    pub environments: Objects<EnvironmentObject>,
    /// Leases.
    pub leases: Objects<LeaseObject>,
    runs: RunObjects,
    leases_by: HashMap<Reference, HashSet<Uuid>>,
    environments_by_row: HashMap<Uuid, HashSet<Uuid>>,
    waiting: HashSet<Uuid>,
    /// The Namespace (uid) that a read has shown a claim to be in: it is in no other as long as it lives.
    pub namespaces_of_claims: HashMap<Uuid, Uuid>,
    /// Claims, and who of them waits for room.
    pub line: Line,
    /// Objects of which nothing is known but that a complete list did not hold them.
    tombstones: HashSet<Key>,
    heartbeats: Heartbeats,
    /// Nonces of the Locals that are being made at the moment.
    locals_in_the_making: HashSet<Uuid>,
    lease_lists: Lists,
    environment_lists: Lists,
}

/// The version of the last complete list, by the Namespace that was listed (none: all).
pub type Lists = HashMap<Option<String>, ResourceVersion>;

impl Index {
    /// Everything that may have to be reconciled.
    pub fn keys(&self) -> Vec<Key> {
        let leases = self.leases.known().into_iter().map(Key::Lease);
        leases
            .chain(self.environments.known().into_iter().map(Key::Environment))
            .chain(self.tombstones.iter().copied())
            .collect()
    }

    /// A complete list did not hold this object, of which a row tells.
    pub fn bury(&mut self, key: Key) {
        let known = match key {
            Key::Lease(uid) => self.leases.get(uid).is_some(),
            Key::Environment(uid) => self.environments.get(uid).is_some(),
        };
        if !known {
            self.tombstones.insert(key);
        }
    }

    /// Whether a complete list has shown that this object is gone.
    pub fn is_tombstone(&self, key: Key) -> bool {
        self.tombstones.contains(&key)
    }
}

/// The name under which the operator makes a company's Local, and under which a lease may ask for it.
pub const LOCAL_NAME: &str = "local";

#[cfg(test)]
mod tests;
