//! The line's order, and that no free lease is forgotten.

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
fn stand(line: &mut Line, claim: Uuid, created_at: Timestamp, environment: Uuid) -> Vec<Uuid> {
    line.arrive(claim, created_at, wants());
    line.stand(claim, environment)
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Claims that have come one after the other, one a second, and stand in the line of the box.
fn line_of(count: u128) -> Line {
    let mut line = Line::default();
    for number in 0..count {
        line.next_moment();
        let created_at = second(i64::try_from(number).unwrap());
        line.arrive(id(number), created_at, wants());
        stand(&mut line, id(number), created_at, BOX);
    }
    line
}

fn places(line: &mut Line, count: u128, free: usize) -> Vec<Place> {
    (0..count)
        .map(|number| line.place(id(number), BOX, free, vec![wants()]))
        .collect()
}

#[test]
fn as_many_as_are_free_are_served_and_the_others_know_their_place() {
    let mut line = line_of(4);
    let expected = [Place::Served, Place::Served, Place::Waits(3), Place::Waits(4)];
    assert_eq!(places(&mut line, 4, 2), expected);
    let moved_up = [id(1), id(2), id(3)];
    assert_eq!(
        line.leave(id(0)),
        moved_up,
        "the next one is looked at, and who has another place"
    );
    assert_eq!(line.place(id(2), BOX, 2, vec![wants()]), Place::Served);
}

#[test]
fn the_older_comes_first_then_the_one_seen_first_then_the_lower_uid() {
    let mut line = Line::default();
    for (number, created_at, moments) in [(5, 1, 0), (3, 1, 0), (4, 1, 1), (2, 0, 1)] {
        for _ in 0..moments {
            line.next_moment();
        }
        stand(&mut line, id(number), second(created_at), BOX);
    }
    assert_eq!(line.first(BOX, 9), [id(2), id(3), id(5), id(4)]);
}

#[test]
fn a_claim_that_is_held_back_is_passed_and_comes_back_to_its_place() {
    let mut line = line_of(3);
    assert_eq!(line.stand_aside(id(0)), [id(1), id(2)]);
    assert_eq!(line.first(BOX, 3), [id(1), id(2)]);
    line.next_moment();
    stand(&mut line, id(0), second(99), BOX);
    assert_eq!(line.first(BOX, 3), [id(0), id(1), id(2)], "a turn is kept");
}

#[test]
fn lines_of_different_environments_do_not_know_each_other() {
    let mut line = line_of(2);
    let other = id(901);
    assert_eq!(
        stand(&mut line, id(0), second(0), other),
        [id(1)],
        "it has changed its line"
    );
    assert_eq!(line.place(id(0), other, 1, vec![wants()]), Place::Served);
    assert_eq!(line.place(id(1), BOX, 1, vec![wants()]), Place::Served);
}

#[test]
fn nobody_passes_an_older_claim_that_has_not_been_looked_at() {
    let mut line = Line::default();
    for number in 0..3 {
        line.arrive(id(number), second(i64::try_from(number).unwrap()), wants());
    }
    stand(&mut line, id(2), second(2), BOX);
    assert_eq!(line.place(id(2), BOX, 2, vec![wants()]), Place::InDoubt);
    assert_eq!(
        line.place(id(2), BOX, 3, vec![wants()]),
        Place::Served,
        "there is one for each"
    );
    assert_eq!(line.place(id(2), BOX, 2, vec![wants()]), Place::InDoubt);
    assert!(line.stand_aside(id(1)).is_empty(), "the oldest is still unknown");
    assert_eq!(
        stand(&mut line, id(0), second(0), id(901)),
        [id(2)],
        "now it can be told"
    );
    assert_eq!(line.place(id(2), BOX, 1, vec![wants()]), Place::Served);
}

#[test]
fn a_claim_that_is_deleted_before_it_was_looked_at_holds_up_nobody() {
    let mut line = Line::default();
    line.arrive(id(0), second(0), wants());
    stand(&mut line, id(1), second(1), BOX);
    assert_eq!(line.place(id(1), BOX, 1, vec![wants()]), Place::InDoubt);
    assert_eq!(line.leave(id(0)), [id(1)]);
}

#[test]
fn a_claim_that_can_not_be_looked_at_holds_up_those_alone_who_may_want_what_it_wants() {
    let (other, company) = (id(901), Uuid::from_u128(77));
    let mut line = Line::default();
    line.arrive(id(0), second(0), named("box"));
    line.arrive(id(1), second(1), named("other"));
    line.stand(id(1), other);
    let place = line.place(id(1), other, 1, vec![named("other"), Wants::OfCompany(company)]);
    assert_eq!(place, Place::Served, "the oldest is for another environment");
    line.arrive(id(2), second(2), named("box"));
    line.stand(id(2), BOX);
    let for_box = || vec![named("box"), Wants::OfCompany(company)];
    assert_eq!(line.place(id(2), BOX, 1, for_box()), Place::InDoubt);
    // Another one of the company, that may be for any of its environments, is older than one that comes now.
    line.arrive(id(3), second(1), Wants::OfCompany(company));
    assert_eq!(line.leave(id(0)), [id(2)]);
    assert_eq!(line.place(id(2), BOX, 1, for_box()), Place::InDoubt);
    line.want(id(3), Wants::OfCompany(id(78)));
    assert_eq!(line.stand_aside(id(3)), [id(2)], "whatever it turned out to want");
    assert_eq!(line.place(id(2), BOX, 1, for_box()), Place::Served);
    for claim in 1..4 {
        line.leave(id(claim));
    }
    assert_eq!(line.size(), 0);
}

#[test]
fn whoever_begins_to_lead_has_looked_at_nobody() {
    let mut line = line_of(3);
    line.begin();
    assert!(line.first(BOX, 3).is_empty());
    stand(&mut line, id(2), second(2), BOX);
    assert_eq!(line.place(id(2), BOX, 1, vec![wants()]), Place::InDoubt);
    stand(&mut line, id(1), second(1), BOX);
    stand(&mut line, id(0), second(0), BOX);
    assert_eq!(line.first(BOX, 3), [id(0), id(1), id(2)]);
}

#[test]
fn a_sentence_is_written_at_once_and_rewritten_once_an_interval() {
    let mut line = line_of(2);
    let begun = Instant::now();
    let mut may_tell = |claim, shown, seconds| {
        line.may_tell(
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
    let mut line = line_of(1);
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    let (run, environment) = (Reason::RunNotFound, Reason::EnvironmentNotFound);
    line.note_wait(id(0), environment, at(0));
    assert!(!line.has_waited_long(id(0), environment, at(9)));
    line.note_wait(id(0), run, at(9));
    assert!(
        !line.has_waited_long(id(0), environment, at(30)),
        "it waits for something else"
    );
    assert!(!line.has_waited_long(id(0), run, at(18)));
    assert!(line.has_waited_long(id(0), run, at(19)));
    assert!(!line.has_waited_long(id(0), run, at(60)), "once");
    line.leave(id(0));
    line.note_wait(id(0), run, at(60));
    assert!(!line.has_waited_long(id(0), run, at(90)), "it is no claim any more");
}

#[test]
fn when_a_claim_leaves_those_have_to_be_looked_at_whose_sentence_is_another_one() {
    let mut line = line_of(1_000);
    let ids = |numbers: &[u128]| numbers.iter().map(|number| id(*number)).collect::<Vec<Uuid>>();
    // After the first has left, claim n stands at place n.
    let moved_up = ids(&[1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!(line.leave(id(0)), moved_up);
    // Of one in the middle those behind it, and the first, who may be served now.
    assert_eq!(line.stand_aside(id(100)), ids(&[1, 129, 257, 513]));
    let drained: usize = (1..1_000).map(|number| line.leave(id(number)).len()).sum();
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

/// One environment, its claims and leases, and a queue that looks only at what the line or an event has asked for.
#[derive(Default)]
struct World {
    line: Line,
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
        let first = self.line.first(BOX, count);
        self.push(first);
    }

    /// What the reconciler does with a claim.
    fn look(&mut self, id: Uuid) {
        let Some(created_at) = self.claims.get(&id).copied() else {
            return;
        };
        self.unknown.remove(&id);
        if self.held_back.contains(&id) {
            let woken = self.line.stand_aside(id);
            return self.push(woken);
        }
        let woken = stand(&mut self.line, id, created_at, BOX);
        self.push(woken);
        if self.line.place(id, BOX, self.free(), vec![wants()]) != Place::Served {
            return;
        }
        let turn = self.line.turn(id).unwrap();
        let passed = |other: &Uuid| *other != id && self.line.turn(*other).is_some_and(|other| other < turn);
        let older: Vec<Uuid> = self.claims.keys().copied().filter(passed).collect();
        let in_line = self.line.first(BOX, usize::MAX);
        let overtaken = older
            .iter()
            .filter(|older| self.unknown.contains(older) || in_line.contains(older));
        assert!(overtaken.count() < self.free(), "an older claim would be overtaken");
        self.claims.remove(&id);
        self.leases.push(id);
        assert!(self.leases.len() <= self.limit);
        let woken = self.line.leave(id);
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
                self.line.next_moment();
                self.line.arrive(id, second(self.now), wants());
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
                    let woken = self.line.leave(id);
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
                self.line.begin();
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
        prop_assert!(world.free() == 0 || waiting == 0, "{} free, {waiting} in line", world.free());
    }
}
