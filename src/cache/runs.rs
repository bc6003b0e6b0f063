//! Run objects: where they are found, and what is known of them.

use std::collections::{HashMap, HashSet};

use kube::core::GroupVersionKind;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Cache, Key, Reference, Wakes};
use crate::api::ObjectRef;
use crate::cache::object::{Meta, RunObject};
use crate::lifecycle::lease_status::shown_ending;
use crate::lifecycle::{ResourceVersion, RunEnd};

/// Where a run object is found. The version is left out: one object may be read through several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// API group; empty for the core group.
    pub group: String,
    pub kind: String,
    /// Namespace: always the lease's own.
    pub namespace: String,
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

    /// The place of an object of this kind.
    pub fn at(kind: &GroupVersionKind, meta: &Meta) -> Self {
        Self {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        }
    }

    fn group_kind(&self) -> GroupKind {
        (self.group.clone(), self.kind.clone())
    }

    fn place(&self) -> Position {
        (self.namespace.clone(), self.name.clone())
    }
}

/// What the cache knows of a run object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownRun {
    Present {
        uid: Uuid,
        /// How and when it ended, once it has.
        end: Option<RunEnd>,
    },
    /// The one with the pinned uid was seen to vanish; this is the last end seen.
    Vanished(Option<RunEnd>),
    /// No event told of it.
    Unknown,
}

/// Whether the objects of a run kind can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKindState {
    /// They have been listed: one that is not known is not there, or very new.
    Listed,
    /// The API server does not serve the kind, for now: nothing can be said of its objects.
    NotServed,
    /// Its objects are in no Namespace, so none of them can be a run.
    ClusterScoped,
    /// They could not be listed so far.
    Unreadable,
}

/// How many vanished objects of one name are remembered at most that no lease shows to be its run.
const LATEST: usize = 8;

/// Group and kind.
type GroupKind = (String, String);

/// Namespace and name.
type Position = (String, String);

/// All run objects. There may be many more of them than leases, so of each no more is kept than is decided upon.
#[derive(Debug, Default)]
pub(super) struct RunObjects {
    present: HashMap<GroupKind, HashMap<Position, PresentRun>>,
    /// Those that vanished while a lease named them, the last one last.
    pub(super) vanished: HashMap<RunKey, Vec<(Uuid, VanishedRun)>>,
    /// By the Namespace that is watched (none: all).
    kinds: HashMap<(GroupKind, Option<String>), RunKindState>,
}

/// What is kept of a run object.
#[derive(Clone, Debug, PartialEq)]
struct PresentRun {
    uid: Uuid,
    resource_version: ResourceVersion,
    end: Option<RunEnd>,
    /// Since when it is seen to be over.
    over_since: Option<Instant>,
}

/// What is kept of a run object that has vanished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VanishedRun {
    end: Option<RunEnd>,
    over_since: Instant,
}

impl RunObjects {
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.present.values().map(HashMap::len).sum()
    }

    fn get(&self, key: &RunKey) -> Option<&PresentRun> {
        self.present.get(&key.group_kind())?.get(&key.place())
    }

    fn remove(&mut self, key: &RunKey) {
        if let Some(runs) = self.present.get_mut(&key.group_kind()) {
            runs.remove(&key.place());
        }
    }
}

impl Cache {
    /// Takes a run object in; the leases that it concerns.
    pub fn apply_run(&mut self, key: &RunKey, run: RunObject) -> Wakes {
        let (uid, resource_version) = (run.meta.uid, run.meta.resource_version);
        if let Some(known) = self.runs.get(key) {
            if known.uid == uid && known.resource_version >= resource_version {
                return Wakes::none();
            }
            if known.uid != uid {
                let (gone, end, over_since) = (known.uid, known.end, known.over_since);
                self.vanish(key, gone, end, over_since);
            }
        }
        let known = self.runs.get(key).filter(|known| known.uid == uid);
        let over_since = known.and_then(|known| known.over_since);
        let run = PresentRun {
            uid,
            resource_version,
            end: run.end,
            over_since: run.end.map(|_| over_since.unwrap_or_else(Instant::now)),
        };
        let of_kind = self.runs.present.entry(key.group_kind()).or_default();
        of_kind.insert(key.place(), run);
        Wakes::of(self.leases_of_run(key))
    }

    /// Marks a run object as deleted, whose last state is `run`; the leases that it concerns.
    pub fn delete_run(&mut self, key: &RunKey, run: &RunObject) -> Wakes {
        self.lose_run(key, run.meta.uid, run.end);
        Wakes::of(self.leases_of_run(key))
    }

