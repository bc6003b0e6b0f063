//! What the feeds have shown: a synchronous index of small structs, and which keys an event concerns.
//!
//! Absence here is never proof of a deletion: only a Deleted event, a relist or a live read is (I5).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use super::line::Line;
use super::object::{EnvironmentObject, LeaseObject, NamespaceObject};
use crate::api::{EnvironmentLeaseStatus, LeasePhase};
use crate::lifecycle::ResourceVersion;
use crate::lifecycle::lease_status::shown_ending;

mod heartbeats;
mod objects;
mod runs;

use heartbeats::Heartbeats;
pub use heartbeats::Silence;
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

/// What a lease refers to, for finding it from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Reference {
    Namespace(String),
    HeartbeatRun(Uuid),
    RunObject(RunKey),
}

/// Whether an object shows neither a grant nor an end.
fn is_claim(lease: &LeaseObject) -> bool {
    let decided = |status: &EnvironmentLeaseStatus| status.acquired_at.is_some() || shown_ending(status).is_some();
    !lease.status.as_ref().is_some_and(decided)
}

fn references(lease: &LeaseObject) -> Vec<Reference> {
    let mut references = vec![Reference::Namespace(lease.meta.namespace.clone())];
    if let Some(run) = &lease.spec.run {
        references.extend(run.heartbeat_run_id.map(Reference::HeartbeatRun));
        let object = run
            .object_ref
            .as_ref()
            .map(|object| RunKey::of(&lease.meta.namespace, object));
        references.extend(object.map(Reference::RunObject));
    }
    references
}

/// Whether nothing has changed between two states of a lease that a decision could depend on.
fn differs_by_metadata_alone(before: &LeaseObject, after: &LeaseObject) -> bool {
    before.meta.deleting == after.meta.deleting && before.spec == after.spec && before.status == after.status
}

impl Index {
    /// Takes a lease in; the keys that this concerns. A mere heartbeat concerns none: it is noted here, and nothing else
    /// follows from it.
    pub fn apply_lease(&mut self, lease: LeaseObject) -> Vec<Key> {
        self.line.next_moment();
        let (mut changed, moved_up) = self.take_lease(lease);
        changed.extend(moved_up);
        changed.into_iter().map(Key::Lease).collect()
    }

    /// Takes a lease in: what has changed, and which claims have moved up in line.
    fn take_lease(&mut self, lease: LeaseObject) -> (Vec<Uuid>, Vec<Uuid>) {
        let (uid, references) = (lease.meta.uid, references(&lease));
        let before = self.leases.get(uid).cloned();
        let claimed_at = is_claim(&lease).then_some(lease.meta.created_at);
        let changed = self.leases.apply(lease);
        let Some(after) = self.leases.get(uid).filter(|_| !changed.is_empty()) else {
            return (Vec::new(), Vec::new());
        };
        self.heartbeats.observe(before.as_deref(), after, Instant::now());
        if before.is_some_and(|before| differs_by_metadata_alone(&before, after)) {
            return (Vec::new(), Vec::new());
        }
        let mut moved_up = Vec::new();
        for reference in references {
            self.leases_by.entry(reference).or_default().insert(uid);
        }
        for changed in &changed {
            match claimed_at.filter(|_| *changed == uid) {
                Some(created_at) => self.line.arrive(uid, created_at),
                None => moved_up.extend(self.line.leave(*changed)),
            }
        }
        (changed, moved_up)
    }

    /// Marks a lease as deleted; the keys that this concerns.
    pub fn delete_lease(&mut self, lease: LeaseObject) -> Vec<Key> {
        let uid = lease.meta.uid;
        self.waiting.remove(&uid);
        self.heartbeats.forget(uid);
        self.leases.delete(lease);
        let moved_up = self.line.leave(uid).into_iter().map(Key::Lease);
        std::iter::once(Key::Lease(uid)).chain(moved_up).collect()
    }

