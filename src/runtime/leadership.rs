//! Leadership: keeps trying to hold the one row in Postgres that lets a replica write.
//!
//! The row's expiry is judged by the database's clock; this process only has to stop before it, so it counts on its own
//! monotonic clock from *before* each request was sent, less a margin. What is published here is an offer to work, never
//! the proof: each transaction proves its epoch by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::health::{DatabaseTrouble, Health};
use super::metrics::Metrics;
use crate::random;
use crate::store::{Leader, StoreError};

mod known;
mod standing;

pub use known::KnownLeader;
use standing::{Event, Standing};

/// Who leads, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadershipState {
    /// The row could not be read yet, or not any more.
    Unknown,
    /// Another replica leads.
    Following,
    /// This replica leads.
    Leading {
        /// The epoch of its term.
        epoch: i64,
    },
    /// This replica led until it could not renew its term. It grants and ends nothing, but it may still tell claims that
    /// wait that the store cannot be reached.
    Lapsed {
        /// The epoch of its last term.
        epoch: i64,
    },
}

/// What the rest of the process sees of leadership; cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<LeadershipState>,
    leader: watch::Receiver<Option<Leader>>,
    refusal: watch::Receiver<Option<String>>,
    deposed: watch::Sender<i64>,
}

impl Leadership {
    /// Why the database does not fit, a sentence; none while it does, or does not answer.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.borrow().clone()
    }

    /// The state, with a notice of each change.
    pub fn state(&self) -> watch::Receiver<LeadershipState> {
        self.state.clone()
    }

    /// The proof that a batch shows, while this replica leads; with a notice of each change.
    pub fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }

    /// A batch of this epoch found another leader: the term is over. A notice of an older term changes nothing.
    pub fn deposed(&self, epoch: i64) {
        self.deposed.send_if_modified(|latest| {
            let newer = epoch > *latest;
            if newer {
                *latest = epoch;
            }
            newer
        });
    }
}

/// What the loop asks of the leadership's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Begin a term if nobody's runs. Answered with the new term, or `None`.
    Acquire,
    /// Prolong the term. Answered with it, or `None` if another one runs.
    Renew(Leader),
    /// End the term at once, for a follower to begin its own. The answer is not read.
    Release(Leader),
}

/// The loop behind [`Leadership`].
#[derive(Debug)]
pub struct Campaign {
    expiry: Duration,
    standing: Standing,
    state: watch::Sender<LeadershipState>,
    leader: watch::Sender<Option<Leader>>,
    refusal: watch::Sender<Option<String>>,
    deposed: watch::Receiver<i64>,
    health: Health,
    metrics: Arc<Metrics>,
}

/// How long a stopping leader waits for its row to be given up; a lost release costs the followers one expiry.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

impl Campaign {
    /// A loop that has asked nothing yet, and its handle. `expiry` is that of the row.
    pub fn new(expiry: Duration, health: Health, metrics: Arc<Metrics>) -> (Self, Leadership) {
        let (state, state_receiver) = watch::channel(LeadershipState::Unknown);
        let (leader, leader_receiver) = watch::channel(None);
        let (refusal, refusal_receiver) = watch::channel(None);
        let (deposed, deposed_receiver) = watch::channel(0);
        let leadership = Leadership {
            state: state_receiver,
            leader: leader_receiver,
            refusal: refusal_receiver,
            deposed,
        };
        let standing = Standing::Unknown;
        (
            Self {
                expiry,
                standing,
                state,
                leader,
                refusal,
                deposed: deposed_receiver,
                health,
                metrics,
            },
            leadership,
        )
    }

