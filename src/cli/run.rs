//! `run`: puts the parts together, and takes them apart in order.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Error, migrate};
use crate::cache::SharedCache;
use crate::controller::run::{self as controller, Parts};
use crate::mirror::{Examine, Mirror};
use crate::random::{self, Backoff};
use crate::runtime::client::{self, Connection};
use crate::runtime::configuration::Settings;
use crate::runtime::health::{self, DatabaseTrouble, Health};
use crate::runtime::leadership::{Answer, Elector, KnownLeader, Leadership, Request};
use crate::runtime::metrics::Metrics;
use crate::runtime::shutdown;
use crate::runtime::supervision::Supervisor;
use crate::runtime::telemetry::{Exporting, Origin, Traces};
use crate::store::{StartError, Store, StoreError, cluster, installation, lead};

/// Pause before the second try to reach at the start what is not there yet; each later one of the database is twice as long.
const START_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause between two tries to start on a database.
const LONGEST_START_PAUSE: Duration = Duration::from_secs(16);

/// How long the first term in a database that does not know the cluster waits for the lists of leases, and how often it looks.
const LISTING_LIMIT: Duration = Duration::from_secs(3);
const LISTING_PAUSE: Duration = Duration::from_millis(20);

/// The part of the drain timeout that is the work's; in the rest leadership is given up and connections are closed.
const WORK_SHARE: f64 = 0.7;

/// How long the last answers over HTTP and the last words to the database may take.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) async fn run(settings: &Settings, traces: Option<Traces>) -> Result<(), Error> {
    let stop = CancellationToken::new();
    shutdown::stop_on_signal(stop.clone()).map_err(Error::Process)?;
    let metrics = Arc::new(Metrics::new());
    // A watch is heard of at its end at the latest; two that were silent throughout are no accident.
    let health = Health::new(settings.pace.watch_timeout * 2);
    let measured = health.clone();
    metrics.measure_when_read(move |metrics| measured.measure(metrics));
    let listener = health::listen(settings.listen).map_err(|source| Error::Listen {
        address: settings.listen,
        source,
    })?;
    let serving_stop = CancellationToken::new();
    let server = Supervisor::new(serving_stop.clone());
    server.spawn(
        "HTTP server",
        health::serve(listener, health.clone(), Arc::clone(&metrics), serving_stop.clone()),
    );

    let whole = async {
        let mut exporting = None;
        let traces = traces.map(|traces| (traces, &mut exporting));
        let operated = server.guard(operate(settings, &health, &metrics, traces, &stop)).await;
        let outcome = operated.unwrap_or_else(|ended| Err(ended.into()));
        if let Some(exporting) = exporting {
            exporting.finish(FAREWELL).await;
        }
        // The server is the last to go, so that a probe sees the truth until the end.
        serving_stop.cancel();
        let _slow_reader = timeout(FAREWELL, server.join()).await;
        outcome
    };
    // Whatever hangs, nothing outlives the signal by more than the drain timeout.
    let ended = shutdown::drain(whole, &stop, settings.pace.drain_timeout).await;
    ended.unwrap_or_else(|| {
        tracing::warn!("the process did not end by itself in time");
        Ok(())
    })
}

/// Everything between the first connection and the last.
async fn operate(
    settings: &Settings,
    health: &Health,
    metrics: &Arc<Metrics>,
    traces: Option<(Traces, &mut Option<Exporting>)>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    // Nothing is begun yet that had to be finished: a signal ends each of these waits at once.
    let starting = reach(settings, health, metrics, traces);
    let Some(reached) = stop.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let Reached { client, cluster, store } = reached?;
    tracing::info!(
        cluster,
        installation = settings.identity.installation,
        database = %settings.database.database_url,
        database_id = %store.id(),
        "started"
    );
    let identified = store.clone();
    metrics.measure_when_read(move |metrics| metrics.database.set_identity(identified.id()));

    let cache = SharedCache::default();
    let row = LeadershipRow::new(&store, cluster, settings, &cache);
    let (leading, leadership) = LeadershipTask::start(row, health, metrics);
    let parts = Parts {
        client,
        mirror: start_mirror(&store, &leadership, metrics),
        leadership,
        health: health.clone(),
        metrics: Arc::clone(metrics),
        cache,
        settings: settings.clone(),
        instance: host(),
    };
    let work = leading.tasks.guard(controller::run(parts, stop.clone()));
    let worked = shutdown::drain(work, stop, settings.pace.drain_timeout.mul_f64(WORK_SHARE)).await;
    if worked.is_none() {
        tracing::warn!("what was begun did not end in time: the next leader decides it again");
    }

    // Leadership outlives the work, for what the work flushes must still be proven.
    leading.end().await;
    store.close().await;
    match worked {
        Some(Err(ended) | Ok(Err(ended))) => Err(ended.into()),
        Some(Ok(Ok(()))) | None if stop.is_cancelled() => Ok(()),
        Some(Ok(Ok(()))) | None => Err(Error::Ended),
    }
}

