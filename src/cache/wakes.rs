//! The keys that a change of the cache concerns.

use uuid::Uuid;

use super::Key;

/// Keys that have to be looked at because the cache has changed. They leave it by [`super::SharedCache::change`] alone, which
/// hands them on with the lanes that they wait in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "what is not looked at now is not looked at before everything is listed again"]
pub struct Wakes {
    /// Something about these has changed.
    pub(super) changed: Vec<Key>,
    /// These were listed, and nothing about them is known to have changed.
    pub(super) listed: Vec<Key>,
}

impl Wakes {
    /// Nobody has to be looked at.
    pub const fn none() -> Self {
        Self {
            changed: Vec::new(),
            listed: Vec::new(),
        }
    }

    /// Something about these has changed.
    pub fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        Self {
            changed: keys.into_iter().collect(),
            listed: Vec::new(),
        }
    }

    /// Claims that may have moved up.
    pub(super) fn of_leases(leases: impl IntoIterator<Item = Uuid>) -> Self {
        Self::of(leases.into_iter().map(Key::Lease))
    }

    /// These and others.
    pub fn and(mut self, others: Self) -> Self {
        self.changed.extend(others.changed);
        self.listed.extend(others.listed);
        self
    }

    /// These but one: who has just written it knows what it wrote.
    pub fn without(mut self, key: Key) -> Self {
        self.changed.retain(|one| *one != key);
        self.listed.retain(|one| *one != key);
        self
    }

    /// All of them in order, for tests.
    #[cfg(test)]
    pub fn sorted(self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.changed.into_iter().chain(self.listed).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
impl<const N: usize> PartialEq<[Key; N]> for Wakes {
    fn eq(&self, other: &[Key; N]) -> bool {
        let all: Vec<Key> = self.changed.iter().chain(&self.listed).copied().collect();
        all == other
    }
}
