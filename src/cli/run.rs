//! `run`: puts the parts together, and takes them apart in order.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, migrate};
use crate::controller::shell::{self, Context};
use crate::mirror::Mirror;
use crate::runtime::client;
use crate::runtime::configuration::Settings;
use crate::runtime::health::{self, Health};
use crate::runtime::leadership::{Campaign, Request};
use crate::runtime::metrics::Metrics;
use crate::runtime::shutdown;
use crate::runtime::supervision::Supervisor;
use crate::runtime::telemetry::{Exporting, Origin, Traces};
use crate::store::{Category, Leader, StartError, Store, StoreError, installation, lead};

/// Pause between two tries to reach at the start what is not there yet.
const START_PAUSE: Duration = Duration::from_secs(2);

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
    let starting = async {
        let client = client::connect(settings.identity.kubeconfig.as_deref(), Arc::clone(metrics)).await?;
        let cluster = reach_cluster(settings, &client, health).await;
        if let Some((traces, exporting)) = traces {
            *exporting = export(settings, traces, &cluster)?;
        }
        let store = reach_store(settings, &cluster, health).await?;
        Ok::<_, Error>((client, cluster, store))
    };
    // Nothing is begun yet that had to be finished: a signal ends each of these waits at once.
    let Some(started) = stop.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let (client, cluster, store) = started?;
    tracing::info!(cluster, installation = settings.identity.installation, database = %settings.database.database_url, "started");

    let expiry = Duration::from_secs(lead::TERM_SECONDS.into());
    let (campaign, leadership) = Campaign::new(expiry, health.clone(), Arc::clone(metrics));
    let row = LeadershipRow {
        store: store.clone(),
        cluster,
        installation: settings.identity.installation.clone(),
        holder: holder(),
    };
    let campaign_stop = CancellationToken::new();
    let office = Supervisor::new(campaign_stop.clone());
    office.spawn(
        "leadership",
        campaign.run(move |request| row.clone().ask(request), campaign_stop.clone()),
    );

    let observer = Arc::clone(metrics);
    let mirror = Mirror::start(
        store.clone(),
        leadership.leader(),
        Arc::new(move |statement, rows, duration| observer.database.batch(statement, rows, duration)),
    );
    let context = Context {
        client,
        mirror,
        leadership,
        health: health.clone(),
        metrics: Arc::clone(metrics),
        settings: settings.clone(),
        instance: host(),
    };
    let work = office.guard(shell::run(context, stop.clone()));
    let worked = shutdown::drain(work, stop, settings.pace.drain_timeout.mul_f64(WORK_SHARE)).await;
    if worked.is_none() {
        tracing::warn!("what was begun did not end in time: the next leader decides it again");
    }

    // Leadership outlives the work, for what the work flushes must still be proven.
    campaign_stop.cancel();
    office.join().await;
    store.close().await;
    match worked {
        Some(Err(ended) | Ok(Err(ended))) => Err(ended.into()),
        Some(Ok(Ok(()))) | None if stop.is_cancelled() => Ok(()),
        Some(Ok(Ok(()))) | None => Err(Error::Ended),
    }
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
async fn reach_cluster(settings: &Settings, client: &Client, health: &Health) -> String {
    if let Some(id) = &settings.identity.cluster_id {
        health.set_api_server(Ok(()));
        return id.clone();
    }
    loop {
        match client::cluster_id(client).await {
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

/// The database, migrated: waits for one that is not there yet, but not for one that is refused.
async fn reach_store(settings: &Settings, cluster: &str, health: &Health) -> Result<Store, StartError> {
    loop {
        match open_store(settings, cluster).await {
            Ok(store) => {
                health.set_database(Ok(()));
                return Ok(store);
            }
            Err(StartError::Store(error)) if matches!(error.category(), Category::Unavailable | Category::Conflict) => {
                tracing::warn!(%error, "waiting for the database");
                health.set_database(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        }
        sleep(START_PAUSE).await;
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

/// The leadership's row, as the campaign asks for it.
#[derive(Clone)]
struct LeadershipRow {
    store: Store,
    cluster: String,
    installation: String,
    holder: String,
}

impl LeadershipRow {
    async fn ask(self, request: Request) -> Result<Option<Leader>, StoreError> {
        match request {
            Request::Acquire => lead::acquire(&self.store, &self.cluster, &self.installation, &self.holder).await,
            Request::Renew(leader) => {
                let held = lead::renew(&self.store, &leader, &self.holder).await?;
                Ok(held.then_some(leader))
            }
            Request::Release(leader) => {
                lead::release(&self.store, &leader, &self.holder).await?;
                Ok(None)
            }
        }
    }
}

/// A name of this process that no other has had; the host's name, in a cluster the Pod's, is for people.
fn holder() -> String {
    format!("{}/{}", host(), Uuid::new_v4())
}

/// The host's name; in a cluster the Pod's.
fn host() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "unknown-host".into())
}