    /// Takes a complete list of leases in; the keys that this concerns: all of them, and those that are gone.
    pub fn reset_leases(
        &mut self,
        namespace: Option<&str>,
        leases: Vec<LeaseObject>,
        version: &ResourceVersion,
    ) -> Vec<Key> {
        self.lease_lists.insert(namespace.map(str::to_owned), version.clone());
        let listed: HashSet<Uuid> = leases.iter().map(|lease| lease.meta.uid).collect();
        let mut keys: Vec<Key> = listed.iter().copied().map(Key::Lease).collect();
        for gone in self.leases.missing(namespace, &listed, version) {
            keys.extend(self.delete_lease(LeaseObject::clone(&gone)));
        }
        self.line.next_moment();
        for lease in leases {
            let (_, moved_up) = self.take_lease(lease);
            keys.extend(moved_up.into_iter().map(Key::Lease));
        }
        keys
    }

    /// Forgets a deleted lease for which nothing is left to do.
    pub fn forget_lease(&mut self, uid: Uuid) {
        self.waiting.remove(&uid);
        self.namespaces_of_claims.remove(&uid);
        self.tombstones.remove(&Key::Lease(uid));
        let Some(lease) = self.leases.forget(uid) else { return };
        for reference in references(&lease) {
            if let Some(leases) = self.leases_by.get_mut(&reference) {
                leases.remove(&uid);
                if leases.is_empty() {
                    self.leases_by.remove(&reference);
                    if let Reference::RunObject(key) = &reference {
                        self.runs.vanished.remove(key);
                    }
                }
            }
        }
    }

    /// Takes an environment in; the keys that this concerns.
    pub fn apply_environment(&mut self, environment: EnvironmentObject) -> Vec<Key> {
        if let Some(row) = environment.status.as_ref().and_then(|status| status.environment_id) {
            self.environments_by_row
                .entry(row)
                .or_default()
                .insert(environment.meta.uid);
        }
        self.environments
            .apply(environment)
            .into_iter()
            .map(Key::Environment)
            .collect()
    }

    /// Marks an environment as deleted; the keys that this concerns.
    pub fn delete_environment(&mut self, environment: EnvironmentObject) -> Vec<Key> {
        let uid = environment.meta.uid;
        self.environments.delete(environment);
        vec![Key::Environment(uid)]
    }

    /// Takes a complete list of environments in; the keys that this concerns.
    pub fn reset_environments(
        &mut self,
        namespace: Option<&str>,
        environments: Vec<EnvironmentObject>,
        version: &ResourceVersion,
    ) -> Vec<Key> {
        self.environment_lists
            .insert(namespace.map(str::to_owned), version.clone());
        let listed: HashSet<Uuid> = environments.iter().map(|environment| environment.meta.uid).collect();
        let mut keys: Vec<Key> = listed.iter().copied().map(Key::Environment).collect();
        for gone in self.environments.missing(namespace, &listed, version) {
            keys.extend(self.delete_environment(EnvironmentObject::clone(&gone)));
        }
        for environment in environments {
            self.apply_environment(environment);
        }
        keys
    }

    /// Forgets a deleted environment for which nothing is left to do.
    pub fn forget_environment(&mut self, uid: Uuid) {
        self.tombstones.remove(&Key::Environment(uid));
        let Some(gone) = self.environments.forget(uid) else {
            return;
        };
        if let Some(row) = gone.status.as_ref().and_then(|status| status.environment_id)
            && let Some(objects) = self.environments_by_row.get_mut(&row)
        {
            objects.remove(&uid);
            if objects.is_empty() {
                self.environments_by_row.remove(&row);
            }
        }
    }

    /// Forgets the deleted leases that were no newer than a complete list: their rows are found by comparing with it (I5).
    pub fn forget_gone_leases(&mut self, version: &ResourceVersion) {
        for lease in self.leases.gone_until(version) {
            self.forget_lease(lease);
        }
    }

    /// The same for environments.
    pub fn forget_gone_environments(&mut self, version: &ResourceVersion) {
        for environment in self.environments.gone_until(version) {
            self.forget_environment(environment);
        }
    }

