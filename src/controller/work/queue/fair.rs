//! Whose turn it is: endings before grants before resyncs, and within each one company after the other, so
//! that nobody waits for all that a noisy company has due.

use std::collections::{BTreeMap, HashMap, VecDeque};

use uuid::Uuid;

use crate::cache::{Key, Lane};

/// How many keys of a class are taken in a row while a lower class waits.
pub(super) const STREAK: usize = 150;

/// How many keys the lower classes are lent after that.
pub(super) const LENT: usize = 50;

/// Keys that are ready.
#[derive(Debug, Default)]
pub(super) struct Fair {
    classes: [Companies; 3],
    /// Keys that were taken of a class since a lower one had its turn.
    streak: [usize; 3],
    /// Keys that were taken of lower classes since a streak has come to its end.
    lent: [usize; 3],
    /// Rises with each key that comes.
    number: u64,
}

/// The keys of one class.
#[derive(Debug, Default)]
struct Companies {
    /// Whose turn it is next: those that have keys, each once.
    turns: VecDeque<Uuid>,
    keys: HashMap<Uuid, BTreeMap<u64, Key>>,
}

impl Companies {
    fn push(&mut self, company: Uuid, number: u64, key: Key) {
        let keys = self.keys.entry(company).or_default();
        if keys.is_empty() {
            self.turns.push_back(company);
        }
        keys.insert(number, key);
    }

    fn remove(&mut self, company: Uuid, number: u64) {
        let Some(keys) = self.keys.get_mut(&company) else {
            return;
        };
        keys.remove(&number);
        if keys.is_empty() {
            self.keys.remove(&company);
            self.turns.retain(|one| *one != company);
        }
    }

    /// The first key of the next company that may have one.
    fn take(&mut self, may: impl Fn(Uuid) -> bool) -> Option<Key> {
        let place = self.turns.iter().position(|company| may(*company))?;
        let company = self.turns.remove(place)?;
        let keys = self.keys.get_mut(&company)?;
        let (_, key) = keys.pop_first()?;
        if keys.is_empty() {
            self.keys.remove(&company);
        } else {
            self.turns.push_back(company);
        }
        Some(key)
    }
}

impl Fair {
    /// A key comes to wait; its number is where it stands.
    pub(super) fn push(&mut self, key: Key, lane: Lane) -> u64 {
        self.number += 1;
        self.classes[lane.class as usize].push(lane.company, self.number, key);
        self.number
    }

    /// A key waits no longer there.
    pub(super) fn remove(&mut self, lane: Lane, number: u64) {
        self.classes[lane.class as usize].remove(lane.company, number);
    }

    /// The next key of those whose company may have one.
    pub(super) fn take(&mut self, may: impl Fn(Uuid) -> bool) -> Option<Key> {
        let waits = |class: &Companies| class.turns.iter().any(|company| may(*company));
        let waiting: Vec<usize> = (0..3).filter(|class| waits(&self.classes[*class])).collect();
        let last = *waiting.last()?;
        let next = waiting
            .iter()
            .copied()
            .find(|class| *class == last || self.streak[*class] < STREAK)?;
        if next == last {
            (self.streak[next], self.lent[next]) = (0, 0);
        } else {
            self.streak[next] += 1;
        }
        // Who had a streak lends; what is taken while nobody more urgent waits is not lent.
        for higher in 0..next {
            self.lent[higher] += usize::from(self.streak[higher] >= STREAK);
            if self.lent[higher] >= LENT {
                (self.streak[higher], self.lent[higher]) = (0, 0);
            }
        }
        self.classes[next].take(may)
    }

    /// How many keys and companies it remembers.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let of = |class: &Companies| class.turns.len() + class.keys.values().map(BTreeMap::len).sum::<usize>();
        self.classes.iter().map(of).sum()
    }
}
