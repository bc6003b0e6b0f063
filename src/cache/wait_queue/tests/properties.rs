//! Whatever happens: nobody is overtaken, and no free lease is forgotten.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// What may happen in the small world below.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A claim is created, a second after the one before or in the same one.
    Arrives { later: bool },
    /// Something that holds a claim back comes or goes.
    Toggles(usize),
    /// A claim's object is deleted.
    Deleted(usize),
    /// A lease ends.
    Ends(usize),
    /// Another replica begins to lead and looks at everything, in an order of its own.
    NewLeader(usize),
    /// The limit is set.
    Limit(usize),
    /// The next key in the queue is looked at.
    Looks,
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        3 => any::<bool>().prop_map(|later| Happens::Arrives { later }),
        1 => any::<usize>().prop_map(Happens::Toggles),
        1 => any::<usize>().prop_map(Happens::Deleted),
        2 => any::<usize>().prop_map(Happens::Ends),
        1 => any::<usize>().prop_map(Happens::NewLeader),
        1 => (0_usize..4).prop_map(Happens::Limit),
        6 => Just(Happens::Looks),
    ];
    proptest::collection::vec(one, 0..120)
}

/// One environment, its claims and leases, and a queue that looks only at what the wait queue or an event has asked for.
#[derive(Default)]
struct World {
    wait_queue: WaitQueue,
    queue: VecDeque<Uuid>,
    claims: HashMap<Uuid, Timestamp>,
    held_back: HashSet<Uuid>,
    /// Not looked at by the present leader.
    unknown: HashSet<Uuid>,
    leases: Vec<Uuid>,
    limit: usize,
    now: i64,
    made: u128,
}

impl World {
    fn push(&mut self, keys: impl IntoIterator<Item = Uuid>) {
        for key in keys {
            if !self.queue.contains(&key) {
                self.queue.push_back(key);
            }
        }
    }

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.leases.len())
    }

    fn nth_claim(&self, number: usize) -> Option<Uuid> {
        let mut claims: Vec<Uuid> = self.claims.keys().copied().collect();
        claims.sort_unstable();
        claims.get(number % claims.len().max(1)).copied()
    }

    fn serve(&mut self, count: usize) {
        let first = self.wait_queue.first(BOX, count);
        self.push(first);
    }

    /// What the reconciler does with a claim.
    fn look(&mut self, id: Uuid) {
        let Some(created_at) = self.claims.get(&id).copied() else {
            return;
        };
        self.unknown.remove(&id);
        if self.held_back.contains(&id) {
            let woken = self.wait_queue.stand_aside(id);
            return self.push(woken);
        }
        let woken = stand(&mut self.wait_queue, id, created_at, BOX);
        self.push(woken);
        if self.wait_queue.place(id, BOX, self.free(), vec![wants()]) != Position::Served {
            return;
        }
        let turn = self.wait_queue.turn(id).unwrap();
        let passed = |other: &Uuid| *other != id && self.wait_queue.turn(*other).is_some_and(|other| other < turn);
        let older: Vec<Uuid> = self.claims.keys().copied().filter(passed).collect();
        let in_line = self.wait_queue.first(BOX, usize::MAX);
        let overtaken = older
            .iter()
            .filter(|older| self.unknown.contains(older) || in_line.contains(older));
        assert!(overtaken.count() < self.free(), "an older claim would be overtaken");
        self.claims.remove(&id);
        self.leases.push(id);
        assert!(self.leases.len() <= self.limit);
        let woken = self.wait_queue.leave(id);
        self.push(woken);
        self.serve(self.free());
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Arrives { later } => {
                self.now += i64::from(later);
                self.made += 1;
                // Lower uids come later, so that they cannot be what orders.
                let id = id(10_000 - self.made);
                self.claims.insert(id, second(self.now));
                self.unknown.insert(id);
                self.wait_queue.next_moment();
                self.wait_queue.arrive(id, second(self.now), wants());
                self.push([id]);
            }
            Happens::Toggles(number) => {
                if let Some(id) = self.nth_claim(number) {
                    if !self.held_back.remove(&id) {
                        self.held_back.insert(id);
                    }
                    self.push([id]);
                }
            }
            Happens::Deleted(number) => {
                if let Some(id) = self.nth_claim(number) {
                    self.claims.remove(&id);
                    let woken = self.wait_queue.leave(id);
                    self.push(woken);
                }
            }
            Happens::Ends(number) => {
                if !self.leases.is_empty() {
                    self.leases.swap_remove(number % self.leases.len());
                    self.serve(1);
                }
            }
            Happens::NewLeader(number) => {
                self.wait_queue.begin();
                self.queue.clear();
                self.unknown = self.claims.keys().copied().collect();
                let mut all: Vec<Uuid> = self.claims.keys().copied().collect();
                all.sort_unstable();
                let by = number % all.len().max(1);
                all.rotate_left(by);
                self.push(all);
            }
            Happens::Limit(limit) => {
                self.limit = limit;
                self.serve(1);
            }
            Happens::Looks => {
                if let Some(id) = self.queue.pop_front() {
                    self.look(id);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn nobody_is_overtaken_and_no_free_lease_is_forgotten(happenings in happenings()) {
        let mut world = World::default();
        for what in happenings {
            world.happen(what);
        }
        while let Some(id) = world.queue.pop_front() {
            world.look(id);
        }
        let waiting = world.claims.keys().filter(|id| !world.held_back.contains(id)).count();
        prop_assert!(world.free() == 0 || waiting == 0, "{} free, {waiting} in the wait queue", world.free());
    }
}