    /// The Environment objects that show this row.
    pub fn environments_of_row(&self, row: Uuid) -> Vec<Uuid> {
        self.environments_by_row
            .get(&row)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// The leases that may hold this environment's row: they show no end, and that row or none yet (a grant is committed
    /// before it is shown).
    pub fn leases_of_row(&self, row: Uuid) -> Vec<Key> {
        let holds = |lease: &&Arc<LeaseObject>| {
            let status = lease.status.as_ref();
            let shown = status.and_then(|status| status.environment.as_ref());
            shown.is_none_or(|shown| shown.id == row) && status.and_then(shown_ending).is_none()
        };
        self.leases
            .iter()
            .filter(holds)
            .map(|lease| Key::Lease(lease.meta.uid))
            .collect()
    }

    /// The last complete lists of leases, and every lease that is known: what is older than a list and not known is gone.
    pub fn known_leases(&self) -> (Lists, Vec<Uuid>) {
        (self.lease_lists.clone(), self.leases.known())
    }

    /// The newest version of leases that is known.
    pub fn newest_lease(&self) -> Option<ResourceVersion> {
        let leases = self.leases.iter().map(|lease| &lease.meta.resource_version);
        leases.chain(self.lease_lists.values()).max().cloned()
    }

    /// The same for environments.
    pub fn known_environments(&self) -> (Lists, Vec<Uuid>) {
        (self.environment_lists.clone(), self.environments.known())
    }

    /// Everything that may have to be reconciled.
    pub fn keys(&self) -> Vec<Key> {
        let leases = self.leases.known().into_iter().map(Key::Lease);
        leases
            .chain(self.environments.known().into_iter().map(Key::Environment))
            .chain(self.tombstones.iter().copied())
            .collect()
    }

    /// Whether this lease shows that it is held.
    pub fn is_held(&self, key: &Key) -> bool {
        let Key::Lease(uid) = key else { return false };
        let lease = self.leases.get(*uid).or(self.leases.gone(*uid));
        let phase = lease.and_then(|lease| lease.status.as_ref()?.phase);
        matches!(phase, Some(LeasePhase::Active | LeasePhase::Retained))
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

    /// Whether nobody else of this process is making the Local that was intended with this nonce; from then on somebody is.
    pub fn begin_local(&mut self, nonce: Uuid) -> bool {
        self.locals_in_the_making.insert(nonce)
    }

    /// The API server has answered to who was making it.
    pub fn end_local(&mut self, nonce: Uuid) {
        self.locals_in_the_making.remove(&nonce);
    }

    /// Whether a lease that has not ended names this environment.
    pub fn is_named_by_a_lease(&self, namespace: &str, name: &str) -> bool {
        let here = self.leases_by.get(&Reference::Namespace(namespace.to_owned()));
        let mut leases = here.into_iter().flatten().filter_map(|uid| self.leases.get(*uid));
        leases.any(|lease| {
            let named = lease
                .spec
                .environment_ref
                .as_ref()
                .is_some_and(|reference| reference.name == name);
            named && lease.status.as_ref().and_then(shown_ending).is_none()
        })
    }

    /// Takes a Namespace in; the keys that this concerns: everything in it when its label or its end has come.
    pub fn apply_namespace(&mut self, namespace: NamespaceObject) -> Vec<Key> {
        let known = self.namespaces.get(&namespace.meta.name);
        let same_uid = known.filter(|known| known.meta.uid == namespace.meta.uid);
        if same_uid.is_some_and(|known| known.meta.resource_version >= namespace.meta.resource_version) {
            return Vec::new();
        }
        let said = |object: &NamespaceObject| (object.meta.uid, object.meta.deleting, object.company_label.clone());
        let changed = known.map(said) != Some(said(&namespace));
        let name = namespace.meta.name.clone();
        self.namespaces.insert(name.clone(), namespace);
        if changed { self.keys_in(&name) } else { Vec::new() }
    }

    /// Marks a Namespace as deleted.
    pub fn delete_namespace(&mut self, namespace: &NamespaceObject) -> Vec<Key> {
        let same = |known: &NamespaceObject| known.meta.uid == namespace.meta.uid;
        if self.namespaces.get(&namespace.meta.name).is_some_and(same) {
            self.namespaces.remove(&namespace.meta.name);
        }
        self.keys_in(&namespace.meta.name)
    }

    /// Takes a complete list of Namespaces in (of all, or of one name).
    pub fn reset_namespaces(&mut self, name: Option<&str>, namespaces: Vec<NamespaceObject>) -> Vec<Key> {
        let listed: HashSet<&str> = namespaces
            .iter()
            .map(|namespace| namespace.meta.name.as_str())
            .collect();
        self.namespaces
            .retain(|known, _| name.is_some_and(|name| name != known) || listed.contains(known.as_str()));
        namespaces
            .into_iter()
            .flat_map(|namespace| self.apply_namespace(namespace))
            .collect()
    }

    /// The leases of a heartbeat run.
    pub fn leases_of_heartbeat_run(&self, run: Uuid) -> Vec<Key> {
        self.leases_of(&Reference::HeartbeatRun(run))
    }

    /// The leases of heartbeat runs that show no end.
    pub fn unfinished_of_heartbeat_runs(&self) -> Vec<Key> {
        self.of_heartbeat_runs().map(|(_, lease)| Key::Lease(lease)).collect()
    }

    /// The heartbeat runs of leases that show no end, each once.
    pub fn heartbeat_runs(&self) -> HashSet<Uuid> {
        self.of_heartbeat_runs().map(|(run, _)| run).collect()
    }

    /// The leases of heartbeat runs that show no end, after their runs.
    fn of_heartbeat_runs(&self) -> impl Iterator<Item = (Uuid, Uuid)> {
        self.leases.iter().filter_map(|lease| {
            let run = lease.spec.run.as_ref()?.heartbeat_run_id?;
            let ended = lease.status.as_ref().and_then(shown_ending).is_some();
            (!ended).then_some((run, lease.meta.uid))
        })
    }

    /// Notes whether a claim waits.
    pub fn set_waiting(&mut self, uid: Uuid, waiting: bool) {
        if waiting {
            self.waiting.insert(uid);
        } else {
            self.waiting.remove(&uid);
        }
    }

    /// Claims that wait and may be helped by a change of this environment: those that name it, and for a Local all that
    /// name none or a `local` of their own.
    pub fn waiting_for(&self, environment: &EnvironmentObject) -> Vec<Key> {
        let local = environment.spec.driver == crate::api::Driver::Local;
        let helped = |lease: &Arc<LeaseObject>| match &lease.spec.environment_ref {
            Some(reference) => {
                let named =
                    lease.meta.namespace == environment.meta.namespace && reference.name == environment.meta.name;
                named || (local && reference.name == LOCAL_NAME)
            }
            None => true, // an agent's default environment may be any
        };
        let waiting = self.waiting.iter().filter_map(|uid| self.leases.get(*uid));
        waiting
            .filter(|lease| helped(lease))
            .map(|lease| Key::Lease(lease.meta.uid))
            .collect()
    }

    fn keys_in(&self, namespace: &str) -> Vec<Key> {
        let mut keys = self.leases_of(&Reference::Namespace(namespace.to_owned()));
        let here = self
            .environments
            .iter()
            .filter(|environment| environment.meta.namespace == namespace);
        keys.extend(here.map(|environment| Key::Environment(environment.meta.uid)));
        keys
    }

    fn leases_of(&self, reference: &Reference) -> Vec<Key> {
        self.leases_by
            .get(reference)
            .into_iter()
            .flatten()
            .copied()
            .map(Key::Lease)
            .collect()
    }
}

/// The name under which the operator makes a company's Local, and under which a lease may ask for it.
pub const LOCAL_NAME: &str = "local";

#[cfg(test)]
mod tests;
