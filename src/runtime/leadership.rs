//! Leadership: keeps trying to hold the one row in Postgres that lets a replica write.
//!
//! The row's expiry is judged by the database's clock; this process only has to stop before it, so it counts on its own
//! monotonic clock from *before* each request was sent, less a margin. What is published here is an offer to work, never
//! the proof: each transaction proves its epoch by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::health::{DatabaseTrouble, Health};
use super::metrics::Metrics;
use crate::random;
use crate::store::{Leader, StoreError};

mod known;
mod leader_state;
mod look;

pub use known::KnownLeader;
use leader_state::{Event, LeaderState};
use look::Look;

pub use super::leadership_state::LeadershipState;

/// What the rest of the process sees of leadership; cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<LeadershipState>,
    leader: watch::Receiver<Option<Leader>>,
    refusal: watch::Receiver<Option<String>>,
    looks: watch::Receiver<Look>,
    look_now: Arc<Notify>,
    deposed: watch::Sender<i64>,
}

impl Leadership {
    /// Why the database does not fit, a sentence; none while it does, or does not answer. With a notice of each change.
    pub fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.refusal.clone()
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

/// What the leadership's row answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The term is this replica's.
    Held(Leader),
    /// Another replica's term runs.
    Led {
        /// For so long yet, unless it is prolonged.
        left: Duration,
    },
    /// Nobody's term runs, and none has begun.
    Vacant,
}

/// What the loop asks of the leadership's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Begin a term if nobody's runs. Answered with the new term, or with whose runs.
    Acquire,
    /// Prolong the term. Answered with it, or with whose runs.
    Renew(Leader),
    /// End the term at once, for a follower to begin its own. The answer is not read.
    Release(Leader),
}

/// The loop behind [`Leadership`].
#[derive(Debug)]
pub struct Elector {
    expiry: Duration,
    leader_state: LeaderState,
    state: watch::Sender<LeadershipState>,
    leader: watch::Sender<Option<Leader>>,
    refusal: watch::Sender<Option<String>>,
    looks: watch::Sender<Look>,
    look_now: Arc<Notify>,
    deposed: watch::Receiver<i64>,
    /// What was said last of a database that does not answer, or does not fit.
    trouble: Option<DatabaseTrouble>,
    health: Health,
    metrics: Arc<Metrics>,
}

/// How long a leader waits for its row to be given up; a lost release costs the followers one expiry.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

