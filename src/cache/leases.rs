//! Leases as the watch of their kind has shown them, and the ways to find them from what they refer to.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Cache, Key, Lists, RunKey, Wakes, Wants};
use crate::api::{EnvironmentLeaseStatus, LeasePhase};
use crate::cache::object::LeaseObject;
use crate::lifecycle::ResourceVersion;
use crate::lifecycle::lease_status::shown_ending;

/// What a lease refers to, for finding it from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reference {
    Namespace(String),
    HeartbeatRun(Uuid),
    RunObject(RunKey),
    /// A claim: it shows neither a grant nor an end.
    Claim(Wants),
    /// It shows that it holds a lease of this environment's row.
    Row(Uuid),
}

/// Whether an object shows neither a grant nor an end.
fn is_claim(lease: &LeaseObject) -> bool {
    let decided = |status: &EnvironmentLeaseStatus| status.acquired_at.is_some() || shown_ending(status).is_some();
    !lease.status.as_ref().is_some_and(decided)
}

/// Whether nothing has changed between two states of a lease that a decision could depend on.
fn differs_by_metadata_alone(before: &LeaseObject, after: &LeaseObject) -> bool {
    before.meta.deleting == after.meta.deleting && before.shows_the_same(after)
}

impl Cache {
    /// Takes a lease in that the watch has told of; whom this concerns. A mere heartbeat concerns nobody: it is noted here, and
    /// nothing else follows from it.
    pub fn apply_lease(&mut self, lease: LeaseObject) -> Wakes {
        self.leases.heard(&lease.meta);
        self.wait_queue.next_moment();
        self.take_lease(lease)
    }

    /// Takes a lease in that the API server has answered with; whom this concerns: nobody where the watch knows better.
    pub fn read_lease(&mut self, lease: LeaseObject) -> Wakes {
        if self.leases.is_past(&lease.meta) {
            return Wakes::none();
        }
        self.wait_queue.next_moment();
        self.take_lease(lease)
    }

    fn take_lease(&mut self, lease: LeaseObject) -> Wakes {
        let uid = lease.meta.uid;
        let before = self.leases.get(uid).cloned();
        let changed = self.leases.apply(lease);
        let mut moved_up = Wakes::none();
        for changed in &changed {
            if self.leases.get(*changed).is_none() {
                moved_up = moved_up.and(self.leave(*changed));
            }
        }
        if let Some(after) = self.leases.get(uid).cloned().filter(|_| !changed.is_empty()) {
            self.heartbeats.observe(before.as_deref(), &after, Instant::now());
            if before.is_some_and(|before| differs_by_metadata_alone(&before, &after)) {
                return moved_up;
            }
            self.refer(&after);
            if is_claim(&after) {
                let wants = self.wants_of(&after);
                self.wait_queue.arrive(uid, after.meta.created_at, wants);
            } else {
                moved_up = moved_up.and(Wakes::of_leases(self.wait_queue.leave(uid)));
            }
        }
        Wakes::of_leases(changed).and(moved_up)
    }

    /// It stands in no line any more, and no heartbeat is expected of it; who may move up.
    fn leave(&mut self, uid: Uuid) -> Wakes {
        self.heartbeats.forget(uid);
        Wakes::of_leases(self.wait_queue.leave(uid))
    }

    /// Marks a lease as deleted; whom this concerns.
    pub fn delete_lease(&mut self, lease: LeaseObject) -> Wakes {
        let uid = lease.meta.uid;
        self.leases.heard(&lease.meta);
        self.leases.delete(lease);
        Wakes::of([Key::Lease(uid)]).and(self.leave(uid))
    }

