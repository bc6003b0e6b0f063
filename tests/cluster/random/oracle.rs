//! What may have become of a lease, told from its history alone by the very decision that the operator decides with.
//!
//! When the operator looks is not known, for it is killed, started again and busy: so every order is tried in which the
//! changes can have come to pass, with a look or none between any two of them. What is not reached that way is a fault; and
//! since all paths end with looks until nothing moves any more, a lease that ought to have ended is one as well.

use std::collections::BTreeSet;

use environment_operator::api::{LeasePolicy, Reason};
use environment_operator::lifecycle::capacity::Capacity;
use environment_operator::lifecycle::lease::{Decision, Environment, Facts, Object, Row, Run, decide};
use environment_operator::lifecycle::{Ending, LeaseState, RunOutcome};
use jiff::Timestamp;

/// A lease, and everything that was done to it or to what it depends on.
#[derive(Clone, Debug)]
pub struct History {
    pub run: RunOf,
    pub policy: LeasePolicy,
    /// How messages call the run.
    pub run_display: Option<String>,
    /// How a claim calls its run that is not there.
    pub run_named: Option<String>,
    /// The name of the environment's row.
    pub environment: String,
    /// Its environment admits a number of leases at a time.
    pub limited: bool,
    pub changes: Vec<Happened>,
}

/// What the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOf {
    None,
    Row,
    Object,
}

/// Something that has happened, not before `from` and not after `until`.
#[derive(Clone, Debug)]
pub struct Happened {
    pub change: Change,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// Something that can happen to a lease or to what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    RunOver(RunOutcome),
    RunGone,
    ReleaseRequested,
    ObjectDeleted,
    EnvironmentDeleted,
    /// Another writer has ended the active row: certainly, it counted the rows that it changed.
    RowEnded(LeaseState),
    /// Another writer has deleted the row: certainly as well.
    RowDeleted,
    /// `expiresAt` has passed.
    Expired,
    /// The claim has waited for as long as it may.
    AcquireTimedOut,
    /// The heartbeat's timeout may have passed: only the operator knows since when it has heard none.
    HeartbeatMissed,
}

/// What has become of a lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was deleted before it was granted.
    Nothing,
    /// It waits for its grant.
    Waiting,
    /// It was never granted, and never will be.
    Refused(Reason),
    /// It is held.
    Held,
    /// It has ended, or is retained: status, reason and message.
    Ended(LeaseState, Reason, String),
}

impl History {
    /// Everything that may have become of the lease.
    pub fn outcomes(&self) -> BTreeSet<Outcome> {
        let mut search = Search {
            history: self,
            seen: Vec::new(),
            outcomes: BTreeSet::new(),
        };
        search.visit(State {
            happened: 0,
            row: Row::Never,
            refused: None,
        });
        search.outcomes
    }

    fn facts(&self, state: &State, waits_for_slot: bool, outcome_seen: bool) -> Facts {
        let has = |change| state.has(self, change);
        let outcome = self.changes.iter().enumerate().find_map(|(place, happened)| {
            let Change::RunOver(outcome) = happened.change else {
                return None;
            };
            state.has_place(place).then_some(outcome)
        });
        let granted = state.row != Row::Never;
        let run = match (self.run, has(Change::RunGone), outcome) {
            (RunOf::None, _, _) => Run::None,
            // What is gone from the table took its outcome along; an object's is remembered by whoever saw it in time.
            (RunOf::Object, true, Some(outcome)) if outcome_seen => Run::Over(outcome),
            (RunOf::Object, true, _) if granted => Run::Gone,
            (_, true, _) => Run::NotFound,
            (_, false, Some(outcome)) => Run::Over(outcome),
            (_, false, None) => Run::Live,
        };
        let environment_gone = has(Change::EnvironmentDeleted);
        Facts {
            object: if has(Change::ObjectDeleted) {
                Object::Deleted
            } else {
                Object::Present {
                    release: has(Change::ReleaseRequested),
                    deleting: false,
                    shown: None,
                }
            },
            row: state.row.clone(),
            run,
            environment: match (environment_gone, granted) {
                (false, _) => Environment::Active,
                (true, true) => Environment::Deleted,
                (true, false) => Environment::NotFound,
            },
            namespace_terminating: false,
            obstacle: None,
            capacity: if waits_for_slot {
                Capacity::Full("full".to_owned())
            } else {
                Capacity::Free
            },
            policy: self.policy,
            run_display: self.run_display.clone(),
            run_named: self.run_named.clone(),
            environment_display: self.environment.clone(),
            expired: has(Change::Expired),
            heartbeat_missed: has(Change::HeartbeatMissed),
            acquire_timed_out: has(Change::AcquireTimedOut),
        }
    }
}