    /// Acquires, renews and acquires again until `stop`, then gives up the term. `ask` does one request; it is dropped
    /// when its answer would come too late.
    pub async fn run<Asked>(mut self, ask: impl Fn(Request) -> Asked, stop: CancellationToken)
    where
        Asked: Future<Output = Result<Option<Leader>, StoreError>>,
    {
        let mut pause = Duration::ZERO;
        while self.wait(pause, &stop).await {
            let asked_at = Instant::now();
            let request = self
                .standing
                .leader()
                .map_or(Request::Acquire, |leader| Request::Renew(leader.clone()));
            let left = self
                .standing
                .until()
                .map_or(Duration::MAX, |until| until.duration_since(asked_at));
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                answer = timeout(left.min(self.expiry / 3), ask(request)) => answer,
            };
            let event = match answer {
                Ok(Ok(Some(leader))) => Event::Held { leader, asked_at },
                Ok(Ok(None)) => Event::Refused,
                Ok(Err(StoreError::Unfit(sentence))) => self.failed(DatabaseTrouble::Unfit(sentence)),
                Ok(Err(error)) => self.failed(DatabaseTrouble::Unreachable(error.to_string())),
                Err(_) => self.failed(DatabaseTrouble::Unreachable("no answer in time".into())),
            };
            if event != Event::Unreachable {
                self.refusal.send_replace(None);
                self.health.set_database(Ok(()));
            }
            pause = self.pause_after(&event);
            self.apply(event);
        }
        if let Some(leader) = self.standing.leader().cloned() {
            // Nobody may use the term from here on, so it ends here before it ends there.
            self.apply(Event::Refused);
            match timeout(RELEASE_TIMEOUT, ask(Request::Release(leader))).await {
                Ok(Ok(_)) => tracing::info!("leadership given up"),
                Ok(Err(error)) => tracing::warn!(%error, "leadership could not be given up and will expire"),
                Err(_) => tracing::warn!("leadership could not be given up in time and will expire"),
            }
        }
    }

    /// The loop asks every few seconds anyway, so readiness learns from it whether the database answers.
    fn failed(&self, trouble: DatabaseTrouble) -> Event {
        tracing::warn!(error = trouble.sentence(), "leadership could not be asked for");
        self.refusal.send_replace(match &trouble {
            DatabaseTrouble::Unfit(sentence) => Some(sentence.clone()),
            DatabaseTrouble::Unreachable(_) => None,
        });
        self.health.set_database(Err(trouble));
        Event::Unreachable
    }

    /// Waits for the next request, and steps down meanwhile when told so or when the term passes. `false`: stop.
    async fn wait(&mut self, pause: Duration, stop: &CancellationToken) -> bool {
        let next = Instant::now() + pause;
        loop {
            // A process that was stopped for a while wakes up here: its term may have passed meanwhile.
            self.apply(Event::Passed);
            let epoch = tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                Ok(()) = self.deposed.changed() => *self.deposed.borrow_and_update(),
                () = sleep(next.saturating_duration_since(Instant::now())) => {
                    self.apply(Event::Passed);
                    return true;
                }
            };
            self.apply(Event::Deposed { epoch });
        }
    }

    /// A third of the expiry, so that two renewals may be lost; a fifteenth where there was no answer. Jitter keeps
    /// followers that started together from asking together.
    fn pause_after(&self, event: &Event) -> Duration {
        let pause = if *event == Event::Unreachable {
            self.expiry / 15
        } else {
            self.expiry / 3
        };
        random::jitter(pause, 0.8)
    }

    fn apply(&mut self, event: Event) {
        let standing = std::mem::replace(&mut self.standing, Standing::Unknown);
        self.standing = standing.next(event, self.expiry, Instant::now());
        let state = self.standing.state();
        // The leader first: whoever hears that this replica leads finds the proof.
        let leader = self.standing.leader();
        self.leader.send_if_modified(|published| {
            let changed = published.as_ref() != leader;
            if changed {
                *published = leader.cloned();
            }
            changed
        });
        let changed = self
            .state
            .send_if_modified(|published| std::mem::replace(published, state) != state);
        if changed {
            tracing::info!(?state, "leadership changed");
            self.health.set_leadership(state);
            self.metrics
                .replica
                .set_leading(matches!(state, LeadershipState::Leading { .. }));
        }
    }
}

#[cfg(test)]
mod tests;
