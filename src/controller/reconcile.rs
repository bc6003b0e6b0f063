//! What both reconcilers share: the seams, the index, the queue, and how a reconcile can fail.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::cache::{Class, Lane};
use crate::cache::{Index, Key, Reading, RunKey, SharedIndex, Wakes};
use crate::controller::outside::cluster::ClusterError;
use crate::controller::work::queue::Queue;
use crate::controller::work::trouble::{HELD, Troubles};
use crate::lifecycle::ResourceVersion;
use crate::lifecycle::foreign::Rules;
use crate::runtime::configuration::{NoticeSource, RunKind};
use crate::runtime::metrics::{Cause, Metrics};
use crate::store::{Mode, StoreError};

/// How often `activeLeases` of one Environment is written at most.
const ACTIVE_LEASES_INTERVAL: Duration = Duration::from_secs(1);

/// What reconcilers are told.
#[derive(Clone, Debug)]
pub struct ReconcileSettings {
    /// The Namespaces that are looked after; empty: all.
    pub namespaces: Vec<String>,
    /// Whose the origin's tables are, and so who makes companies.
    pub mode: Mode,
    /// The kinds of run objects that are watched.
    pub run_kinds: Vec<RunKind>,
    /// Which sources may end leases.
    pub notice_by: BTreeSet<NoticeSource>,
    /// What the sweep may do about foreign leases; `None`: they are left alone.
    pub foreign: Option<Rules>,
}

impl ReconcileSettings {
    /// The kind of a run object, if it is one that is watched.
    pub fn run_kind(&self, key: &RunKey) -> Option<&RunKind> {
        self.run_kinds.iter().find(|kind| kind.is(&key.group, &key.kind))
    }

    /// Whether this Namespace is looked after.
    pub fn looks_after(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|one| one == namespace)
    }
}

/// Reconciles leases and environments: data comes in by key, and never goes back.
pub struct Reconciler<D, C> {
    /// The seam to the database.
    pub database: D,
    /// The seam to the cluster.
    pub cluster: C,
    /// What the feeds have shown.
    pub index: SharedIndex,
    /// What has to be reconciled, and when.
    pub queue: Arc<Queue>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What reconcilers are told.
    pub settings: ReconcileSettings,
    /// Who does not get on for a reason of its own.
    pub troubles: Troubles,
    /// The newest version of a lease that was known when this replica could not renew its term; none while it leads.
    pub lapsed_at: Mutex<Option<ResourceVersion>>,
}

/// Another look at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Later {
    /// After how long.
    pub pause: Duration,
    /// What for.
    pub cause: Cause,
}

impl Later {
    /// Another look for a cause.
    pub const fn new(cause: Cause, pause: Duration) -> Self {
        Self { pause, cause }
    }

    /// Another look at what could not be settled now.
    pub const fn look(pause: Duration) -> Self {
        Self::new(Cause::Look, pause)
    }
}

/// Why a reconcile broke off. The key is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The database refused or did not answer.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The API server refused or did not answer.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// Another replica leads, or nobody knows who does.
    #[error("this replica is not the leader")]
    NotLeading,
    /// A fault of the operator's own.
    #[error("it panicked: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// The label of the metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Store(error) => error.category().as_str(),
            Self::Cluster(ClusterError::Conflict) => "conflict",
            Self::Cluster(ClusterError::Forbidden(_)) => "forbidden",
            Self::Cluster(_) => "cluster",
            Self::NotLeading => "deposed",
            Self::Panicked(_) => "panic",
        }
    }

    /// Whether leadership is lost.
    pub const fn is_deposed(&self) -> bool {
        matches!(self, Self::NotLeading | Self::Store(StoreError::Deposed))
    }

    /// Whether another object may well fare better.
    pub const fn is_of_one_object(&self) -> bool {
        match self {
            Self::Cluster(_) => true,
            Self::Store(error) => !error.is_of_all(),
            _ => false,
        }
    }

    /// What the database answered about this one object, as it may be told to its author.
    pub fn refusal_of_one(&self) -> Option<String> {
        match self {
            Self::Store(StoreError::Conflict(_)) => Some(HELD.to_owned()),
            Self::Store(error) if !error.is_of_all() => Some(error.to_string()),
            _ => None,
        }
    }

    /// Whether the database can't be reached, or does not fit.
    pub const fn is_store_unavailable(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable(_) | StoreError::Unfit(_)))
    }

    /// Why the database does not fit, a sentence.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Store(StoreError::Unfit(sentence)) => Some(sentence),
            _ => None,
        }
    }
}

impl<D, C> Reconciler<D, C> {
    /// The index as it is. Never held across an await.
    pub fn index(&self) -> Reading<'_> {
        self.index.read()
    }

    /// Changes the index; whom that concerns is looked at.
    pub(super) fn learn(&self, change: impl FnOnce(&mut Index) -> Wakes) {
        self.queue.extend(self.index.change(change, |_, _| true));
    }

    /// Changes the index by what `source` has noticed. One that may not end leases wakes none that are held.
    pub(super) fn learn_from(&self, source: NoticeSource, change: impl FnOnce(&mut Index) -> Wakes) {
        let may_end = self.settings.notice_by.contains(&source);
        let admits = |index: &Index, key: &Key| may_end || !index.is_held(key);
        self.queue.extend(self.index.change(change, admits));
    }

    /// Asks for keys that `source` has noticed.
    pub fn admit(&self, source: NoticeSource, keys: Vec<Key>) {
        self.learn_from(source, |_| Wakes::of(keys));
    }

    /// Has keys looked at as soon as possible.
    pub(super) fn wake(&self, keys: impl IntoIterator<Item = Key>) {
        self.learn(|_| Wakes::of(keys));
    }

    /// Looks at a key again after a pause.
    pub(super) fn later(&self, key: Key, later: Later) {
        let lane = self.index().lane(&key);
        self.later_in(lane, key, later);
    }

    fn later_in(&self, lane: Lane, key: Key, later: Later) {
        self.queue.push_at(key, Instant::now() + later.pause, later.cause, lane);
    }

    /// Whether this replica's term has passed without another one: the database can't be reached.
    pub(super) fn has_lapsed(&self) -> bool {
        let lapsed_at = self.lapsed_at.lock().unwrap_or_else(PoisonError::into_inner);
        lapsed_at.is_some()
    }

    /// The mirror's `statement` for a key that runs is committed.
    pub(super) fn committed(&self, statement: &'static str, key: Key) {
        if let Some(ready) = self.queue.ready(key) {
            self.metrics.database.committed(statement, ready.since.elapsed());
        }
    }

    /// The number of active leases of an environment's row has changed: its objects will show it, once a second at most.
    pub(super) fn count_again(&self, environment_id: Uuid) {
        let index = self.index();
        let keys = index
            .environments_of_row(environment_id)
            .into_iter()
            .map(Key::Environment);
        let keys: Vec<(Key, Lane)> = keys.map(|key| (key, index.lane(&key))).collect();
        drop(index);
        for (key, lane) in keys {
            let class = Class::Resync; // nobody waits for it
            self.later_in(Lane { class, ..lane }, key, Later::look(ACTIVE_LEASES_INTERVAL));
        }
    }
}

#[cfg(test)]
mod churn;
#[cfg(test)]
mod tests;
