//! What everything that runs here shares: what the watches have shown, the queue, what is counted, and the settings.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::work::queue::Queue;
use super::work::requeue::Requeue;
use super::work::trouble::Troubles;
use crate::cache::object::LeaseObject;
use crate::cache::{Cache, Class, Key, Lane, Looked, Reading, RunKey, SharedCache, Wakes};
use crate::lifecycle::ResourceVersion;
use crate::lifecycle::unmanaged::Rules;
use crate::runtime::configuration::{NoticeSource, RunKind};
use crate::runtime::metrics::Metrics;
use crate::store::{Mode, Request};

/// How often `activeLeases` of one Environment is written at most.
const ACTIVE_LEASES_INTERVAL: Duration = Duration::from_secs(1);

/// What reconcilers are told.
#[derive(Clone, Debug)]
pub struct ReconcileSettings {
    /// The Namespaces that are looked after; empty: all.
    pub namespaces: Vec<String>,
    /// Whose the Paperclip server's tables are, and so who makes companies.
    pub mode: Mode,
    /// The kinds of run objects that are watched.
    pub run_kinds: Vec<RunKind>,
    /// Which sources may end leases.
    pub notice_by: BTreeSet<NoticeSource>,
    /// What the sweep may do about unmanaged leases; `None`: they are left alone.
    pub unmanaged: Option<Rules>,
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

/// What everything that runs here shares.
pub struct Context {
    /// What the watches have shown.
    pub cache: SharedCache,
    /// What has to be reconciled, and when.
    pub queue: Arc<Queue>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What reconcilers are told.
    pub settings: ReconcileSettings,
    /// Who does not get on for a reason of its own.
    pub troubles: Troubles,
    /// The newest version of a lease that was known when this replica could not renew its term; none while it leads.
    lapsed_at: Mutex<Option<ResourceVersion>>,
}

impl Context {
    /// Nothing is queued, and nobody has troubles yet.
    pub fn new(cache: SharedCache, metrics: Arc<Metrics>, settings: ReconcileSettings) -> Self {
        Self {
            cache,
            queue: Arc::default(),
            metrics,
            settings,
            troubles: Troubles::default(),
            lapsed_at: Mutex::default(),
        }
    }

    /// The cache as it is. Never held across an await.
    pub fn cache(&self) -> Reading<'_> {
        self.cache.read()
    }

    /// Changes the cache; whom that concerns is looked at.
    pub(super) fn learn(&self, change: impl FnOnce(&mut Cache) -> Wakes) {
        self.queue.extend(self.cache.change(change, |_, _| true));
    }

    /// Changes the cache by what `source` has noticed. One that may not end leases wakes none that are held.
    pub(super) fn learn_from(&self, source: NoticeSource, change: impl FnOnce(&mut Cache) -> Wakes) {
        let may_end = self.settings.notice_by.contains(&source);
        let admits = |cache: &Cache, key: &Key| may_end || !cache.is_held(key);
        self.queue.extend(self.cache.change(change, admits));
    }

    /// The API server has refused a write for another version than the one that was decided upon. What `read` takes in is
    /// decided upon at once; where that brings no other version, trying in haste would not bring it.
    pub(super) fn decide_anew(&self, key: Key, decided_upon: &ResourceVersion, read: impl FnOnce(&mut Cache) -> Wakes) {
        let mut news = false;
        self.learn(|cache| {
            let wakes = read(cache);
            news = cache.version(key) != Some(decided_upon);
            wakes.and(if news { Wakes::of([key]) } else { Wakes::none() })
        });
        if !news {
            self.later(key, self.troubles.busy(key));
        }
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
    pub(super) fn later(&self, key: Key, later: Requeue) {
        let lane = self.cache().lane(&key);
        self.later_in(lane, key, later);
    }

    fn later_in(&self, lane: Lane, key: Key, later: Requeue) {
        self.queue.push_at(key, Instant::now() + later.pause, later.cause, lane);
    }

    /// Whether this replica's term has passed without another one: the database can't be reached.
    pub(super) fn has_lapsed(&self) -> bool {
        let lapsed_at = self.lapsed_at.lock();
        lapsed_at.is_some()
    }

    /// A request for a key that runs is committed.
    pub(super) fn committed<R: Request>(&self, key: Key) {
        if let Some(ready) = self.queue.ready(key) {
            self.metrics.database.committed(R::NAME, ready.since.elapsed());
        }
    }

    /// The number of active leases of an environment's row has changed: its objects will show it, once a second at most.
    pub(super) fn count_again(&self, environment_id: Uuid) {
        let cache = self.cache();
        let keys = cache
            .environments_of_row(environment_id)
            .into_iter()
            .map(Key::Environment);
        let keys: Vec<(Key, Lane)> = keys.map(|key| (key, cache.lane(&key))).collect();
        drop(cache);
        for (key, lane) in keys {
            let class = Class::Resync; // nobody waits for it
            self.later_in(Lane { class, ..lane }, key, Requeue::look(ACTIVE_LEASES_INTERVAL));
        }
    }

    /// Something else holds a claim back.
    pub(super) fn stand_aside(&self, of: Looked) {
        self.learn(|cache| cache.stand_aside(of));
    }

    /// So many more leases of an environment may be granted: those who are first in its line are looked at.
    pub(super) fn serve(&self, environment_id: Uuid, free: usize) {
        let first = self.cache().wait_queue.first(environment_id, free);
        self.wake(first.into_iter().map(Key::Lease));
    }

    /// Notes whether this replica led until it could not renew its term, and what it knew then.
    pub(super) fn note_lapse(&self, lapsed: bool) {
        let mut lapsed_at = self.lapsed_at.lock();
        if !lapsed {
            *lapsed_at = None;
        } else if lapsed_at.is_none() {
            *lapsed_at = self.cache().newest_lease();
        }
    }

    /// Whether another replica may have said what this claim shows: it is said, not by this replica, and newer than the end of
    /// its term.
    ///
    /// If Postgres is away from this replica alone, another one leads by now. To contradict it would make two replicas write
    /// against each other for as long as that lasts.
    pub(super) fn may_be_anothers_word(&self, lease: &LeaseObject) -> bool {
        let lapsed_at = self.lapsed_at.lock();
        let newer = lapsed_at.as_ref().is_some_and(|at| lease.meta.resource_version > *at);
        let said = lease.status.as_ref().and_then(|status| status.message.as_deref());
        let own = said.is_some_and(|said| self.troubles.has_said(Key::Lease(lease.meta.uid), said));
        newer && lease.status.is_some() && !own
    }

    /// Has those looked at that show nothing yet, or why nothing could be done for them: that has become another reason.
    pub(super) fn wake_without_store(&self) {
        self.learn(|cache| Wakes::of(cache.without_store()));
    }
}
