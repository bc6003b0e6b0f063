//! Run objects: where they are found, and what is known of them.

use std::collections::HashSet;

use kube::core::GroupVersionKind;
use uuid::Uuid;

use super::{Index, Key, Reference};
use crate::api::ObjectRef;
use crate::controller::object::{Meta, RunObject};
use crate::lifecycle::{ResourceVersion, RunOutcome};

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

    /// The place of an object of this kind.
    pub fn at(kind: &GroupVersionKind, meta: &Meta) -> Self {
        Self {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
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

impl Index {
    /// Takes a run object in; the leases that it concerns.
    pub fn apply_run(&mut self, key: RunKey, run: RunObject) -> Vec<Key> {
        if let Some(known) = self.runs.get(&key) {
            if known.meta.uid == run.meta.uid && known.meta.resource_version >= run.meta.resource_version {
                return Vec::new();
            }
            if known.meta.uid != run.meta.uid {
                let known = known.clone();
                self.vanish(&key, &known);
            }
        }
        let leases = self.leases_of(&Reference::RunObject(key.clone()));
        self.runs.insert(key, run);
        leases
    }

    /// Marks a run object as deleted; the leases that it concerns.
    pub fn delete_run(&mut self, key: &RunKey, run: &RunObject) -> Vec<Key> {
        if self.runs.get(key).is_some_and(|known| known.meta.uid == run.meta.uid) {
            self.runs.remove(key);
        }
        self.vanish(key, run);
        self.leases_of(&Reference::RunObject(key.clone()))
    }

    /// Takes a complete list of the run objects of one kind in; the leases that it concerns.
    pub fn reset_runs(
        &mut self,
        kind: &GroupVersionKind,
        namespace: Option<&str>,
        runs: Vec<RunObject>,
        version: &ResourceVersion,
    ) -> Vec<Key> {
        self.listed_runs
            .insert((kind.group.clone(), kind.kind.clone(), namespace.map(str::to_owned)));
        let listed: HashSet<Uuid> = runs.iter().map(|run| run.meta.uid).collect();
        let missing = |(known, run): &(&RunKey, &RunObject)| {
            known.group == kind.group
                && known.kind == kind.kind
                && namespace.is_none_or(|namespace| known.namespace == namespace)
                && !listed.contains(&run.meta.uid)
                && run.meta.resource_version <= *version
        };
        let gone: Vec<_> = self
            .runs
            .iter()
            .filter(missing)
            .map(|(key, run)| (key.clone(), run.clone()))
            .collect();
        let mut keys: Vec<Key> = gone.iter().flat_map(|(key, run)| self.delete_run(key, run)).collect();
        for run in runs {
            let key = RunKey::at(kind, &run.meta);
            // Also where nothing is new: a lease may have missed it.
            keys.extend(self.leases_of(&Reference::RunObject(key.clone())));
            self.apply_run(key, run);
        }
        keys
    }

    /// What is known of the run object at `key`; with `pinned`, of the one with that uid alone.
    pub fn run(&self, key: &RunKey, pinned: Option<Uuid>) -> KnownRun {
        let present = self
            .runs
            .get(key)
            .filter(|run| pinned.is_none_or(|pinned| run.meta.uid == pinned));
        if let Some(run) = present {
            return KnownRun::Present {
                uid: run.meta.uid,
                outcome: run.outcome,
            };
        }
        let vanished = pinned.and_then(|pinned| self.vanished_runs.get(key)?.get(&pinned));
        vanished.map_or(KnownRun::Unknown, |outcome| KnownRun::Vanished(*outcome))
    }

    /// Whether the run objects of this kind have been listed once.
    pub fn runs_are_listed(&self, key: &RunKey) -> bool {
        let listed = |namespace| {
            self.listed_runs
                .contains(&(key.group.clone(), key.kind.clone(), namespace))
        };
        listed(None) || listed(Some(key.namespace.clone()))
    }

    fn vanish(&mut self, key: &RunKey, run: &RunObject) {
        // Kept only as long as a lease asks for it.
        if self.leases_by.contains_key(&Reference::RunObject(key.clone())) {
            self.vanished_runs
                .entry(key.clone())
                .or_default()
                .insert(run.meta.uid, run.outcome);
        }
    }
}
