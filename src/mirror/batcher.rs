//! Group commit: requests are gathered for a moment, carried out together, and answered one by one.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::store::{Leader, StoreError};

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

/// Requests that were singled out and are remembered as such at most.
const SUSPECTS: usize = 10_000;

/// What carries out a batch: an answer for each request, in their order.
pub(super) type Flush<Q, A> =
    Box<dyn Fn(Leader, Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, StoreError>> + Send + Sync>;

/// Hears of each transaction: what it did, for how many requests, how long it took.
pub type Observe = Arc<dyn Fn(&'static str, usize, Duration) + Send + Sync>;

/// What one kind of request is called, keyed by and carried out with.
pub(super) struct Work<Q, A> {
    /// The metric's label.
    pub(super) name: &'static str,
    /// The row that a request is about: two for one row never meet in a batch.
    pub(super) key: fn(&Q) -> Uuid,
    /// Held during a transaction; those that share it never run at once.
    pub(super) turn: Arc<Semaphore>,
    /// Hears of each transaction.
    pub(super) observe: Observe,
    /// Hears the name of a task that has panicked: every later request of its kind would be answered with an error.
    pub(super) broken: watch::Sender<Option<&'static str>>,
    /// Carries out a batch.
    pub(super) flush: Flush<Q, A>,
}

/// The way in to a task that batches one kind of request.
#[derive(Debug)]
pub(super) struct Batcher<Q, A> {
    requests: mpsc::Sender<Waiting<Q, A>>,
    leader: watch::Receiver<Option<Leader>>,
}

impl<Q, A> Clone for Batcher<Q, A> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            leader: self.leader.clone(),
        }
    }
}

/// A request and who waits for its answer.
#[derive(Debug)]
struct Waiting<Q, A> {
    request: Q,
    leader: Leader,
    /// Of who asks: the batch's span is linked with those of all its askers.
    span: Span,
    answer: oneshot::Sender<Result<A, StoreError>>,
}

