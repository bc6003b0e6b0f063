//! The one way to the cache: each change returns the keys that it concerns.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Cache, Key, Wakes};
use crate::cache::{Class, Lane};

/// The cache, shared by watches and reconcilers; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SharedCache(Arc<Mutex<Cache>>);

/// The cache as it is; never held across an await.
pub struct Reading<'i>(MutexGuard<'i, Cache>);

impl Deref for Reading<'_> {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        &self.0
    }
}

impl SharedCache {
    /// The cache as it is.
    pub fn read(&self) -> Reading<'_> {
        Reading(self.lock())
    }

    /// Changes it; who has to be looked at now, of those that `admits` lets through.
    #[must_use = "these have to be looked at: give them to the queue"]
    pub fn change(
        &self,
        change: impl FnOnce(&mut Cache) -> Wakes,
        admits: impl Fn(&Cache, &Key) -> bool,
    ) -> Vec<(Key, Lane)> {
        let mut cache = self.lock();
        let Wakes { changed, listed } = change(&mut cache);
        let lane = |key: &Key| cache.lane(key);
        let looked_over = |key: &Key| Lane {
            class: Class::Resync,
            ..cache.lane(key)
        };
        let changed = changed.into_iter().map(|key| (key, lane(&key)));
        let listed = listed.into_iter().map(|key| (key, looked_over(&key)));
        changed.chain(listed).filter(|(key, _)| admits(&cache, key)).collect()
    }

    /// Changes what wakes nobody. What it answers can be copied, so no keys leave the cache this way.
    pub fn note<T: Copy>(&self, note: impl FnOnce(&mut Cache) -> T) -> T {
        note(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Its methods leave it consistent, whatever a thread that held it did afterwards.
        self.0.lock()
    }
}
