//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Alive means that the server answers. Ready is the truth about what the process needs: watches listed and fresh, the
//! database reachable, leadership known, no right refused; a follower is ready too, for it is warm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leadership_state::LeadershipState;
use super::metrics::{CONTENT_TYPE, Metrics};

mod socket;

pub use socket::listen;

/// Where every part of the process reports how it is; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    readiness: Arc<Mutex<Readiness>>,
}

impl Health {
    /// Nothing listed, nothing reached, nothing known. A watch that has heard nothing for `stale_after` is stale.
    pub fn new(stale_after: Duration) -> Self {
        let readiness = Readiness {
            stale_after,
            watches: BTreeMap::new(),
            lacking: BTreeMap::new(),
            api_server: Err("not reached yet".into()),
            database: Err(DatabaseTrouble::Unreachable("not connected yet".into())),
            leadership: LeadershipState::Unknown,
        };
        Self {
            readiness: Arc::new(Mutex::new(readiness)),
        }
    }

    /// Announces a watch: from here on readiness needs it.
    pub fn expect_watch(&self, kind: &str) {
        self.lock().watches.entry(kind.into()).or_default();
    }

    /// The watch has a complete list of its kind.
    pub fn watch_listed(&self, kind: &str) {
        let heard = Some(Instant::now());
        self.lock().watches.insert(
            kind.into(),
            Watch {
                listed: true,
                heard,
                ..Watch::default()
            },
        );
    }

    /// There is nothing to list: the API server does not serve this kind, and the process can do without. Whether that is
    /// news.
    pub fn watch_not_served(&self, kind: &str) -> bool {
        let not_served = Watch {
            not_served: true,
            ..Watch::default()
        };
        let before = self.lock().watches.insert(kind.into(), not_served);
        !before.is_some_and(|watch| watch.not_served)
    }

    /// The watch has heard from the server: an event, a bookmark, the orderly end of a watch.
    pub fn watch_heard(&self, kind: &str) {
        let mut readiness = self.lock();
        let watch = readiness.watches.entry(kind.into()).or_default();
        watch.heard = Some(Instant::now());
        watch.trouble = None;
    }

    /// The watch's list or watch failed; `sentence` says how.
    pub fn watch_failed(&self, kind: &str, sentence: impl Into<String>) {
        let mut readiness = self.lock();
        let watch = readiness.watches.entry(kind.into()).or_default();
        watch.not_served = false;
        watch.trouble = Some(sentence.into());
    }

    /// The API server refuses a right, in these words. Whether that is news.
    pub fn lacks_right(&self, right: &str, message: &str) -> bool {
        let refusal = Refusal {
            message: message.to_owned(),
            at: Instant::now(),
        };
        let before = self.lock().lacking.insert(right.to_owned(), refusal);
        !before.is_some_and(|before| before.counts(Instant::now()))
    }

    /// The API server grants a right. Whether it was refused before.
    pub fn has_right(&self, right: &str) -> bool {
        self.lock().lacking.remove(right).is_some()
    }

    /// Whether the API server answered at the start, or a sentence on why not; from then on the watches tell.
    pub fn set_api_server(&self, state: Result<(), String>) {
        self.lock().api_server = state;
    }

    /// Whether the database has answered and fits.
    pub fn set_database(&self, state: Result<(), DatabaseTrouble>) {
        self.lock().database = state;
    }

    /// What is known of leadership.
    pub fn set_leadership(&self, state: LeadershipState) {
        self.lock().leadership = state;
    }

    /// What keeps the process from being ready, a sentence each; empty when it is ready.
    pub fn missing(&self) -> Vec<String> {
        self.lock().missing(Instant::now())
    }

    /// The kinds that are not served, a sentence each: no fault of this process, but leases may wait for them.
    fn remarks(&self) -> Vec<String> {
        let readiness = self.lock();
        let not_served = readiness.watches.iter().filter(|(_, watch)| watch.not_served);
        not_served
            .map(|(kind, _)| format!("watch {kind}: the API server does not serve this kind (yet)"))
            .collect()
    }

