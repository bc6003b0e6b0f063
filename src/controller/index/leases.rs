//! Leases as the feed of their kind has shown them, and the ways to find them from what they refer to.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Index, Key, LOCAL_NAME, Lists, RunKey};
use crate::api::{EnvironmentLeaseStatus, LeasePhase};
use crate::controller::object::{EnvironmentObject, LeaseObject};
use crate::lifecycle::ResourceVersion;
use crate::lifecycle::lease_status::shown_ending;

/// What a lease refers to, for finding it from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reference {
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
    before.meta.deleting == after.meta.deleting && before.shows_the_same(after)
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

    /// The leases whose objects show that they are held, once every one of these namespaces (none: all) was listed completely.
    pub fn held_leases(&self, namespaces: &[String]) -> Option<Vec<Uuid>> {
        let listed = match namespaces {
            [] => self.lease_lists.contains_key(&None),
            named => named
                .iter()
                .all(|name| self.lease_lists.contains_key(&Some(name.clone()))),
        };
        let held = || self.leases.iter().filter(|lease| lease.shows_own_grant());
        listed.then(|| held().map(|lease| lease.meta.uid).collect())
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

    /// Forgets the deleted leases that were no newer than a complete list: their rows are found by comparing with it (I5).
    pub fn forget_gone_leases(&mut self, version: &ResourceVersion) {
        for lease in self.leases.gone_until(version) {
            self.forget_lease(lease);
        }
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

    /// Whether this lease shows that it is held.
    pub fn is_held(&self, key: &Key) -> bool {
        let Key::Lease(uid) = key else { return false };
        let lease = self.leases.get(*uid).or(self.leases.gone(*uid));
        let phase = lease.and_then(|lease| lease.status.as_ref()?.phase);
        matches!(phase, Some(LeasePhase::Active | LeasePhase::Retained))
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

    pub(super) fn leases_of(&self, reference: &Reference) -> Vec<Key> {
        self.leases_by
            .get(reference)
            .into_iter()
            .flatten()
            .copied()
            .map(Key::Lease)
            .collect()
    }
}
