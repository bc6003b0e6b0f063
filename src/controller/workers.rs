//! The workers: take keys from the queue while this replica leads, and reconcile them side by side, one run per key at a time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::work::queue::{Ready, SHARE};
use crate::cache::{Key, Looked};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::reconcile::Reconcilers;
use crate::runtime::leadership::{Leadership, LeadershipState};
use crate::runtime::metrics::Place;
use crate::runtime::supervision::message_of;

/// How long the first decisions wait for the run kinds at most: a lease whose run can't be looked at ends by other causes.
const RUN_KINDS_LIMIT: Duration = Duration::from_secs(5);

/// Pause between two looks whether the run kinds were heard of.
const RUN_KINDS_PAUSE: Duration = Duration::from_millis(20);

/// How many reconciles may run at once. Those of one company are more than a batch has rows, so that a full one can gather;
/// the others' are as many as a batch can hold beside what that leaves.
const CONCURRENCY: usize = SHARE + 64;

/// Works until `stop`, then finishes what it has begun.
///
/// `searched` tells the epoch in which what was deleted unseen has been looked for. Only then the first key is taken: of
/// several causes that came while nobody led the highest has to be visible when the first is decided upon.
pub async fn work<D: Database, C: Cluster>(
    reconcilers: Arc<Reconcilers<D, C>>,
    leadership: Leadership,
    mut searched: watch::Receiver<Option<i64>>,
    stop: CancellationToken,
) {
    let context = reconcilers.context.clone();
    let (mut state, mut refusal) = (leadership.state(), leadership.refusal());
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let mut running = JoinSet::new();
    let (mut begun, mut told) = (None, None);
    loop {
        let now = *state.borrow_and_update();
        let why = refusal.borrow_and_update().clone();
        let looked = *searched.borrow_and_update();
        // The term in which keys are taken; one begins also where the end of the one before has passed unnoticed.
        let term = match now {
            LeadershipState::Leading { epoch } => Some(epoch).filter(|_| looked == Some(epoch)),
            _ => None,
        };
        if term.is_some() && term != begun {
            // Opened first: what happened before is among the cache's keys, what happens from here on is pushed.
            context.queue.open();
            context.learn(|cache| cache.begin_term(Instant::now()));
        } else if matches!(now, LeadershipState::Following | LeadershipState::Unknown) {
            context.queue.close();
            context.troubles.clear();
        }
        let lapsed = matches!(now, LeadershipState::Lapsed { .. });
        context.note_lapse(lapsed);
        // Whoever waits is told why, and again where the reason has become another one.
        if lapsed && told.as_ref() != Some(&why) {
            context.wake_without_store();
        }
        told = lapsed.then_some(why);
        begun = term;
        let works = term.is_some() || lapsed;
        tokio::select! {
            () = stop.cancelled() => break,
            changed = state.changed() => if changed.is_err() { break },
            changed = refusal.changed() => if changed.is_err() { break },
            changed = searched.changed() => if changed.is_err() { break },
            Some(_) = running.join_next() => {}
            key = next(&context, &permits), if works => {
                let (key, permit) = key;
                let (reconcilers, leadership) = (reconcilers.clone(), leadership.clone());
                let span = tracing::info_span!("reconcile", kind = kind(key), id = %id(key), result = Empty);
                let work = async move {
                    let _hand = permit;
                    run_to_the_end(&reconcilers, &leadership, key, now).await;
                };
                running.spawn(work.instrument(span));
            }
        }
    }
    while running.join_next().await.is_some() {}
}

/// A free permit, then the next key. Dropped between the two, nothing is lost: the key is taken last.
async fn next(context: &Context, permits: &Arc<Semaphore>) -> (Key, Option<tokio::sync::OwnedSemaphorePermit>) {
    let permit = permits.clone().acquire_owned().await.ok(); // never closed
    (context.queue.next().await, permit)
}

/// The kind of what a key stands for, as metrics and traces name it.
const fn kind(key: Key) -> &'static str {
    match key {
        Key::Environment(_) => "Environment",
        Key::Lease(_) => "EnvironmentLease",
    }
}

const fn id(key: Key) -> Uuid {
    match key {
        Key::Environment(id) | Key::Lease(id) => id,
    }
}

/// Runs a key, and releases it whatever happens: one that is not released is never looked at again, and counts for ever among
/// those of its company that run.
async fn run_to_the_end<D: Database, C: Cluster>(
    reconcilers: &Reconcilers<D, C>,
    leadership: &Leadership,
    key: Key,
    state: LeadershipState,
) {
    let (context, begun) = (&reconcilers.context, Instant::now());
    let run = AssertUnwindSafe(run(reconcilers, leadership, key, state)).catch_unwind();
    if let Err(panic) = run.await {
        let error = ReconcileError::Panicked(message_of(panic.as_ref()));
        tracing::warn!(?key, %error, "what a reconcile has come to could not be told, trying again");
        context
            .metrics
            .work
            .reconciled(kind(key), error.category(), begun.elapsed());
        put_back(context, key);
    }
}