    /// Measures readiness, the database's, and the watches' freshness: of a kind's watches, that of the one that has been silent
    /// longest.
    pub fn measure(&self, metrics: &Metrics) {
        metrics.replica.set_ready(self.missing().is_empty());
        let now = Instant::now();
        let mut silent: BTreeMap<&str, Duration> = BTreeMap::new();
        let readiness = self.lock();
        let trouble = readiness.database.as_ref().err();
        metrics
            .database
            .set_reachable(!matches!(trouble, Some(DatabaseTrouble::Unreachable(_))));
        metrics
            .database
            .set_fits(!matches!(trouble, Some(DatabaseTrouble::Unfit(_))));
        for (name, watch) in &readiness.watches {
            if let Some(heard) = watch.heard {
                let longest = silent.entry(kind_of_watch(name)).or_default();
                *longest = now.duration_since(heard).max(*longest);
            }
        }
        for (kind, since) in silent {
            metrics.cluster.set_watch_freshness(kind, since);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Readiness> {
        // Each setter writes whole values, so what a panicking thread left behind can be read.
        self.readiness.lock()
    }
}

/// What is wrong with the database, a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseTrouble {
    /// It does not answer, or not as it should.
    Unreachable(String),
    /// It answers, and is not one that this version may work on as it is.
    Unfit(String),
}

impl DatabaseTrouble {
    pub fn sentence(&self) -> &str {
        match self {
            Self::Unreachable(sentence) | Self::Unfit(sentence) => sentence,
        }
    }
}

#[derive(Debug)]
struct Readiness {
    stale_after: Duration,
    watches: BTreeMap<String, Watch>,
    lacking: BTreeMap<String, Refusal>,
    api_server: Result<(), String>,
    database: Result<(), DatabaseTrouble>,
    leadership: LeadershipState,
}

#[derive(Debug, Default)]
struct Watch {
    listed: bool,
    not_served: bool,
    heard: Option<Instant>,
    trouble: Option<String>,
}

/// How long a refusal counts: longer than the pauses between two tries.
const REFUSAL_COUNTS: Duration = Duration::from_secs(60);

/// A right that was refused.
#[derive(Debug)]
struct Refusal {
    message: String,
    at: Instant,
}

impl Refusal {
    /// A right is tried again and again for as long as it is needed. What is not, may have gone with its Namespace.
    fn counts(&self, now: Instant) -> bool {
        now.duration_since(self.at) < REFUSAL_COUNTS
    }
}

impl Readiness {
    fn missing(&self, now: Instant) -> Vec<String> {
        let mut missing = Vec::new();
        if self.watches.is_empty() {
            missing.push("watches: not started yet".into());
        }
        for (kind, watch) in &self.watches {
            if let Some(problem) = watch.problem(now, self.stale_after) {
                missing.push(format!("watch {kind}: {problem}"));
            }
        }
        let refused = self.lacking.values().filter(|refusal| refusal.counts(now));
        missing.extend(refused.map(|refusal| format!("right: {}", refusal.message)));
        if let Err(sentence) = &self.api_server {
            missing.push(format!("API server: {sentence}"));
        }
        if let Err(trouble) = &self.database {
            missing.push(format!("database: {}", trouble.sentence()));
        }
        match self.leadership {
            LeadershipState::Unknown => missing.push("leadership: nobody is known to lead".into()),
            LeadershipState::Lapsed { epoch } => missing.push(format!("leadership: epoch {epoch} was not renewed")),
            LeadershipState::Following | LeadershipState::Leading { .. } => {}
        }
        missing
    }
}

impl Watch {
    fn problem(&self, now: Instant, stale_after: Duration) -> Option<String> {
        let silence = self.heard.map(|heard| now.duration_since(heard));
        let problem = match silence {
            _ if self.not_served => return None,
            _ if !self.listed => "not listed yet".to_owned(),
            Some(silence) if silence > stale_after => format!("nothing heard for {} s", silence.as_secs()),
            _ => return None,
        };
        match &self.trouble {
            Some(trouble) => Some(format!("{problem}: {trouble}")),
            None => Some(problem),
        }
    }
}

/// The kind that a watch is of, for a metric's label: its name without the Namespace that it is limited to, which is somebody's.
pub fn kind_of_watch(name: &str) -> &str {
    name.split_once('/').map_or(name, |(kind, _)| kind)
}

/// Serves until `stop`; answers what is in flight.
///
/// # Errors
///
/// Those of the listening socket.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(health, metrics))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn router(health: Health, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state((health, metrics))
}

async fn readyz(State((health, _)): State<(Health, Arc<Metrics>)>) -> Response {
    let missing = health.missing();
    if missing.is_empty() {
        let lines: Vec<String> = ["ready".to_owned()].into_iter().chain(health.remarks()).collect();
        (StatusCode::OK, format!("{}\n", lines.join("\n"))).into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready\n{}\n", missing.join("\n")),
        )
            .into_response()
    }
}

async fn render_metrics(State((_, metrics)): State<(Health, Arc<Metrics>)>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