/// What has to answer before anything can begin.
struct Reached {
    client: Client,
    cluster: String,
    store: Store,
}

/// Waits for the API server and the database, in this order; once the cluster is known its traces can be sent.
async fn reach(
    settings: &Settings,
    health: &Health,
    metrics: &Arc<Metrics>,
    traces: Option<(Traces, &mut Option<Exporting>)>,
) -> Result<Reached, Error> {
    let connection = client::connect(settings.identity.kubeconfig.as_deref(), Arc::clone(metrics)).await?;
    let cluster = reach_cluster(settings, &connection, health).await;
    if let Some((traces, exporting)) = traces {
        *exporting = export(settings, traces, &cluster)?;
    }
    let store = reach_store(settings, &cluster, health).await?;
    Ok(Reached {
        client: connection.client,
        cluster,
        store,
    })
}

/// The task that acquires leadership and renews it.
struct LeadershipTask {
    tasks: Supervisor,
    stop: CancellationToken,
}

impl LeadershipTask {
    fn start(row: LeadershipRow, health: &Health, metrics: &Arc<Metrics>) -> (Self, Leadership) {
        let expiry = Duration::from_secs(lead::TERM_SECONDS.into());
        let (elector, leadership) = Elector::new(expiry, health.clone(), Arc::clone(metrics));
        let stop = CancellationToken::new();
        let tasks = Supervisor::new(stop.clone());
        let electing = elector.run(move |request| row.clone().ask(request), stop.clone());
        tasks.spawn("leadership", electing);
        (Self { tasks, stop }, leadership)
    }

    /// Gives leadership up.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.join().await;
    }
}

/// The way to the database: its statements are measured, and a database that may not fit any more is examined.
fn start_mirror(store: &Store, leadership: &Leadership, metrics: &Arc<Metrics>) -> Mirror {
    let (observer, looking) = (Arc::clone(metrics), leadership.clone());
    Mirror::start(
        store.clone(),
        leadership.leader(),
        Arc::new(move |statement, rows, duration| observer.database.batch(statement, rows, duration)),
        Examine::by(move |error| {
            let looking = looking.clone();
            async move { looking.examine(error).await }
        }),
    )
}

/// Sends the traces to the collector that the settings name.
fn export(settings: &Settings, traces: Traces, cluster: &str) -> Result<Option<Exporting>, Error> {
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(None);
    };
    let origin = Origin {
        cluster,
        installation: &settings.identity.installation,
        instance: &host(),
    };
    let exporting = traces.export(endpoint, origin);
    exporting.map(Some).map_err(|error| Error::Traces(Box::new(error)))
}

/// The cluster's name: waits for an API server that does not answer yet.
async fn reach_cluster(settings: &Settings, connection: &Connection, health: &Health) -> String {
    if let Some(id) = &settings.identity.cluster_id {
        health.set_api_server(Ok(()));
        return id.clone();
    }
    loop {
        match client::cluster_id(connection).await {
            Ok(id) => {
                health.set_api_server(Ok(()));
                return id;
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for the API server");
                health.set_api_server(Err(error.to_string()));
            }
        }
        sleep(START_PAUSE).await;
    }
}