    /// Takes a complete list of the run objects of one kind in; the leases that it concerns: all whose runs are of this
    /// kind, first of all those whose runs it does not hold any more, or shows otherwise.
    pub fn reset_runs(
        &mut self,
        kind: &GroupVersionKind,
        namespace: Option<&str>,
        runs: Vec<RunObject>,
        version: &ResourceVersion,
    ) -> Wakes {
        self.set_run_kind(kind, namespace, RunKindState::Listed);
        let listed: HashSet<Uuid> = runs.iter().map(|run| run.meta.uid).collect();
        let missing = |((place, _), run): &(&Position, &PresentRun)| {
            namespace.is_none_or(|namespace| place == namespace)
                && !listed.contains(&run.uid)
                && run.resource_version <= *version
        };
        let of_kind = self.runs.present.get(&group_kind(kind));
        let gone: Vec<_> = of_kind
            .into_iter()
            .flatten()
            .filter(missing)
            .map(|((namespace, name), run)| {
                let key = RunKey {
                    group: kind.group.clone(),
                    kind: kind.kind.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                (key, run.uid)
            })
            .collect();
        // All of them, also where nothing is new: what the list does not hold may have been missed as well.
        let mut wakes = Wakes {
            listed: self.leases_of_run_kind(kind, namespace),
            ..Wakes::none()
        };
        for (key, uid) in gone {
            self.lose_run(&key, uid, None);
            wakes = wakes.and(Wakes::of(self.leases_of_run(&key)));
        }
        runs.into_iter().fold(wakes, |wakes, run| {
            wakes.and(self.apply_run(&RunKey::at(kind, &run.meta), run))
        })
    }

    /// Notes why the objects of a kind can't be looked at. A list that fails takes nothing back of an earlier one.
    pub fn lose_run_kind(&mut self, kind: &GroupVersionKind, namespace: Option<&str>, state: RunKindState) {
        let known = self.runs.kinds.get(&(group_kind(kind), namespace.map(str::to_owned)));
        if state != RunKindState::Unreadable || known != Some(&RunKindState::Listed) {
            self.set_run_kind(kind, namespace, state);
        }
    }

    /// Of how many run kinds, each in each Namespace that is watched alone, it is known whether they can be looked at.
    pub fn run_kinds_heard_of(&self) -> usize {
        self.runs.kinds.len()
    }

    /// What is known of the run object at `key`; with `pinned`, of the one with that uid alone.
    pub fn run(&self, key: &RunKey, pinned: Option<Uuid>) -> KnownRun {
        let present = self
            .runs
            .get(key)
            .filter(|run| pinned.is_none_or(|pinned| run.uid == pinned));
        if let Some(run) = present {
            return KnownRun::Present {
                uid: run.uid,
                end: run.end,
            };
        }
        let vanished = pinned.and_then(|pinned| self.vanished_run(key, pinned));
        vanished.map_or(KnownRun::Unknown, |run| KnownRun::Vanished(run.end))
    }

    fn vanished_run(&self, key: &RunKey, pinned: Uuid) -> Option<&VanishedRun> {
        let vanished = self.runs.vanished.get(key)?;
        vanished.iter().find(|(uid, _)| *uid == pinned).map(|(_, run)| run)
    }

    /// Since when the run object at `key` (with `pinned`, the one with that uid) is seen to be over or gone, by what the watches
    /// have shown.
    pub fn run_over_since(&self, key: &RunKey, pinned: Option<Uuid>) -> Option<Instant> {
        let present = self
            .runs
            .get(key)
            .filter(|run| pinned.is_none_or(|pinned| run.uid == pinned));
        match present {
            Some(run) => run.over_since,
            None => Some(self.vanished_run(key, pinned?)?.over_since),
        }
    }

    /// The leases that show no end although the watch of their run object has shown that it is over or gone. Deleted leases
    /// for which something is left to do are among them. A run object counts by its uid alone, so another one of its name
    /// does not stand for it; one that the list of its kind does not hold is gone.
    pub fn leases_that_outlive_their_run_object(&self) -> Vec<Uuid> {
        let mut outliving = Vec::new();
        for (reference, leases) in &self.leases_by {
            let Reference::RunObject(key) = reference else {
                continue;
            };
            let outlives = |lease: &Uuid| {
                let pinned = self.pinned_by(*lease).filter(|_| self.shows_no_end(*lease));
                pinned.is_some_and(|pinned| self.is_run_over(key, pinned))
            };
            outliving.extend(leases.iter().copied().filter(outlives));
        }
        outliving
    }

    fn shows_no_end(&self, lease: Uuid) -> bool {
        let lease = self.leases.get(lease).or_else(|| self.leases.gone(lease));
        lease.is_some_and(|lease| lease.status.as_ref().and_then(shown_ending).is_none())
    }

    fn is_run_over(&self, key: &RunKey, pinned: Uuid) -> bool {
        match self.run(key, Some(pinned)) {
            KnownRun::Present { end, .. } => end.is_some(),
            KnownRun::Vanished(_) => true,
            KnownRun::Unknown => self.run_kind(key) == Some(RunKindState::Listed),
        }
    }

    /// Whether the run objects of this kind can be looked at; `None` before the first list.
    pub fn run_kind(&self, key: &RunKey) -> Option<RunKindState> {
        let state = |namespace| self.runs.kinds.get(&(key.group_kind(), namespace)).copied();
        state(None).or_else(|| state(Some(key.namespace.clone())))
    }

    fn set_run_kind(&mut self, kind: &GroupVersionKind, namespace: Option<&str>, state: RunKindState) {
        let scope = (group_kind(kind), namespace.map(str::to_owned));
        self.runs.kinds.insert(scope, state);
    }

    fn leases_of_run(&self, key: &RunKey) -> Vec<Key> {
        self.leases_of(&Reference::RunObject(key.clone()))
    }

    fn leases_of_run_kind(&self, kind: &GroupVersionKind, namespace: Option<&str>) -> Vec<Key> {
        let of_kind = |reference: &Reference| match reference {
            Reference::RunObject(key) => {
                key.group == kind.group
                    && key.kind == kind.kind
                    && namespace.is_none_or(|namespace| key.namespace == namespace)
            }
            Reference::Namespace(_) | Reference::HeartbeatRun(_) | Reference::Claim(_) | Reference::Row(_) => false,
        };
        let leases = self.leases_by.iter().filter(|(reference, _)| of_kind(reference));
        leases.flat_map(|(_, leases)| leases).copied().map(Key::Lease).collect()
    }

    /// The run object with this uid is gone. Its last state may tell its end; if not, the one before may have.
    fn lose_run(&mut self, key: &RunKey, uid: Uuid, end: Option<RunEnd>) {
        let known = self.runs.get(key).filter(|known| known.uid == uid);
        let end = end.or(known.and_then(|known| known.end));
        let over_since = known.and_then(|known| known.over_since);
        if known.is_some() {
            self.runs.remove(key);
        }
        self.vanish(key, uid, end, over_since);
    }

    /// Kept only as long as a lease may ask for it: those that one has pinned, and the latest, for a grant is committed before
    /// it is shown.
    fn vanish(&mut self, key: &RunKey, uid: Uuid, end: Option<RunEnd>, over_since: Option<Instant>) {
        let Some(leases) = self.leases_by.get(&Reference::RunObject(key.clone())) else {
            return;
        };
        let pinned: HashSet<Uuid> = leases.iter().filter_map(|lease| self.pinned_by(*lease)).collect();
        let before = self.vanished_run(key, uid).map(|run| run.over_since);
        let over_since = before.or(over_since).unwrap_or_else(Instant::now);
        let vanished = self.runs.vanished.entry(key.clone()).or_default();
        vanished.retain(|(known, _)| *known != uid);
        vanished.push((uid, VanishedRun { end, over_since }));
        let latest = vanished.len().saturating_sub(LATEST);
        let mut place = 0;
        vanished.retain(|(uid, _)| {
            place += 1;
            place > latest || pinned.contains(uid)
        });
    }

    /// The uid of the run object that a lease names or was granted for, as far as its object tells.
    fn pinned_by(&self, lease: Uuid) -> Option<Uuid> {
        let lease = self.leases.get(lease).or_else(|| self.leases.gone(lease))?;
        let shown = lease
            .status
            .as_ref()
            .and_then(|status| status.run.as_ref()?.uid.clone());
        let named = || lease.spec.run.as_ref()?.object_ref.as_ref()?.uid.clone();
        shown.or_else(named)?.parse().ok()
    }
}

fn group_kind(kind: &GroupVersionKind) -> GroupKind {
    (kind.group.clone(), kind.kind.clone())
}
