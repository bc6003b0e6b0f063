//! The wait queue of the claims for which a limited environment has no room. Pure.
//!
//! Every claim that the watches show is known here from then on, so that none is overtaken only because it has not been
//! reconciled yet. A claim that nothing else holds back stands in the wait queue of its environment, in the order of the [`Turn`]s;
//! one that is held back stands aside and keeps its turn. How many leases are free is not kept here: a reconcile reads
//! it from the database.
//!
//! Operations that may let others move up return the claims that have to be reconciled. The first one is reconciled when a lease
//! ends, and a grant adds as many more as are free after it; so no lease stays free while somebody stands in the wait queue.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::Reason;
use crate::cache::Wants;
use crate::lifecycle::Turn;
use crate::lifecycle::capacity::is_news;

/// After how long a claim that still waits for the same says so in a warning.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// The claims, and who stands where.
#[derive(Debug, Default)]
pub struct WaitQueue {
    claims: HashMap<Uuid, Claim>,
    /// Who stands in the wait queue, by the environment's row.
    lines: HashMap<Uuid, BTreeSet<Turn>>,
    /// Those who have not been looked at, by what they may be for.
    undecided: HashMap<Wants, BTreeSet<Turn>>,
    /// Those who stand in the wait queue and wait for an older claim to be looked at, by what that may be for.
    in_doubt: HashMap<Wants, BTreeSet<Turn>>,
    moment: u64,
}

