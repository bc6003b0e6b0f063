//! Group commit: requests are gathered for a few milliseconds, carried out together, and answered one by one.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::store::{Leader, Request, Store, StoreError};

/// How long a batch waits for company after its first request.
const GATHER: Duration = Duration::from_millis(5);

/// Requests of one batch at most: beyond, the rows of runs stay locked for longer than others should wait.
const BATCH: usize = 200;

/// Requests that wait for a batch at most; whoever comes next waits to be let in.
const QUEUE: usize = 1000;

/// Longest time for one transaction, the way to the server included: above what the server itself allows a statement.
const LIMIT: Duration = Duration::from_secs(12);

/// Tries of a batch that another transaction was in the way of.
const TRIES: u32 = 3;

/// A failed transaction that took longer is slow: the server waited for a lock or broke off a statement.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// Slow failures among the parts of one batch at most. The search for a culprit holds up the others; beyond, it is left to the
/// next tries.
pub(super) const SLOW_FAILURES: usize = 10;

/// Time after which nothing is halved any more. Who has to wait for its turn is not slow itself, but the next batch of its kind waits
/// for it.
const SEARCH: Duration = Duration::from_secs(120);

/// Requests that were singled out and are remembered as such at most.
const SUSPECTS: usize = 10_000;

/// Hears of each transaction: what it did, for how many requests, how long it took.
pub type Observe = Arc<dyn Fn(&'static str, usize, Duration) + Send + Sync>;

/// What the batches of every kind are carried out with.
pub(super) struct Work {
    /// Where they are carried out.
    pub(super) store: Store,
    /// Held during a transaction; those that share it never run at once.
    pub(super) turn: Arc<Semaphore>,
    /// Hears of each transaction.
    pub(super) observe: Observe,
    /// Hears the name of a task that has panicked: every later request of its kind would be answered with an error.
    pub(super) broken: watch::Sender<Option<&'static str>>,
}

/// The way in to a task that batches one kind of request.
#[derive(Debug)]
pub(super) struct Batcher<R: Request> {
    requests: mpsc::Sender<Waiting<R>>,
    leader: watch::Receiver<Option<Leader>>,
}

impl<R: Request> Clone for Batcher<R> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            leader: self.leader.clone(),
        }
    }
}

/// What is answered to a request.
pub(super) type Answer<R> = Result<<R as Request>::Outcome, StoreError>;

/// A request and who waits for its answer.
struct Waiting<R: Request> {
    request: R,
    leader: Leader,
    /// Of who asks: the batch's span is linked with those of all its askers.
    span: Span,
    answer: oneshot::Sender<Answer<R>>,
}

impl<R: Request> Batcher<R> {
    /// Starts the task. It ends once every handle is dropped and all that was taken in is answered.
    pub(super) fn start(work: Work, leader: watch::Receiver<Option<Leader>>) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (broken, leading) = (work.broken.clone(), leader.clone());
        // Its end without a panic is that of the last handle.
        tokio::spawn(async move {
            if AssertUnwindSafe(run(work, queue, leading))
                .catch_unwind()
                .await
                .is_err()
            {
                broken.send_replace(Some(R::NAME));
            }
        });
        Self { requests, leader }
    }

    /// Hands in a request and waits for its answer; waits before that while too many are in.
    pub(super) async fn ask(&self, request: R) -> Answer<R> {
        let Some(leader) = self.leader.borrow().clone() else {
            return Err(StoreError::Deposed);
        };
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            request,
            leader,
            span: Span::current(),
            answer,
        };
        let stopped = || StoreError::Bug("the mirror has stopped".to_owned());
        self.requests.send(waiting).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

async fn run<R: Request>(work: Work, mut queue: mpsc::Receiver<Waiting<R>>, leader: watch::Receiver<Option<Leader>>) {
    let mut put_off = VecDeque::new();
    let mut suspects = HashSet::new();
    loop {
        let batch = gather(&mut queue, &mut put_off).await;
        if batch.is_empty() {
            return;
        }
        let leading = leader.borrow().clone();
        // What was decided under another leadership is decided again under this one.
        let (current, former): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|waiting| Some(&waiting.leader) == leading.as_ref());
        for waiting in former {
            give(waiting.answer, Err(StoreError::Deposed));
        }
        let Some(leader) = leading else { continue };
        // What failed for itself the last time does not meet the others again before it has succeeded.
        let (suspected, sound): (Vec<_>, Vec<_>) = current
            .into_iter()
            .partition(|waiting| suspects.contains(&waiting.request.key()));
        for part in [sound, suspected] {
            if !part.is_empty() {
                answer(&work, &leader, part, &mut suspects).await;
            }
        }
    }
}

