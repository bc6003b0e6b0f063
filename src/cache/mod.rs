//! What the watches have shown: a synchronous cache of small structs, and which keys an event concerns.
//!
//! Absence here is never proof of a deletion: only a Deleted event, a relist or a live read is (I5).

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject};
use crate::cache::wait_queue::WaitQueue;
use crate::lifecycle::ResourceVersion;

mod claims;
mod environments;
mod heartbeats;
mod leases;
mod namespaces;
pub mod object;
pub mod object_counts;
mod objects;
mod priority;
mod runs;
mod shared;
pub mod wait_queue;
mod wakes;
mod wants;

pub use claims::{Limited, Looked};
use heartbeats::Heartbeats;
use leases::Reference;
pub use object_counts::ObjectCounts;
pub use objects::Objects;
pub use priority::{Class, Lane};
use runs::RunObjects;
pub use runs::{KnownRun, RunKey, RunKindState};
pub use shared::{Reading, SharedCache};
pub use wakes::Wakes;
pub use wants::Wants;

/// Something to be reconciled, by uid: another object under the same name is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Environment(Uuid),
    /// An EnvironmentLease.
    Lease(Uuid),
}

/// Everything that the watches have shown.
#[derive(Debug, Default)]
pub struct Cache {
    /// Namespaces by name.
    pub namespaces: HashMap<String, NamespaceObject>,
    pub environments: Objects<EnvironmentObject>,
    pub leases: Objects<LeaseObject>,
    runs: RunObjects,
    leases_by: HashMap<Reference, HashSet<Uuid>>,
    /// What each lease refers to, gone ones among them until they are forgotten.
    references: HashMap<Uuid, Vec<Reference>>,
    environments_by_row: HashMap<Uuid, HashSet<Uuid>>,
    namespaces_of_company: HashMap<Uuid, HashSet<String>>,
    /// Leases whose ended row was found rewritten: said once.
    rewritten: HashSet<Uuid>,
    /// The Namespace (uid) that a read has shown a claim to be in: it is in no other as long as it lives.
    pub namespaces_of_claims: HashMap<Uuid, Uuid>,
    /// Claims, and who of them waits for room.
    pub wait_queue: WaitQueue,
    term: u64,
    /// Objects of which nothing is known but that a complete list did not hold them.
    missed_deletions: HashSet<Key>,
    heartbeats: Heartbeats,
    /// Nonces of the Locals that are being made at the moment.
    locals_in_the_making: HashSet<Uuid>,
    lease_lists: Lists,
    environment_lists: Lists,
}

/// The version of the last complete list, by the Namespace that was listed (none: all).
pub type Lists = HashMap<Option<String>, ResourceVersion>;

impl Cache {
    /// Whether anything is known of what a key stands for.
    pub fn knows(&self, key: Key) -> bool {
        let known = match key {
            Key::Lease(uid) => self.leases.get(uid).or(self.leases.gone(uid)).is_some(),
            Key::Environment(uid) => self.environments.get(uid).or(self.environments.gone(uid)).is_some(),
        };
        known || self.missed_deletions.contains(&key)
    }

    /// The version of an object that is there.
    pub fn version(&self, key: Key) -> Option<&ResourceVersion> {
        let meta = match key {
            Key::Lease(uid) => self.leases.get(uid).map(|lease| &lease.meta),
            Key::Environment(uid) => self.environments.get(uid).map(|environment| &environment.meta),
        };
        meta.map(|meta| &meta.resource_version)
    }

    /// A complete list did not hold this object, of which a row tells.
    pub fn note_missed_deletion(&mut self, key: Key) -> Wakes {
        let known = match key {
            Key::Lease(uid) => self.leases.get(uid).is_some(),
            Key::Environment(uid) => self.environments.get(uid).is_some(),
        };
        if !known {
            self.missed_deletions.insert(key);
        }
        Wakes::of([key])
    }

    /// Whether a complete list has shown that this object is gone.
    pub fn is_missed_deletion(&self, key: Key) -> bool {
        self.missed_deletions.contains(&key)
    }
}

/// The name under which the operator makes a company's Local, and under which a lease may ask for it.
pub const LOCAL_NAME: &str = "local";

#[cfg(test)]
impl Cache {
    /// How much is remembered, by what for: each has its row in docs/invariants.md.
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let [leases, gone_leases] = self.leases.sizes();
        let [environments, gone_environments] = self.environments.sizes();
        let referred: usize = self.leases_by.values().map(HashSet::len).sum();
        let of_company: usize = self.namespaces_of_company.values().map(HashSet::len).sum();
        vec![
            ("cache: namespaces", self.namespaces.len() + of_company),
            ("cache: environments", environments),
            ("cache: deleted environments", gone_environments),
            ("cache: rows of environments", self.environments_by_row.len()),
            ("cache: leases", leases),
            ("cache: deleted leases", gone_leases),
            ("cache: references", referred + self.references.len()),
            ("cache: run objects", self.runs.size()),
            (
                "cache: vanished run objects",
                self.runs.vanished.values().map(Vec::len).sum(),
            ),
            ("cache: namespaces of claims", self.namespaces_of_claims.len()),
            ("cache: rewritten leases", self.rewritten.len()),
            ("cache: missed deletions", self.missed_deletions.len()),
            ("cache: heartbeats", self.heartbeats.size()),
            ("cache: locals in the making", self.locals_in_the_making.len()),
            ("wait queue: claims", self.wait_queue.size()),
        ]
    }
}

#[cfg(test)]
mod tests;