#[derive(Debug)]
struct Claim {
    turn: Turn,
    wants: Wants,
    eligibility: Eligibility,
    /// The claims that are for these are waited for.
    doubts: Vec<Wants>,
    told_at: Option<Instant>,
    /// For what it waits since when, where a long wait for that is worth a warning.
    waits_for: Option<(Reason, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eligibility {
    /// Not looked at since this replica leads: it may be first in the wait queue of whatever it wants.
    Undecided,
    /// Something else holds it back, or its environment is not limited.
    Aside,
    /// In the wait queue of this environment's row.
    In(Uuid),
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// One of the free leases is for it.
    Served,
    /// Only if the older claims that may be for this environment, and have not been looked at yet, leave one.
    InDoubt,
    /// At this place, from 1.
    Waits(usize),
}

impl WaitQueue {
    /// Something new is seen: claims that arrive from here on come after those before, if they are of one second.
    pub fn next_moment(&mut self) {
        self.moment += 1;
    }

    /// A claim is seen; one that is known keeps its turn.
    pub fn arrive(&mut self, id: Uuid, created_at: Timestamp, wants: Wants) {
        let turn = Turn {
            created_at,
            seen: self.moment,
            id,
        };
        if let Entry::Vacant(place) = self.claims.entry(id) {
            self.undecided.entry(wants.clone()).or_default().insert(turn);
            place.insert(Claim {
                turn,
                wants,
                eligibility: Eligibility::Undecided,
                doubts: Vec::new(),
                told_at: None,
                waits_for: None,
            });
        }
    }

    /// What a claim may be for has become known better. Whoever waits for it to be looked at goes on waiting for that.
    pub fn want(&mut self, id: Uuid, wants: Wants) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        let before = std::mem::replace(&mut claim.wants, wants.clone());
        if before != wants && claim.eligibility == Eligibility::Undecided {
            let turn = claim.turn;
            take_from(&mut self.undecided, &before, turn);
            self.undecided.entry(wants.clone()).or_default().insert(turn);
            let waiting = self.in_doubt.get(&before).cloned().unwrap_or_default();
            for waiting in waiting.range((Bound::Excluded(turn), Bound::Unbounded)) {
                if let Some(claim) = self.claims.get_mut(&waiting.id) {
                    claim.doubts.push(wants.clone());
                    self.in_doubt.entry(wants.clone()).or_default().insert(*waiting);
                }
            }
        }
    }

    /// This replica begins to lead: no claim has been looked at.
    pub fn begin(&mut self) {
        self.lines.clear();
        self.in_doubt.clear();
        for claim in self.claims.values_mut() {
            claim.eligibility = Eligibility::Undecided;
            claim.doubts.clear();
            claim.told_at = None;
            let undecided = self.undecided.entry(claim.wants.clone()).or_default();
            undecided.insert(claim.turn);
        }
    }

    /// It is no claim any more: granted, failed or deleted. Who has to be looked at now.
    pub fn leave(&mut self, id: Uuid) -> Vec<Uuid> {
        let Some(claim) = self.claims.remove(&id) else {
            return Vec::new();
        };
        self.vacate(&claim)
    }

    /// Something else holds the claim back. Who has to be looked at now.
    pub fn stand_aside(&mut self, id: Uuid) -> Vec<Uuid> {
        self.move_to(id, Eligibility::Aside)
    }

    /// Nothing else holds the claim back: it stands in the wait queue of this environment. Who has to be looked at now.
    pub fn stand(&mut self, id: Uuid, environment: Uuid) -> Vec<Uuid> {
        let woken = self.move_to(id, Eligibility::In(environment));
        if let Some(claim) = self.claims.get(&id) {
            self.lines.entry(environment).or_default().insert(claim.turn);
        }
        woken
    }

    /// The place of a claim that stands in the wait queue of an environment with so many free leases. `wants`: what claims want that
    /// may be for this environment.
    pub fn place(&mut self, id: Uuid, environment: Uuid, free: usize, wants: Vec<Wants>) -> Position {
        let (Some(claim), Some(wait_queue)) = (self.claims.get_mut(&id), self.lines.get(&environment)) else {
            return Position::InDoubt;
        };
        let turn = claim.turn;
        for doubt in std::mem::take(&mut claim.doubts) {
            take_from(&mut self.in_doubt, &doubt, turn);
        }
        let ahead = wait_queue.range(..turn).count();
        if ahead >= free {
            return Position::Waits(ahead + 1);
        }
        let left = free - ahead;
        let older = |wants: &Wants| {
            let undecided = self.undecided.get(wants);
            undecided.map_or(0, |undecided| undecided.range(..turn).take(left).count())
        };
        let doubts: Vec<(Wants, usize)> = wants
            .into_iter()
            .map(|wants| (older(&wants), wants))
            .filter(|(older, _)| *older > 0)
            .map(|(older, wants)| (wants, older))
            .collect();
        if doubts.iter().map(|(_, older)| older).sum::<usize>() < left {
            return Position::Served;
        }
        claim.doubts = doubts.into_iter().map(|(wants, _)| wants).collect();
        for doubt in &claim.doubts {
            self.in_doubt.entry(doubt.clone()).or_default().insert(turn);
        }
        Position::InDoubt
    }

    /// The first claims in the wait queue of an environment.
    pub fn first(&self, environment: Uuid, count: usize) -> Vec<Uuid> {
        let wait_queue = self.lines.get(&environment).into_iter().flatten();
        wait_queue.take(count).map(|turn| turn.id).collect()
    }

    /// The turn of a claim.
    pub fn turn(&self, id: Uuid) -> Option<Turn> {
        self.claims.get(&id).map(|claim| claim.turn)
    }

    /// Whether the sentence of a claim may be written now: `interval` after the last one at the earliest. `shown`: it shows another
    /// one already; who wrote that, and when, is only known of this leadership.
    pub fn may_tell(&mut self, id: Uuid, shown: bool, interval: Duration, now: Instant) -> bool {
        let Some(claim) = self.claims.get_mut(&id) else {
            return !shown;
        };
        let may = !shown || claim.told_at.is_none_or(|told| now.duration_since(told) >= interval);
        if may {
            claim.told_at = Some(now);
        }
        may
    }

    /// It was said that a claim waits for this, and nothing that anybody has to look at if it passes soon.
    pub fn note_wait(&mut self, id: Uuid, reason: Reason, now: Instant) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.waits_for = Some((reason, now));
        }
    }

    /// Whether a claim has waited for this for so long that somebody should look; said once.
    pub fn has_waited_long(&mut self, id: Uuid, reason: Reason, now: Instant) -> bool {
        let Some(claim) = self.claims.get_mut(&id) else {
            return false;
        };
        let long = |(of, since): (Reason, Instant)| of == reason && now.duration_since(since) >= LONG_WAIT;
        claim.waits_for.take_if(|wait| long(*wait)).is_some()
    }

    fn move_to(&mut self, id: Uuid, eligibility: Eligibility) -> Vec<Uuid> {
        let Some(claim) = self
            .claims
            .get_mut(&id)
            .filter(|claim| claim.eligibility != eligibility)
        else {
            return Vec::new();
        };
        let before = Claim {
            turn: claim.turn,
            wants: claim.wants.clone(),
            eligibility: std::mem::replace(&mut claim.eligibility, eligibility),
            doubts: std::mem::take(&mut claim.doubts),
            told_at: claim.told_at,
            waits_for: claim.waits_for,
        };
        self.vacate(&before)
    }

    /// Takes a claim away from where it stood; who may move up.
    fn vacate(&mut self, claim: &Claim) -> Vec<Uuid> {
        for doubt in &claim.doubts {
            take_from(&mut self.in_doubt, doubt, claim.turn);
        }
        match claim.eligibility {
            Eligibility::Aside => Vec::new(),
            Eligibility::Undecided => {
                take_from(&mut self.undecided, &claim.wants, claim.turn);
                self.no_longer_in_doubt(&claim.wants)
            }
            Eligibility::In(environment) => {
                take_from(&mut self.lines, &environment, claim.turn);
                let wait_queue = self.lines.get(&environment).into_iter().flatten().zip(1..);
                let moved_up = wait_queue.filter(|(turn, place)| *place == 1 || *turn > &claim.turn && is_news(*place));
                moved_up.map(|(turn, _)| turn.id).collect()
            }
        }
    }

    fn no_longer_in_doubt(&mut self, wants: &Wants) -> Vec<Uuid> {
        let Some(waiting) = self.in_doubt.get_mut(wants) else {
            return Vec::new();
        };
        let oldest = self.undecided.get(wants).and_then(BTreeSet::first);
        let still = oldest.map(|oldest| waiting.split_off(oldest)).unwrap_or_default();
        let woken = std::mem::replace(waiting, still);
        if waiting.is_empty() {
            self.in_doubt.remove(wants);
        }
        woken.into_iter().map(|turn| turn.id).collect()
    }

    /// How much is remembered.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        let of =
            |turns: &HashMap<Wants, BTreeSet<Turn>>| turns.values().map(BTreeSet::len).sum::<usize>() + turns.len();
        let lines: usize = self.lines.values().map(BTreeSet::len).sum();
        self.claims.len() + self.lines.len() + lines + of(&self.undecided) + of(&self.in_doubt)
    }
}

/// Takes a turn away, and its set where it was the last one.
fn take_from<K: Eq + Hash>(sets: &mut HashMap<K, BTreeSet<Turn>>, key: &K, turn: Turn) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&turn);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