/// Carries out requests together and tells each caller its own outcome. `suspects` are the rows whose request failed for itself.
async fn answer<R: Request>(work: &Work, leader: &Leader, batch: Vec<Waiting<R>>, suspects: &mut HashSet<Uuid>) {
    let span = tracing::info_span!("batch", otel.name = R::NAME, rows = batch.len(), error = Empty);
    let (requests, answers): (Vec<R>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| {
            span.follows_from(&waiting.span);
            (waiting.request, waiting.answer)
        })
        .unzip();
    let keys: Vec<Uuid> = requests.iter().map(R::key).collect();
    let outcomes = carry_out::<R>(work, leader, requests).instrument(span).await;
    for ((key, answer), outcome) in keys.into_iter().zip(answers).zip(outcomes) {
        match &outcome {
            Ok(_) => {
                suspects.remove(&key);
            }
            Err(error) if !error.is_of_all() => {
                if suspects.len() >= SUSPECTS {
                    suspects.clear(); // they are found again
                }
                suspects.insert(key);
            }
            Err(_) => {}
        }
        give(answer, outcome);
    }
}

fn give<A>(answer: oneshot::Sender<A>, outcome: A) {
    // Who asked may have gone; what was done stands all the same, and the next look sees it.
    drop(answer.send(outcome));
}

/// The next batch, each row at most once in it; empty when nobody can ask any more.
async fn gather<R: Request>(
    queue: &mut mpsc::Receiver<Waiting<R>>,
    put_off: &mut VecDeque<Waiting<R>>,
) -> Vec<Waiting<R>> {
    let mut keys = HashSet::new();
    let mut batch = Vec::new();
    for waiting in std::mem::take(put_off) {
        if batch.len() < BATCH && keys.insert(waiting.request.key()) {
            batch.push(waiting);
        } else {
            put_off.push_back(waiting);
        }
    }
    if batch.is_empty() {
        match queue.recv().await {
            Some(first) => {
                keys.insert(first.request.key());
                batch.push(first);
            }
            None => return batch,
        }
    }
    let until = Instant::now() + GATHER;
    // What is put off counts, so that many requests for one row cannot pile up here instead of in the queue.
    while batch.len() + put_off.len() < BATCH {
        match timeout_at(until, queue.recv()).await {
            Ok(Some(waiting)) if keys.insert(waiting.request.key()) => batch.push(waiting),
            Ok(Some(waiting)) => put_off.push_back(waiting),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// Carries out requests together. A request that the database refuses, for whatever reason, is found by halving, each half in a
/// transaction of its own, so that its neighbours land. Only what speaks of the whole connection is told to all.
async fn carry_out<R: Request>(work: &Work, leader: &Leader, requests: Vec<R>) -> Vec<Answer<R>> {
    let mut outcomes = Vec::with_capacity(requests.len());
    let mut parts = vec![requests];
    let (mut tries, mut slow, began) = (TRIES, 0, Instant::now());
    let mut of_all: Option<StoreError> = None;
    while let Some(mut part) = parts.pop() {
        if let Some(error) = &of_all {
            outcomes.extend(part.iter().map(|_| Err(error.clone())));
            continue;
        }
        if tries < TRIES {
            sleep(GATHER).await; // the server tells of a failure before it gives up the locks
        }
        let (outcome, took) = transact(work, leader, &part, tries).await;
        match outcome {
            Ok(answers) => outcomes.extend(answers.into_iter().map(Ok)),
            Err(error) => {
                Span::current().record("error", error.category().into_str());
                slow += usize::from(took > SLOW);
                let may_search = slow <= SLOW_FAILURES && began.elapsed() < SEARCH;
                if part.len() > 1 && !error.is_of_all() && may_search {
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                } else {
                    outcomes.extend(part.iter().map(|_| Err(error.clone())));
                    of_all = Some(error).filter(StoreError::is_of_all);
                }
            }
        }
        tries = 1; // whoever is still in the way of a part is its culprit's
    }
    outcomes
}

/// One transaction, tried again while others are in its way; and how long the last try took, without the wait for its turn.
async fn transact<R: Request>(
    work: &Work,
    leader: &Leader,
    requests: &[R],
    allowed: u32,
) -> (Result<Vec<R::Outcome>, StoreError>, Duration) {
    let mut tries = 1;
    loop {
        let (outcome, took) = {
            // The semaphore is never closed, so the error cannot come; it would only mean no turn to wait for.
            let _turn = work.turn.acquire().await.ok();
            let began = Instant::now();
            let outcome = timeout(LIMIT, R::carry_out(&work.store, leader, requests))
                .await
                .unwrap_or_else(|_| Err(timed_out()));
            let took = began.elapsed();
            (work.observe)(R::NAME, requests.len(), took);
            (outcome, took)
        };
        match outcome {
            Err(StoreError::Conflict(_)) if tries < allowed => {
                sleep(GATHER * tries).await;
                tries += 1;
            }
            Ok(answers) if answers.len() != requests.len() => {
                let (asked, given) = (requests.len(), answers.len());
                let name = R::NAME;
                let bug = StoreError::Bug(format!("{name}: {given} answers to {asked} requests"));
                return (Err(bug), took);
            }
            outcome => return (outcome, took),
        }
    }
}

fn timed_out() -> StoreError {
    let kind = std::io::ErrorKind::TimedOut;
    StoreError::Unavailable(Arc::new(sqlx::Error::Io(kind.into())))
}

#[cfg(test)]
mod tests;
