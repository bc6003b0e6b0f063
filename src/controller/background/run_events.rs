//! Run rows that come to an end.
//!
//! Where a trigger notifies (standalone, or `--run-trigger`) the notification is received through LISTEN as soon as the run's
//! transaction commits. After each (re)connect LISTEN comes first, then every unfinished lease of a run row is reconciled: what
//! ended in between is noticed by the one or the other.
//!
//! Attached there is no trigger unless it is asked for; so the runs that leases name are asked for by their ids, a few times
//! a second. (A watermark on `updated_at` would need a cache of ours on the Paperclip server's table.)

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::controller::context::Context;
use crate::mirror::Mirror;
use crate::random::Backoff;
use crate::runtime::configuration::NoticeSource;
use crate::runtime::health::Health;
use crate::store::heartbeat_runs::Heard;
use crate::store::{StoreError, heartbeat_runs};

/// The name of run rows among the watches, in readiness and metrics.
const WATCH: &str = "heartbeat_runs";

/// Runs that one statement asks for at most: 10,000 take the server about 50 ms.
const POLL: usize = 10_000;

/// Runs up to which they are asked for four times a second.
const FEW: usize = 1_000;

/// Listens until `stop`.
pub async fn listen(context: Arc<Context>, mirror: Arc<Mirror>, health: Health, stop: CancellationToken) {
    let mut backoff = backoff();
    health.expect_watch(WATCH);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = hear(&context, &mirror, &health, &mut backoff) => {
                if let Err(error) = mirror.examined(outcome).await {
                    context.metrics.database.failed(error.category());
                    health.watch_failed(WATCH, error.to_string());
                    tracing::warn!(%error, "lost the listener for run ends, connecting again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }
}

async fn hear(context: &Context, mirror: &Mirror, health: &Health, backoff: &mut Backoff) -> Result<(), StoreError> {
    let mut ends = heartbeat_runs::listen(mirror.store()).await?;
    health.watch_listed(WATCH);
    let all = context.cache().unfinished_of_heartbeat_runs();
    context.admit(NoticeSource::Runs, all);
    loop {
        let heard = ends.next().await?;
        backoff.reset();
        health.watch_heard(WATCH);
        if let Heard::RunEnd(run) = heard {
            let leases = context.cache().leases_of_heartbeat_run(run);
            context.admit(NoticeSource::Runs, leases);
        }
    }
}

/// Asks again and again until `stop`, while this replica leads.
pub async fn poll(context: Arc<Context>, mirror: Arc<Mirror>, health: Health, stop: CancellationToken) {
    let (mut backoff, mut told) = (backoff(), Told::default());
    health.expect_watch(WATCH);
    loop {
        let asked = ask(&context, &mirror, &mut told).await;
        let pause = match mirror.examined(asked).await {
            Ok(asked) => {
                health.watch_listed(WATCH);
                backoff.reset();
                interval(asked)
            }
            Err(error) => {
                context.metrics.database.failed(error.category());
                health.watch_failed(WATCH, error.to_string());
                tracing::warn!(%error, "cannot ask for run ends, trying again");
                backoff.pause()
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Has the leases of runs that are newly over looked at; the number of runs that were asked for.
async fn ask(context: &Context, mirror: &Mirror, told: &mut Told) -> Result<usize, StoreError> {
    if mirror.leader().is_none() {
        *told = Told::default();
        return Ok(0);
    }
    let runs: Vec<Uuid> = context.cache().heartbeat_runs().into_iter().collect();
    let mut over = Vec::new();
    for part in runs.chunks(POLL) {
        over.extend(heartbeat_runs::not_live(mirror.store(), part).await?);
    }
    for run in told.news(over) {
        let leases = context.cache().leases_of_heartbeat_run(run);
        context.admit(NoticeSource::Runs, leases);
    }
    Ok(runs.len())
}

/// The pause after so many runs were asked for: the server spends a twentieth of its time on it at most.
const fn interval(runs: usize) -> Duration {
    if runs <= FEW {
        Duration::from_millis(250)
    } else {
        Duration::from_secs(runs.div_ceil(POLL) as u64)
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10))
}

/// What the last answer told: a run that a claim waits for in vain is no news four times a second.
#[derive(Default)]
struct Told(HashMap<Uuid, Option<String>>);

impl Told {
    /// The runs of which this answer tells something else than the last one did.
    fn news(&mut self, over: Vec<(Uuid, Option<String>)>) -> HashSet<Uuid> {
        let over: HashMap<_, _> = over.into_iter().collect();
        let news = over
            .iter()
            .filter(|(run, status)| self.0.get(run) != Some(status))
            .map(|(run, _)| *run)
            .collect();
        self.0 = over;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_asked_for_the_less_often_the_more_there_are() {
        for (runs, milliseconds) in [
            (0, 250),
            (1_000, 250),
            (1_001, 1_000),
            (10_000, 1_000),
            (10_001, 2_000),
            (95_000, 10_000),
        ] {
            assert_eq!(interval(runs), Duration::from_millis(milliseconds), "{runs}");
        }
    }

    #[test]
    fn a_run_is_news_once_for_each_thing_that_becomes_of_it() {
        let (run, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let failed = || Some("failed".to_owned());
        let mut told = Told::default();
        assert_eq!(told.news(vec![(run, None)]), HashSet::from([run]));
        assert_eq!(told.news(vec![(run, None)]), HashSet::new());
        assert_eq!(
            told.news(vec![(run, failed()), (other, None)]),
            HashSet::from([run, other])
        );
        assert_eq!(told.news(vec![(other, None)]), HashSet::new(), "live again");
        assert_eq!(told.news(vec![(run, failed()), (other, None)]), HashSet::from([run]));
    }
}