async fn run<D: Database, C: Cluster>(
    reconcilers: &Reconcilers<D, C>,
    leadership: &Leadership,
    key: Key,
    state: LeadershipState,
) {
    let (context, begun) = (&reconcilers.context, Instant::now());
    if let Some(Ready {
        since,
        timer: Some(cause),
        ..
    }) = context.queue.ready(key)
    {
        context
            .metrics
            .work
            .looked_after_deadline(cause, begun.saturating_duration_since(since));
    }
    let tries = context.troubles.tries(key);
    let outcome = match (state, key) {
        (LeadershipState::Lapsed { .. }, _) => Err(ReconcileError::NotLeading),
        _ => reconcile(reconcilers, key).await,
    };
    let result = outcome.as_ref().map_or_else(ReconcileError::category, |()| "ok");
    Span::current().record("result", result);
    let Err(error) = outcome else {
        context.metrics.work.reconciled(kind(key), result, begun.elapsed());
        context.troubles.settle(key, tries);
        context.queue.done(key);
        return;
    };
    let lapsed = matches!(state, LeadershipState::Lapsed { .. });
    if lapsed || error.is_store_unavailable() {
        // The one thing that may be said without the database: that it can't be reached, or why it does not fit.
        let refusal = error
            .refusal()
            .map(str::to_owned)
            .or_else(|| leadership.refusal().borrow().clone());
        if let Err(error) = reconcilers.report_store_unavailable(key, refusal.as_deref()).await {
            tracing::debug!(?key, %error, "the database's absence could not be reported");
        }
    } else if let (true, LeadershipState::Leading { epoch }) = (error.is_deposed(), state) {
        leadership.deposed(epoch);
    } else {
        let of_one = error.refusal_of_one().is_some();
        if !of_one || context.troubles.is_news_to_the_log(key, &error.to_string()) {
            tracing::warn!(?key, %error, "reconcile failed, trying again");
        }
        tell_of_failure(reconcilers, key, &error).await;
    }
    if !lapsed {
        context.metrics.work.reconciled(kind(key), result, begun.elapsed());
    }
    put_back(context, key);
}

/// Says on an object why its reconcile has failed, where that is about this one alone.
pub(in crate::controller) async fn tell_of_failure<D: Database, C: Cluster>(
    reconcilers: &Reconcilers<D, C>,
    key: Key,
    error: &ReconcileError,
) {
    let Some((reason, sentence)) = error.told() else { return };
    if error.refusal_of_one().is_some() {
        reconcilers.context.metrics.database.set_aside(Place::Reconcile);
    }
    if let Err(error) = reconcilers.report_refused(key, reason, &sentence).await {
        tracing::debug!(?key, %error, "why a reconcile has failed could not be reported");
    }
}

/// Has a key tried again whose run has failed. What was forgotten while the database was away is left to the rows, which whoever
/// leads next asks.
pub(in crate::controller) fn put_back(context: &Context, key: Key) {
    if context.has_lapsed() && !context.cache().knows(key) {
        context.troubles.settle(key, context.troubles.tries(key));
        context.queue.done(key);
    } else {
        context.queue.failed(key);
    }
}

/// Reconciles a key. One that panics fails like any other, so that it is released and tried again later and later.
pub(in crate::controller) async fn reconcile<D: Database, C: Cluster>(
    reconcilers: &Reconcilers<D, C>,
    key: Key,
) -> Result<(), ReconcileError> {
    let context = &reconcilers.context;
    let term = context.cache().term();
    // What it shares with others is behind locks whose holders leave it whole.
    AssertUnwindSafe(reconcilers.reconcile(key))
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| {
            if let Key::Lease(id) = key {
                context.stand_aside(Looked { id, term }); // it holds up nobody while it waits
            }
            Err(ReconcileError::Panicked(message_of(panic.as_ref())))
        })
}

/// Waits until `expected` watches have been listed; false when the process stops before.
pub async fn listed(mut listed: watch::Receiver<usize>, expected: usize, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        listed = listed.wait_for(|listed| *listed >= expected) => listed.is_ok(),
    }
}

/// Waits until it is known of each run kind whether it can be looked at, for a while at most: the end of a run goes before
/// most other causes, and has to be visible when the first is decided upon.
pub async fn run_kinds_heard_of(context: &Context, expected: usize, stop: &CancellationToken) {
    let heard = async {
        while context.cache().run_kinds_heard_of() < expected {
            sleep(RUN_KINDS_PAUSE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        heard = timeout(RUN_KINDS_LIMIT, heard) => if heard.is_err() {
            tracing::warn!("not all run kinds have been heard of: leases of theirs may end by other causes");
        }
    }
}

#[cfg(test)]
mod tests;