/// The database, migrated and fit: waits for one that is not, for whatever it lacks can be mended without a change of this
/// process. Only settings that cannot be read end it.
async fn reach_store(settings: &Settings, cluster: &str, health: &Health) -> Result<Store, StartError> {
    let (mut backoff, mut said) = (Backoff::new(START_PAUSE, LONGEST_START_PAUSE), String::new());
    loop {
        let trouble = match open_store(settings, cluster).await {
            Ok(store) => {
                health.set_database(Ok(()));
                return Ok(store);
            }
            Err(error @ StartError::Setting(_)) => return Err(error),
            Err(StartError::Refused(sentence)) => DatabaseTrouble::Unfit(sentence),
            Err(StartError::Store(error)) => DatabaseTrouble::Unreachable(error.to_string()),
        };
        let sentence = trouble.sentence();
        if said == sentence {
            tracing::debug!(error = sentence, "still waiting for the database");
        } else {
            match &trouble {
                DatabaseTrouble::Unreachable(error) => tracing::warn!(error, "waiting for the database"),
                DatabaseTrouble::Unfit(why) => {
                    tracing::warn!(why, "the database is refused, trying again until that is mended")
                }
            }
            sentence.clone_into(&mut said);
        }
        health.set_database(Err(trouble));
        sleep(backoff.pause()).await;
    }
}

async fn open_store(settings: &Settings, cluster: &str) -> Result<Store, StartError> {
    let (database, identity) = (&settings.database, &settings.identity);
    migrate::prepare(database).await?;
    let store = Store::open(
        database.database_url.address()?,
        database.mode,
        settings.database_connections,
    )
    .await?;
    installation::enter(&store, cluster, &identity.installation, &identity.namespaces).await?;
    Ok(store)
}

/// The leadership's row, as the elector asks for it.
#[derive(Clone)]
struct LeadershipRow {
    store: Store,
    cluster: String,
    installation: String,
    namespaces: Vec<String>,
    holder: String,
    known: KnownLeader,
    cache: SharedCache,
}

impl LeadershipRow {
    fn new(store: &Store, cluster: String, settings: &Settings, cache: &SharedCache) -> Self {
        Self {
            store: store.clone(),
            cluster,
            installation: settings.identity.installation.clone(),
            namespaces: settings.identity.namespaces.clone(),
            holder: holder(),
            known: KnownLeader::default(),
            cache: cache.clone(),
        }
    }

    /// The database is looked at before each term and each renewal: one that does not fit any more is not led from.
    async fn ask(self, request: Request) -> Result<Answer, StoreError> {
        match request {
            Request::Acquire => {
                self.store.examine().await?;
                self.admit().await?;
                match lead::acquire(&self.store, &self.cluster, &self.installation, &self.holder).await? {
                    Some(leader) => {
                        self.known.learn(&self.holder);
                        Ok(Answer::Held(leader))
                    }
                    None => self.who_leads().await,
                }
            }
            Request::Renew(leader) => {
                self.store.examine().await?;
                if lead::renew(&self.store, &leader, &self.holder).await? {
                    return Ok(Answer::Held(leader));
                }
                self.who_leads().await
            }
            Request::Release(leader) => {
                lead::release(&self.store, &leader, &self.holder).await?;
                Ok(Answer::Vacant)
            }
        }
    }

    /// Whose term runs, where it is not this replica's.
    async fn who_leads(&self) -> Result<Answer, StoreError> {
        let term = lead::running(&self.store, &self.cluster, &self.installation).await?;
        Ok(term.map_or(Answer::Vacant, |term| {
            self.known.learn(&term.holder);
            Answer::Led { left: term.left }
        }))
    }

    /// Has a cluster that the database does not know yet made known, once all leases are listed that may be held there.
    async fn admit(&self) -> Result<(), StoreError> {
        if cluster::is_known(&self.store, &self.cluster).await? {
            return Ok(());
        }
        let listed = async {
            loop {
                let held = self.cache.read().held_leases(&self.namespaces);
                match held {
                    Some(held) => return held,
                    None => sleep(LISTING_PAUSE).await,
                }
            }
        };
        match timeout(LISTING_LIMIT, listed).await {
            Ok(held) => cluster::admit(&self.store, &self.cluster, &held).await,
            Err(_) => Err(StoreError::Unfit(format!(
                "this database ({}) has never known cluster {:?}: it is led from once all leases there are listed and none of \
                 them is held",
                self.store.id(),
                self.cluster
            ))),
        }
    }
}

/// A name of this process that no other has had; the host's name, in a cluster the Pod's, is for people.
fn holder() -> String {
    format!("{}/{}", host(), random::unique())
}

/// The host's name; in a cluster the Pod's.
fn host() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "unknown-host".into())
}