/// How far a history has come on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// One bit for each change.
    happened: u32,
    row: Row,
    refused: Option<Reason>,
}

impl State {
    fn has_place(&self, place: usize) -> bool {
        self.happened & (1 << place) != 0
    }

    fn has(&self, history: &History, change: Change) -> bool {
        let mut places = history.changes.iter().enumerate();
        places.any(|(place, happened)| happened.change == change && self.has_place(place))
    }
}

struct Search<'a> {
    history: &'a History,
    seen: Vec<State>,
    outcomes: BTreeSet<Outcome>,
}

impl Search<'_> {
    fn visit(&mut self, state: State) {
        if self.seen.contains(&state) {
            return;
        }
        self.seen.push(state.clone());
        let looks = self.looks(&state);
        // A claim may find its environment full to the end, an object's run may have ended unseen.
        let unmoved = looks.contains(&state);
        for after in looks {
            self.visit(after);
        }
        let next = self.next(&state);
        if next.is_empty() && state.happened.count_ones() as usize == self.history.changes.len() && unmoved {
            let outcome = self.outcome(&state);
            self.outcomes.insert(outcome);
        }
        for after in next {
            self.visit(after);
        }
    }

    /// The states after one more change: any that need not come after another that has not come yet.
    fn next(&self, state: &State) -> Vec<State> {
        let changes = &self.history.changes;
        let open = || changes.iter().enumerate().filter(|(place, _)| !state.has_place(*place));
        let first = open().filter(|(_, one)| open().all(|(_, other)| one.from <= other.until));
        first
            .filter_map(|(place, one)| happen(state, place, one.change))
            .collect()
    }

    /// The states after one look, as the operator may find things at that moment.
    fn looks(&self, state: &State) -> Vec<State> {
        if state.refused.is_some() {
            return vec![state.clone()];
        }
        let waits = [false, self.history.limited];
        let seen = [false, true];
        let looks = waits.into_iter().flat_map(|waits| seen.map(|seen| (waits, seen)));
        looks
            .map(|(waits, seen)| {
                let facts = self.history.facts(state, waits, seen);
                let mut after = state.clone();
                match decide(&facts) {
                    Decision::Grant => {
                        after.row = Row::Present {
                            state: LeaseState::Active,
                            recorded: None,
                        }
                    }
                    Decision::Refuse(reason, _) => after.refused = Some(reason),
                    Decision::End(ending) => after.row = ended(ending),
                    Decision::Follow { ending, record: true } => {
                        after.row = match after.row {
                            Row::Present { state, .. } => Row::Present {
                                state,
                                recorded: Some(ending),
                            },
                            Row::Never | Row::Lost | Row::Deleted { .. } => Row::Deleted { recorded: Some(ending) },
                        }
                    }
                    _ => {}
                }
                after
            })
            .collect()
    }

    fn outcome(&self, state: &State) -> Outcome {
        match (&state.row, state.refused) {
            (_, Some(reason)) => Outcome::Refused(reason),
            (Row::Never, None) if state.has(self.history, Change::ObjectDeleted) => Outcome::Nothing,
            (Row::Never, None) => Outcome::Waiting,
            (Row::Lost, None) => unreachable!("no history restores the database"),
            (
                Row::Present {
                    state: LeaseState::Active,
                    ..
                },
                None,
            ) => Outcome::Held,
            (Row::Present { recorded, .. } | Row::Deleted { recorded }, None) => {
                let ending = recorded.clone().expect("a look records what another writer has ended");
                Outcome::Ended(ending.state, ending.reason, ending.message)
            }
        }
    }
}

fn ended(ending: Ending) -> Row {
    Row::Present {
        state: ending.state,
        recorded: Some(ending),
    }
}

/// `None` where this change can't have happened on this path.
fn happen(state: &State, place: usize, change: Change) -> Option<State> {
    let mut after = state.clone();
    after.happened |= 1 << place;
    match (change, &mut after.row) {
        (
            Change::RowEnded(to),
            Row::Present {
                state: state @ LeaseState::Active,
                ..
            },
        ) => *state = to,
        (Change::RowEnded(_), _) | (Change::RowDeleted, Row::Never | Row::Deleted { .. }) => return None,
        (Change::RowDeleted, Row::Present { recorded, .. }) => {
            after.row = Row::Deleted {
                recorded: recorded.take(),
            };
        }
        _ => {}
    }
    Some(after)
}