impl<Q, A> Batcher<Q, A>
where
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
{
    /// Starts the task. It ends once every handle is dropped and all that was taken in is answered.
    pub(super) fn start(work: Work<Q, A>, leader: watch::Receiver<Option<Leader>>) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (name, broken, leading) = (work.name, work.broken.clone(), leader.clone());
        // Its end without a panic is that of the last handle.
        tokio::spawn(async move {
            if AssertUnwindSafe(run(work, queue, leading))
                .catch_unwind()
                .await
                .is_err()
            {
                broken.send_replace(Some(name));
            }
        });
        Self { requests, leader }
    }

    /// Hands in a request and waits for its answer; waits before that while too many are in.
    pub(super) async fn ask(&self, request: Q) -> Result<A, StoreError> {
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

async fn run<Q, A>(work: Work<Q, A>, mut queue: mpsc::Receiver<Waiting<Q, A>>, leader: watch::Receiver<Option<Leader>>)
where
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
{
    let mut put_off = VecDeque::new();
    let mut suspects = HashSet::new();
    loop {
        let batch = gather(&mut queue, &mut put_off, work.key).await;
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
            .partition(|waiting| suspects.contains(&(work.key)(&waiting.request)));
        for part in [sound, suspected] {
            if !part.is_empty() {
                answer(&work, &leader, part, &mut suspects).await;
            }
        }
    }
}

/// Carries out requests together and tells each caller its own outcome. `suspects` are the rows whose request failed for itself.
async fn answer<Q, A>(work: &Work<Q, A>, leader: &Leader, batch: Vec<Waiting<Q, A>>, suspects: &mut HashSet<Uuid>)
where
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
{
    let span = tracing::info_span!("batch", otel.name = work.name, rows = batch.len(), error = Empty);
    let (requests, answers): (Vec<Q>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| {
            span.follows_from(&waiting.span);
            (waiting.request, waiting.answer)
        })
        .unzip();
    let keys: Vec<Uuid> = requests.iter().map(work.key).collect();
    let outcomes = carry_out(work, leader, requests).instrument(span).await;
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

fn give<A>(answer: oneshot::Sender<Result<A, StoreError>>, outcome: Result<A, StoreError>) {
    // Who asked may have gone; what was done stands all the same, and the next look sees it.
    drop(answer.send(outcome));
}

/// The next batch, each row at most once in it; empty when nobody can ask any more.
async fn gather<Q, A>(
    queue: &mut mpsc::Receiver<Waiting<Q, A>>,
    put_off: &mut VecDeque<Waiting<Q, A>>,
    key: fn(&Q) -> Uuid,
) -> Vec<Waiting<Q, A>> {
    let mut keys = HashSet::new();
    let mut batch = Vec::new();
    for waiting in std::mem::take(put_off) {
        if batch.len() < BATCH && keys.insert(key(&waiting.request)) {
            batch.push(waiting);
        } else {
            put_off.push_back(waiting);
        }
    }
    if batch.is_empty() {
        match queue.recv().await {
            Some(first) => {
                keys.insert(key(&first.request));
                batch.push(first);
            }
            None => return batch,
        }
    }
    let until = Instant::now() + GATHER;
    // What is put off counts, so that many requests for one row cannot pile up here instead of in the queue.
    while batch.len() + put_off.len() < BATCH {
        match timeout_at(until, queue.recv()).await {
            Ok(Some(waiting)) if keys.insert(key(&waiting.request)) => batch.push(waiting),
            Ok(Some(waiting)) => put_off.push_back(waiting),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// Carries out requests together. A request that the database refuses, for whatever reason, is found by halving, each half in a
/// transaction of its own, so that its neighbours land. Only what speaks of the whole connection is told to all.
async fn carry_out<Q, A>(work: &Work<Q, A>, leader: &Leader, requests: Vec<Q>) -> Vec<Result<A, StoreError>>
where
    Q: Clone + Send + Sync,
    A: Send,
{
    let mut outcomes = Vec::with_capacity(requests.len());
    let mut parts = vec![requests];
    let (mut tries, mut slow) = (TRIES, 0);
    let mut of_all: Option<StoreError> = None;
    while let Some(mut part) = parts.pop() {
        if let Some(error) = &of_all {
            outcomes.extend(part.iter().map(|_| Err(error.clone())));
            continue;
        }
        if tries < TRIES {
            sleep(GATHER).await; // the server tells of a failure before it gives up the locks
        }
        let began = Instant::now();
        match transact(work, leader, &part, tries).await {
            Ok(answers) => outcomes.extend(answers.into_iter().map(Ok)),
            Err(error) => {
                Span::current().record("error", error.category().as_str());
                slow += usize::from(began.elapsed() > SLOW);
                if part.len() > 1 && !error.is_of_all() && slow <= SLOW_FAILURES {
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

/// One transaction, tried again while others are in its way.
async fn transact<Q, A>(work: &Work<Q, A>, leader: &Leader, requests: &[Q], allowed: u32) -> Result<Vec<A>, StoreError>
where
    Q: Clone + Send + Sync,
    A: Send,
{
    let mut tries = 1;
    loop {
        let outcome = {
            // The semaphore is never closed, so the error cannot come; it would only mean no turn to wait for.
            let _turn = work.turn.acquire().await.ok();
            let began = Instant::now();
            let outcome = timeout(LIMIT, (work.flush)(leader.clone(), requests.to_vec()))
                .await
                .unwrap_or_else(|_| Err(timed_out()));
            (work.observe)(work.name, requests.len(), began.elapsed());
            outcome
        };
        match outcome {
            Err(StoreError::Conflict(_)) if tries < allowed => {
                sleep(GATHER * tries).await;
                tries += 1;
            }
            Ok(answers) if answers.len() != requests.len() => {
                let (asked, given) = (requests.len(), answers.len());
                return Err(StoreError::Bug(format!(
                    "{}: {given} answers to {asked} requests",
                    work.name
                )));
            }
            outcome => return outcome,
        }
    }
}

fn timed_out() -> StoreError {
    let kind = std::io::ErrorKind::TimedOut;
    StoreError::Unavailable(Arc::new(sqlx::Error::Io(kind.into())))
}

#[cfg(test)]
mod tests;
