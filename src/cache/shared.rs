//! The one way to the index: whoever changes it hands on whom that concerns.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Index, Key, Wakes};
use crate::cache::{Class, Lane};

/// The index, shared by feeds and reconcilers; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SharedIndex(Arc<Mutex<Index>>);

/// The index as it is; never held across an await.
pub struct Reading<'i>(MutexGuard<'i, Index>);

impl Deref for Reading<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.0
    }
}

impl SharedIndex {
    /// The index as it is.
    pub fn read(&self) -> Reading<'_> {
        Reading(self.lock())
    }

    /// Changes it; who has to be looked at now, of those that `admits` lets through.
    #[must_use = "these have to be looked at: give them to the queue"]
    pub fn change(
        &self,
        change: impl FnOnce(&mut Index) -> Wakes,
        admits: impl Fn(&Index, &Key) -> bool,
    ) -> Vec<(Key, Lane)> {
        let mut index = self.lock();
        let Wakes { changed, listed } = change(&mut index);
        let lane = |key: &Key| index.lane(key);
        let looked_over = |key: &Key| Lane {
            class: Class::Resync,
            ..index.lane(key)
        };
        let changed = changed.into_iter().map(|key| (key, lane(&key)));
        let listed = listed.into_iter().map(|key| (key, looked_over(&key)));
        changed.chain(listed).filter(|(key, _)| admits(&index, key)).collect()
    }

    /// Changes what wakes nobody. What it answers can be copied, so no keys leave the index this way.
    pub fn note<T: Copy>(&self, note: impl FnOnce(&mut Index) -> T) -> T {
        note(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Its methods leave it consistent, whatever a thread that held it did afterwards.
        self.0.lock()
    }
}
