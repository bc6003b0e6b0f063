//! The pure part of leadership: where this replica stands, and what an event makes of it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, LeadershipState};
use crate::runtime::health::DatabaseTrouble;
use crate::store::{Leader, StoreError};

/// Where this replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeaderState {
    Unknown,
    Following,
    /// May work until `until`, which lies before the row's expiry.
    Leading {
        leader: Leader,
        until: Instant,
    },
    Lapsed {
        epoch: i64,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The row is ours, by a request that was sent at `asked_at`.
    Held { leader: Leader, asked_at: Instant },
    /// Another one's term runs, for so long yet.
    Refused { left: Duration },
    /// Nobody's term runs.
    Vacant,
    /// There was no answer.
    Unreachable,
    /// The database answers, and does not fit.
    Unfit,
    /// Time passed.
    Passed,
    /// A batch of this epoch found another leader.
    Deposed { epoch: i64 },
}

/// What an answer of the row means, and what is wrong with the database if it is no answer.
pub(super) fn heard(answer: &Result<Answer, StoreError>, asked_at: Instant) -> (Event, Option<DatabaseTrouble>) {
    match answer {
        Ok(Answer::Held(leader)) => {
            let leader = leader.clone();
            (Event::Held { leader, asked_at }, None)
        }
        Ok(Answer::Led { left }) => (Event::Refused { left: *left }, None),
        Ok(Answer::Vacant) => (Event::Vacant, None),
        // What is suspect of the look itself is its answer.
        Err(StoreError::Unfit(sentence) | StoreError::Suspect(sentence)) => {
            (Event::Unfit, Some(DatabaseTrouble::Unfit(sentence.clone())))
        }
        Err(error) => (
            Event::Unreachable,
            Some(DatabaseTrouble::Unreachable(error.to_string())),
        ),
    }
}

impl LeaderState {
    /// The leader state after an event; `expiry` is the row's, counted by the database from when it got the request.
    pub(super) fn next(self, event: Event, expiry: Duration, now: Instant) -> Self {
        match (self, event) {
            // The margin leaves room for an API write that follows the last transaction.
            (_, Event::Held { leader, asked_at }) => Self::Leading {
                leader,
                until: asked_at + expiry * 4 / 5,
            }
            .unless_passed(now),
            (_, Event::Refused { .. }) => Self::Following,
            (_, Event::Vacant) => Self::Unknown,
            // At once: whatever a statement would still do, it would do to a database that is refused.
            (Self::Leading { leader, .. }, Event::Unfit) => Self::Lapsed { epoch: leader.epoch },
            (Self::Leading { leader, .. }, Event::Deposed { epoch }) if leader.epoch == epoch => Self::Following,
            // Who leads cannot be known while the row cannot be read.
            (Self::Following, Event::Unreachable | Event::Unfit) => Self::Unknown,
            (leader_state, Event::Unreachable | Event::Unfit | Event::Passed | Event::Deposed { .. }) => {
                leader_state.unless_passed(now)
            }
        }
    }

    /// The term in which this replica may work.
    pub(super) fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Leading { leader, .. } => Some(leader),
            Self::Unknown | Self::Following | Self::Lapsed { .. } => None,
        }
    }

    /// When it must have stopped.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::Leading { until, .. } => Some(*until),
            Self::Unknown | Self::Following | Self::Lapsed { .. } => None,
        }
    }

    /// What the others are told.
    pub(super) fn state(&self) -> LeadershipState {
        match self {
            Self::Unknown => LeadershipState::Unknown,
            Self::Following => LeadershipState::Following,
            Self::Leading { leader, .. } => LeadershipState::Leading { epoch: leader.epoch },
            Self::Lapsed { epoch } => LeadershipState::Lapsed { epoch: *epoch },
        }
    }

    fn unless_passed(self, now: Instant) -> Self {
        match self {
            Self::Leading { leader, until } if now >= until => Self::Lapsed { epoch: leader.epoch },
            leader_state => leader_state,
        }
    }
}