    /// Takes a complete list of leases in; whom this concerns: all of them, and those that are gone.
    pub fn reset_leases(
        &mut self,
        namespace: Option<&str>,
        leases: Vec<LeaseObject>,
        version: &ResourceVersion,
    ) -> Wakes {
        self.leases.listed(namespace, version);
        self.lease_lists.insert(namespace.map(str::to_owned), version.clone());
        let listed: HashSet<Uuid> = leases.iter().map(|lease| lease.meta.uid).collect();
        let mut wakes = Wakes {
            listed: listed.iter().copied().map(Key::Lease).collect(),
            ..Wakes::none()
        };
        for gone in self.leases.missing(namespace, &listed, version) {
            wakes = wakes.and(self.delete_lease(LeaseObject::clone(&gone)));
        }
        self.wait_queue.next_moment();
        for lease in leases {
            wakes = wakes.and(self.take_lease(lease));
        }
        wakes
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

    /// Forgets a deleted lease for which nothing is left to do; who may move up in the wait queue.
    pub fn forget_lease(&mut self, uid: Uuid) -> Wakes {
        self.namespaces_of_claims.remove(&uid);
        self.missed_deletions.remove(&Key::Lease(uid));
        self.rewritten.remove(&uid);
        if self.leases.get(uid).is_some() {
            return Wakes::none(); // it is there: what was decided about it is out of date
        }
        self.leases.forget(uid);
        for reference in self.references.remove(&uid).unwrap_or_default() {
            self.drop_reference(uid, &reference);
        }
        self.leave(uid)
    }

    /// Notes what a lease refers to, instead of what it did.
    fn refer(&mut self, lease: &LeaseObject) {
        let (uid, now) = (lease.meta.uid, self.references_of(lease));
        let before = self.references.insert(uid, now.clone()).unwrap_or_default();
        for reference in before.iter().filter(|reference| !now.contains(reference)) {
            self.drop_reference(uid, reference);
        }
        for reference in now {
            self.leases_by.entry(reference).or_default().insert(uid);
        }
    }

    fn drop_reference(&mut self, uid: Uuid, reference: &Reference) {
        let Some(leases) = self.leases_by.get_mut(reference) else {
            return;
        };
        leases.remove(&uid);
        if leases.is_empty() {
            self.leases_by.remove(reference);
            if let Reference::RunObject(key) = reference {
                self.runs.vanished.remove(key);
            }
        }
    }

    fn references_of(&self, lease: &LeaseObject) -> Vec<Reference> {
        let mut references = vec![Reference::Namespace(lease.meta.namespace.clone())];
        if let Some(run) = &lease.spec.run {
            references.extend(run.heartbeat_run_id.map(Reference::HeartbeatRun));
            let object = run
                .object_ref
                .as_ref()
                .map(|object| RunKey::of(&lease.meta.namespace, object));
            references.extend(object.map(Reference::RunObject));
        }
        let held = lease.status.as_ref().filter(|status| shown_ending(status).is_none());
        if is_claim(lease) {
            references.push(Reference::Claim(self.wants_of(lease)));
        } else if let Some(environment) = held.and_then(|status| status.environment.as_ref()) {
            references.push(Reference::Row(environment.id));
        }
        references
    }

    /// The company of a Namespace has become known, or is another one: so it is for the claims in it.
    pub(super) fn refer_anew(&mut self, namespace: &str) {
        let here: Vec<Arc<LeaseObject>> = self.leases.of_namespace(namespace).cloned().collect();
        for lease in here.iter().filter(|lease| is_claim(lease)) {
            self.refer(lease);
            let wants = self.wants_of(lease);
            self.wait_queue.want(lease.meta.uid, wants);
        }
    }

    /// Forgets the deleted leases that were no newer than a complete list: their rows are found by comparing with it (I5).
    pub fn forget_gone_leases(&mut self, version: &ResourceVersion) -> Wakes {
        let missed_deletions = self.missed_deletions.iter().filter_map(|key| match key {
            Key::Lease(uid) => Some(*uid),
            Key::Environment(_) => None,
        });
        let gone: Vec<Uuid> = missed_deletions.chain(self.leases.gone_until(version)).collect();
        let forgotten = gone.into_iter().map(|lease| self.forget_lease(lease));
        forgotten.fold(Wakes::none(), Wakes::and)
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
