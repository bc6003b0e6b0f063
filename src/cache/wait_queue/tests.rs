//! The wait queue's order, and that no free lease is forgotten.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

const BOX: Uuid = Uuid::from_u128(900);

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn named(name: &str) -> Wants {
    Wants::Named("team".to_owned(), name.to_owned())
}

/// What all claims want here.
fn wants() -> Wants {
    named("box")
}

/// A claim is seen, and nothing else holds it back.
fn stand(wait_queue: &mut WaitQueue, claim: Uuid, created_at: Timestamp, environment: Uuid) -> Vec<Uuid> {
    wait_queue.arrive(claim, created_at, wants());
    wait_queue.stand(claim, environment)
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Claims that have come one after the other, one a second, and stand in the wait queue of the box.
fn queue_of(count: u128) -> WaitQueue {
    let mut wait_queue = WaitQueue::default();
    for number in 0..count {
        wait_queue.next_moment();
        let created_at = second(i64::try_from(number).unwrap());
        wait_queue.arrive(id(number), created_at, wants());
        stand(&mut wait_queue, id(number), created_at, BOX);
    }
    wait_queue
}

fn places(wait_queue: &mut WaitQueue, count: u128, free: usize) -> Vec<Position> {
    (0..count)
        .map(|number| wait_queue.place(id(number), BOX, free, vec![wants()]))
        .collect()
}

#[test]
fn as_many_as_are_free_are_served_and_the_others_know_their_place() {
    let mut wait_queue = queue_of(4);
    let expected = [
        Position::Served,
        Position::Served,
        Position::Waits(3),
        Position::Waits(4),
    ];
    assert_eq!(places(&mut wait_queue, 4, 2), expected);
    let moved_up = [id(1), id(2), id(3)];
    assert_eq!(
        wait_queue.leave(id(0)),
        moved_up,
        "the next one is looked at, and who has another place"
    );
    assert_eq!(wait_queue.place(id(2), BOX, 2, vec![wants()]), Position::Served);
}

#[test]
fn the_older_comes_first_then_the_one_seen_first_then_the_lower_uid() {
    let mut wait_queue = WaitQueue::default();
    for (number, created_at, moments) in [(5, 1, 0), (3, 1, 0), (4, 1, 1), (2, 0, 1)] {
        for _ in 0..moments {
            wait_queue.next_moment();
        }
        stand(&mut wait_queue, id(number), second(created_at), BOX);
    }
    assert_eq!(wait_queue.first(BOX, 9), [id(2), id(3), id(5), id(4)]);
}

#[test]
fn a_claim_that_is_held_back_is_passed_and_comes_back_to_its_place() {
    let mut wait_queue = queue_of(3);
    assert_eq!(wait_queue.stand_aside(id(0)), [id(1), id(2)]);
    assert_eq!(wait_queue.first(BOX, 3), [id(1), id(2)]);
    wait_queue.next_moment();
    stand(&mut wait_queue, id(0), second(99), BOX);
    assert_eq!(wait_queue.first(BOX, 3), [id(0), id(1), id(2)], "a turn is kept");
}

#[test]
fn lines_of_different_environments_do_not_know_each_other() {
    let mut wait_queue = queue_of(2);
    let other = id(901);
    assert_eq!(
        stand(&mut wait_queue, id(0), second(0), other),
        [id(1)],
        "it has changed its wait_queue"
    );
    assert_eq!(wait_queue.place(id(0), other, 1, vec![wants()]), Position::Served);
    assert_eq!(wait_queue.place(id(1), BOX, 1, vec![wants()]), Position::Served);
}

#[test]
fn nobody_passes_an_older_claim_that_has_not_been_looked_at() {
    let mut wait_queue = WaitQueue::default();
    for number in 0..3 {
        wait_queue.arrive(id(number), second(i64::try_from(number).unwrap()), wants());
    }
    stand(&mut wait_queue, id(2), second(2), BOX);
    assert_eq!(wait_queue.place(id(2), BOX, 2, vec![wants()]), Position::InDoubt);
    assert_eq!(
        wait_queue.place(id(2), BOX, 3, vec![wants()]),
        Position::Served,
        "there is one for each"
    );
    assert_eq!(wait_queue.place(id(2), BOX, 2, vec![wants()]), Position::InDoubt);
    assert!(wait_queue.stand_aside(id(1)).is_empty(), "the oldest is still unknown");
    assert_eq!(
        stand(&mut wait_queue, id(0), second(0), id(901)),
        [id(2)],
        "now it can be told"
    );
    assert_eq!(wait_queue.place(id(2), BOX, 1, vec![wants()]), Position::Served);
}

#[test]
fn a_claim_that_is_deleted_before_it_was_looked_at_holds_up_nobody() {
    let mut wait_queue = WaitQueue::default();
    wait_queue.arrive(id(0), second(0), wants());
    stand(&mut wait_queue, id(1), second(1), BOX);
    assert_eq!(wait_queue.place(id(1), BOX, 1, vec![wants()]), Position::InDoubt);
    assert_eq!(wait_queue.leave(id(0)), [id(1)]);
}

#[test]
fn a_claim_that_can_not_be_looked_at_holds_up_those_alone_who_may_want_what_it_wants() {
    let (other, company) = (id(901), Uuid::from_u128(77));
    let mut wait_queue = WaitQueue::default();
    wait_queue.arrive(id(0), second(0), named("box"));
    wait_queue.arrive(id(1), second(1), named("other"));
    wait_queue.stand(id(1), other);
    let place = wait_queue.place(id(1), other, 1, vec![named("other"), Wants::OfCompany(company)]);
    assert_eq!(place, Position::Served, "the oldest is for another environment");
    wait_queue.arrive(id(2), second(2), named("box"));
    wait_queue.stand(id(2), BOX);
    let for_box = || vec![named("box"), Wants::OfCompany(company)];
    assert_eq!(wait_queue.place(id(2), BOX, 1, for_box()), Position::InDoubt);
    // Another one of the company, that may be for any of its environments, is older than one that comes now.
    wait_queue.arrive(id(3), second(1), Wants::OfCompany(company));
    assert_eq!(wait_queue.leave(id(0)), [id(2)]);
    assert_eq!(wait_queue.place(id(2), BOX, 1, for_box()), Position::InDoubt);
    wait_queue.want(id(3), Wants::OfCompany(id(78)));
    assert_eq!(wait_queue.stand_aside(id(3)), [id(2)], "whatever it turned out to want");
    assert_eq!(wait_queue.place(id(2), BOX, 1, for_box()), Position::Served);
    for claim in 1..4 {
        wait_queue.leave(id(claim));
    }
    assert_eq!(wait_queue.size(), 0);
}

#[test]
fn whoever_begins_to_lead_has_looked_at_nobody() {
    let mut wait_queue = queue_of(3);
    wait_queue.begin();
    assert!(wait_queue.first(BOX, 3).is_empty());
    stand(&mut wait_queue, id(2), second(2), BOX);
    assert_eq!(wait_queue.place(id(2), BOX, 1, vec![wants()]), Position::InDoubt);
    stand(&mut wait_queue, id(1), second(1), BOX);
    stand(&mut wait_queue, id(0), second(0), BOX);
    assert_eq!(wait_queue.first(BOX, 3), [id(0), id(1), id(2)]);
}

#[test]
fn a_sentence_is_written_at_once_and_rewritten_once_an_interval() {
    let mut wait_queue = queue_of(2);
    let begun = Instant::now();
    let mut may_tell = |claim, shown, seconds| {
        wait_queue.may_tell(
            id(claim),
            shown,
            Duration::from_secs(60),
            begun + Duration::from_secs(seconds),
        )
    };
    assert!(may_tell(0, false, 0));
    assert!(!may_tell(0, true, 59));
    assert!(may_tell(0, true, 60));
    assert!(!may_tell(0, true, 119));
    // Of another leader's sentence it is not known when it was written, only that it is wrong by now.
    assert!(may_tell(1, true, 0));
    assert!(!may_tell(1, true, 59));
    assert!(may_tell(1, true, 60));
}

#[test]
fn a_long_wait_for_one_thing_is_told_once_and_a_short_one_never() {
    let mut wait_queue = queue_of(1);
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    let (run, environment) = (Reason::RunNotFound, Reason::EnvironmentNotFound);
    wait_queue.note_wait(id(0), environment, at(0));
    assert!(!wait_queue.has_waited_long(id(0), environment, at(9)));
    wait_queue.note_wait(id(0), run, at(9));
    assert!(
        !wait_queue.has_waited_long(id(0), environment, at(30)),
        "it waits for something else"
    );
    assert!(!wait_queue.has_waited_long(id(0), run, at(18)));
    assert!(wait_queue.has_waited_long(id(0), run, at(19)));
    assert!(!wait_queue.has_waited_long(id(0), run, at(60)), "once");
    wait_queue.leave(id(0));
    wait_queue.note_wait(id(0), run, at(60));
    assert!(
        !wait_queue.has_waited_long(id(0), run, at(90)),
        "it is no claim any more"
    );
}

#[test]
fn when_a_claim_leaves_those_have_to_be_looked_at_whose_sentence_is_another_one() {
    let mut wait_queue = queue_of(1_000);
    let ids = |numbers: &[u128]| numbers.iter().map(|number| id(*number)).collect::<Vec<Uuid>>();
    // After the first has left, claim n stands at place n.
    let moved_up = ids(&[1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!(wait_queue.leave(id(0)), moved_up);
    // Of one in the middle those behind it, and the first, who may be served now.
    assert_eq!(wait_queue.stand_aside(id(100)), ids(&[1, 129, 257, 513]));
    let drained: usize = (1..1_000).map(|number| wait_queue.leave(id(number)).len()).sum();
    assert!(
        drained < 1_000 * 12,
        "{drained}: no more than a few for each that leaves"
    );
}

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
