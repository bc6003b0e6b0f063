//! The line of the claims for which a limited environment has no room. Pure.
//!
//! Every claim that the feeds show is known here from that moment on, so that none is overtaken only because it has not been
//! looked at yet. A claim that nothing else holds back stands in the line of its environment, in the order of the [`Turn`]s;
//! one that is held back stands aside and keeps its turn. How many leases are free is not kept here: who is looked at learns
//! it from the database.
//!
//! Operations that may let others move up say who has to be looked at. Whoever is first learns of a free lease when one ends,
//! and whoever is granted wakes as many as are free after that; so no lease stays free while somebody stands in line.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::lifecycle::Turn;

/// How often the sentence of one claim that waits for room is rewritten at most.
const RETELL_INTERVAL: Duration = Duration::from_secs(60);

/// The claims, and who stands where.
#[derive(Debug, Default)]
pub struct Line {
    claims: HashMap<Uuid, Claim>,
    /// Who stands in line, by the environment's row.
    lines: HashMap<Uuid, BTreeSet<Turn>>,
    undecided: BTreeSet<Turn>,
    /// Those who stand in line and wait for an older claim to be looked at.
    in_doubt: BTreeSet<Turn>,
    moment: u64,
}

#[derive(Debug)]
struct Claim {
    turn: Turn,
    standing: Standing,
    told_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not looked at since this replica leads: it may be first in any line.
    Undecided,
    /// Something else holds it back, or its environment is not limited.
    Aside,
    /// In the line of this environment's row.
    In(Uuid),
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of the free leases is for it.
    Served,
    /// Only if the older claims that have not been looked at yet leave one.
    InDoubt,
    /// At this place, from 1.
    Waits(usize),
}

impl Line {
    /// Something new is seen: claims that arrive from here on come after those before, if they are of one second.
    pub fn next_moment(&mut self) {
        self.moment += 1;
    }

    /// A claim is seen; one that is known keeps its turn.
    pub fn arrive(&mut self, id: Uuid, created_at: Timestamp) {
        let turn = Turn {
            created_at,
            seen: self.moment,
            id,
        };
        self.claims.entry(id).or_insert_with(|| {
            self.undecided.insert(turn);
            Claim {
                turn,
                standing: Standing::Undecided,
                told_at: None,
            }
        });
    }

    /// This replica begins to lead: no claim has been looked at.
    pub fn begin(&mut self) {
        self.lines.clear();
        self.in_doubt.clear();
        for claim in self.claims.values_mut() {
            claim.standing = Standing::Undecided;
            claim.told_at = None;
            self.undecided.insert(claim.turn);
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
        self.move_to(id, Standing::Aside)
    }

    /// Nothing else holds the claim back: it stands in the line of this environment. Who has to be looked at now.
    pub fn stand(&mut self, id: Uuid, created_at: Timestamp, environment: Uuid) -> Vec<Uuid> {
        self.arrive(id, created_at);
        let woken = self.move_to(id, Standing::In(environment));
        if let Some(claim) = self.claims.get(&id) {
            self.lines.entry(environment).or_default().insert(claim.turn);
        }
        woken
    }

    /// The place of a claim that stands in the line of an environment with so many free leases.
    pub fn place(&mut self, id: Uuid, environment: Uuid, free: usize) -> Place {
        let (Some(claim), Some(line)) = (self.claims.get(&id), self.lines.get(&environment)) else {
            return Place::InDoubt;
        };
        let ahead = line.range(..claim.turn).count();
        if ahead >= free {
            return Place::Waits(ahead + 1);
        }
        let doubtful = self.undecided.range(..claim.turn).take(free - ahead).count();
        if ahead + doubtful >= free {
            self.in_doubt.insert(claim.turn);
            return Place::InDoubt;
        }
        Place::Served
    }

    /// The first claims in the line of an environment.
    pub fn first(&self, environment: Uuid, count: usize) -> Vec<Uuid> {
        let line = self.lines.get(&environment).into_iter().flatten();
        line.take(count).map(|turn| turn.id).collect()
    }

    /// The turn of a claim.
    pub fn turn(&self, id: Uuid) -> Option<Turn> {
        self.claims.get(&id).map(|claim| claim.turn)
    }

    /// Whether the sentence of a claim may be written now. `shown`: it shows another one already, written by whomever.
    pub fn may_tell(&mut self, id: Uuid, shown: bool, now: Instant) -> bool {
        let Some(claim) = self.claims.get_mut(&id) else {
            return !shown;
        };
        let due = claim.told_at.map(|told| now.duration_since(told) >= RETELL_INTERVAL);
        let may = !shown || due == Some(true);
        if may || due.is_none() {
            claim.told_at = Some(now);
        }
        may
    }

    fn move_to(&mut self, id: Uuid, standing: Standing) -> Vec<Uuid> {
        let Some(claim) = self.claims.get_mut(&id) else {
            return Vec::new();
        };
        let before = Claim {
            standing: std::mem::replace(&mut claim.standing, standing),
            ..*claim
        };
        if before.standing == standing {
            return Vec::new();
        }
        self.vacate(&before)
    }

    /// Takes a claim away from where it stood; who may move up.
    fn vacate(&mut self, claim: &Claim) -> Vec<Uuid> {
        self.in_doubt.remove(&claim.turn);
        match claim.standing {
            Standing::Aside => Vec::new(),
            Standing::Undecided => {
                self.undecided.remove(&claim.turn);
                self.no_longer_in_doubt()
            }
            Standing::In(environment) => {
                if let Some(line) = self.lines.get_mut(&environment) {
                    line.remove(&claim.turn);
                    if line.is_empty() {
                        self.lines.remove(&environment);
                    }
                }
                self.first(environment, 1)
            }
        }
    }

    fn no_longer_in_doubt(&mut self) -> Vec<Uuid> {
        let still = match self.undecided.first() {
            Some(oldest) => self.in_doubt.split_off(oldest),
            None => BTreeSet::new(),
        };
        let woken = std::mem::replace(&mut self.in_doubt, still);
        woken.into_iter().map(|turn| turn.id).collect()
    }
}

#[cfg(test)]
mod tests;