impl Elector {
    /// A loop that has asked nothing yet, and its handle. `expiry` is that of the row.
    pub fn new(expiry: Duration, health: Health, metrics: Arc<Metrics>) -> (Self, Leadership) {
        let (state, state_receiver) = watch::channel(LeadershipState::Unknown);
        let (leader, leader_receiver) = watch::channel(None);
        let (refusal, refusal_receiver) = watch::channel(None);
        let (looks, looks_receiver) = watch::channel(Look::default());
        let look_now = Arc::new(Notify::new());
        let (deposed, deposed_receiver) = watch::channel(0);
        let leadership = Leadership {
            state: state_receiver,
            leader: leader_receiver,
            refusal: refusal_receiver,
            looks: looks_receiver,
            look_now: Arc::clone(&look_now),
            deposed,
        };
        let leader_state = LeaderState::Unknown;
        (
            Self {
                expiry,
                leader_state,
                state,
                leader,
                refusal,
                looks,
                look_now,
                deposed: deposed_receiver,
                trouble: None,
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
        Asked: Future<Output = Result<Answer, StoreError>>,
    {
        let mut pause = Duration::ZERO;
        while self.wait(pause, &stop).await {
            let asked_at = Instant::now();
            let request = self
                .leader_state
                .leader()
                .map_or(Request::Acquire, |leader| Request::Renew(leader.clone()));
            let left = self
                .leader_state
                .until()
                .map_or(Duration::MAX, |until| until.duration_since(asked_at));
            self.looks.send_modify(Look::begin);
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                answer = timeout(left.min(self.expiry / 3), ask(request)) => answer,
            };
            let answer = answer.unwrap_or_else(|_| Err(look::no_answer()));
            let (event, trouble) = leader_state::heard(&answer, asked_at);
            self.note(trouble);
            pause = self.pause_after(&event);
            // A database that does not fit is not led from: whoever finds first that it does again need not wait for the term's end.
            let unfit = self.leader_state.leader().filter(|_| event == Event::Unfit).cloned();
            self.apply(event);
            self.looks.send_modify(|look| look.end(answer.map(drop)));
            if let Some(leader) = unfit {
                give_up(leader, &ask).await;
            }
        }
        if let Some(leader) = self.leader_state.leader().cloned() {
            // Nobody may use the term from here on, so it ends here before it ends there.
            self.apply(Event::Vacant);
            give_up(leader, &ask).await;
        }
    }

    /// The loop asks every few seconds anyway, so readiness learns from it whether the database answers, and the log each change.
    fn note(&mut self, trouble: Option<DatabaseTrouble>) {
        if self.trouble != trouble {
            match &trouble {
                Some(DatabaseTrouble::Unreachable(error)) => {
                    tracing::warn!(error, "the database does not answer as it should, trying again");
                }
                Some(DatabaseTrouble::Unfit(why)) => {
                    tracing::warn!(
                        why,
                        "the database is refused: nothing is granted or ended until it is mended"
                    );
                }
                None => tracing::info!("the database answers, and fits again"),
            }
        }
        let refusal = match &trouble {
            Some(DatabaseTrouble::Unfit(sentence)) => Some(sentence.clone()),
            Some(DatabaseTrouble::Unreachable(_)) | None => None,
        };
        self.refusal
            .send_if_modified(|published| std::mem::replace(published, refusal.clone()) != refusal);
        self.health.set_database(trouble.clone().map_or(Ok(()), Err));
        self.trouble = trouble;
    }

    /// Waits for the next request, and steps down meanwhile when told so or when the term passes. `false`: stop.
    async fn wait(&mut self, pause: Duration, stop: &CancellationToken) -> bool {
        let begun = Instant::now();
        let mut next = begun + pause;
        loop {
            // A process that was stopped for a while wakes up here: its term may have passed meanwhile.
            self.apply(Event::Passed);
            let epoch = tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                Ok(()) = self.deposed.changed() => *self.deposed.borrow_and_update(),
                // However many statements fail, the database is looked at about once a second.
                () = self.look_now.notified() => {
                    next = next.min(begun + self.soon());
                    continue;
                }
                () = sleep(next.saturating_duration_since(Instant::now())) => {
                    self.apply(Event::Passed);
                    return true;
                }
            };
            self.apply(Event::Deposed { epoch });
        }
    }

    /// A third of the expiry, so that two renewals may be lost, and no longer than another one's term runs; a fifteenth where there
    /// was no answer, or nobody leads. Jitter keeps followers that started together from asking together.
    fn pause_after(&self, event: &Event) -> Duration {
        let pause = match event {
            Event::Unreachable | Event::Unfit | Event::Vacant => self.soon(),
            Event::Refused { left } => (self.expiry / 3).min((*left).max(self.soon())),
            Event::Held { .. } | Event::Passed | Event::Deposed { .. } => self.expiry / 3,
        };
        random::jitter(pause, 0.8)
    }

    /// How soon the row may be asked for again.
    fn soon(&self) -> Duration {
        self.expiry / 15
    }

    fn apply(&mut self, event: Event) {
        let leader_state = std::mem::replace(&mut self.leader_state, LeaderState::Unknown);
        self.leader_state = leader_state.next(event, self.expiry, Instant::now());
        let state = self.leader_state.state();
        // The leader first: whoever hears that this replica leads finds the proof.
        let leader = self.leader_state.leader();
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

/// Ends a term in the database, so that the next one can begin before it would have passed.
async fn give_up<Asked>(leader: Leader, ask: &impl Fn(Request) -> Asked)
where
    Asked: Future<Output = Result<Answer, StoreError>>,
{
    match timeout(RELEASE_TIMEOUT, ask(Request::Release(leader))).await {
        Ok(Ok(_)) => tracing::info!("leadership given up"),
        Ok(Err(error)) => tracing::warn!(%error, "leadership could not be given up and will expire"),
        Err(_) => tracing::warn!("leadership could not be given up in time and will expire"),
    }
}

#[cfg(test)]
mod tests;
