//! The pure part of leadership: where this replica stands, and what an event makes of it.

use std::time::Duration;

use tokio::time::Instant;

use super::LeadershipState;
use crate::store::Leader;

/// Where this replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
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
    /// The row is another's, or will not be ours any more.
    Refused,
    /// There was no answer.
    Unreachable,
    /// Time passed.
    Passed,
    /// A batch of this epoch found another leader.
    Deposed { epoch: i64 },
}

impl Standing {
    /// The standing after an event; `expiry` is the row's, counted by the database from when it got the request.
    pub(super) fn next(self, event: Event, expiry: Duration, now: Instant) -> Self {
        match (self, event) {
            // The margin leaves room for an API write that follows the last transaction.
            (_, Event::Held { leader, asked_at }) => Self::Leading {
                leader,
                until: asked_at + expiry * 4 / 5,
            }
            .unless_passed(now),
            (_, Event::Refused) => Self::Following,
            (Self::Leading { leader, .. }, Event::Deposed { epoch }) if leader.epoch == epoch => Self::Following,
            // Who leads cannot be known while the row cannot be read.
            (Self::Following, Event::Unreachable) => Self::Unknown,
            (standing, Event::Unreachable | Event::Passed | Event::Deposed { .. }) => standing.unless_passed(now),
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
            standing => standing,
        }
    }
}
