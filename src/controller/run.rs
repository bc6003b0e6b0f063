//! Puts the parts together and runs them until the process stops.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::background::missed_deletions::MissedDeletions;
use super::background::{retention, run_events, sweep};
use super::context::{Context, ReconcileSettings};
use super::reconcile::Reconcilers;
use super::workers;
use crate::cache::SharedCache;
use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject, RunObject};
use crate::controller::outside::cluster::KubeCluster;
use crate::controller::outside::event::Emitter;
use crate::controller::outside::permissions::Permissions;
use crate::controller::watch::list_watch::{self, WatchSettings};
use crate::controller::watch::sink::{Fed, Sink};
use crate::controller::watch::source;
use crate::controller::watch::source::Source;
use crate::controller::work::queue::Queue;
use crate::mirror::Mirror;
use crate::runtime::configuration::Settings;
use crate::runtime::health::Health;
use crate::runtime::leadership::Leadership;
use crate::runtime::metrics::Metrics;
use crate::runtime::supervision::{Supervisor, TaskEnded};
use crate::store::Store;

/// What the controller is given by the process.
pub struct Parts {
    /// The way to the API server. Its requests have no timeout of their own, for watches are long.
    pub client: Client,
    /// The way to the database.
    pub mirror: Mirror,
    pub leadership: Leadership,
    /// Where readiness is reported.
    pub health: Health,
    pub metrics: Arc<Metrics>,
    /// What the watches show, empty yet.
    pub cache: SharedCache,
    pub settings: Settings,
    /// The name of this replica, for Events.
    pub instance: String,
}

/// Runs the controller until `stop`, then finishes what it has begun.
///
/// # Errors
/// The first of its tasks that ended although it was not told to: without it the others must not go on.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), TaskEnded> {
    let metrics = parts.metrics.clone();
    let controller = Controller::new(parts, stop);
    let (context, mirror) = (&controller.reconcilers.context, &controller.reconcilers.database);
    let expected = controller.watches.start(&controller.settings);
    let mirror_broken = mirror.broken();
    metrics.measure_when_read(measure(
        context.queue.clone(),
        context.cache.clone(),
        mirror.store().clone(),
    ));
    controller.await_run_ends();
    let tasks = &controller.watches.tasks;
    let worked = tokio::select! {
        worked = tasks.guard(controller.work(expected)) => worked,
        name = mirror_broken => Err(TaskEnded::Panicked {
            name: format!("batcher {name}"),
            message: "its words are in the log".to_owned(),
        }),
    };
    tasks.shutdown().await;
    worked
}

/// The parts, put together.
struct Controller {
    watches: Watches,
    reconcilers: Arc<Reconcilers<Mirror, KubeCluster>>,
    leadership: Leadership,
    settings: Settings,
    stop: CancellationToken,
}

impl Controller {
    fn new(parts: Parts, stop: CancellationToken) -> Self {
        let Parts {
            client,
            mirror,
            leadership,
            health,
            metrics,
            cache,
            settings,
            instance,
        } = parts;
        let permissions = Permissions::new(health.clone());
        let emitter = Emitter::new(client.clone(), instance, metrics.clone(), permissions.clone());
        let cluster = KubeCluster::new(client.clone(), emitter, permissions.clone());
        let context = Arc::new(Context::new(cache, metrics, of_reconcilers(&settings)));
        let watches = Watches {
            tasks: Supervisor::new(stop.clone()),
            client,
            context: context.clone(),
            health,
            permissions,
            settings: WatchSettings {
                watch_timeout: settings.pace.watch_timeout,
                resync_interval: settings.pace.resync_interval,
            },
            listed: watch::Sender::new(0),
            missed_deletions: Arc::default(),
        };
        Self {
            watches,
            reconcilers: Arc::new(Reconcilers::new(context, mirror, cluster)),
            leadership,
            settings,
            stop,
        }
    }

    /// Hears of run rows that come to an end, or asks for them, from now on.
    fn await_run_ends(&self) {
        let (context, mirror) = (self.reconcilers.context.clone(), self.reconcilers.database.clone());
        let (health, stop) = (self.watches.health.clone(), self.stop.clone());
        let tasks = &self.watches.tasks;
        if self.settings.database.has_run_trigger() {
            tasks.spawn(
                "listener for run ends",
                run_events::listen(context, mirror, health, stop),
            );
        } else {
            tasks.spawn("poll for run ends", run_events::poll(context, mirror, health, stop));
        }
    }

    /// Waits for all `expected` watches to be listed once; then everything that needs that begins.
    async fn work(&self, expected: usize) {
        if !workers::listed(self.watches.listed.subscribe(), expected, &self.stop).await {
            return;
        }
        let (looked, searched) = watch::channel(None);
        self.start_background(looked);
        let scopes = self.settings.identity.namespaces.len().max(1); // without names all are one
        let context = &self.reconcilers.context;
        let kinds = context.settings.run_kinds.len() * scopes;
        workers::run_kinds_heard_of(context, kinds, &self.stop).await;
        let (reconcilers, leadership) = (self.reconcilers.clone(), self.leadership.clone());
        workers::work(reconcilers, leadership, searched, self.stop.clone()).await;
    }

    /// Begins with what is done now and then; `looked` is told of each search for what was deleted unseen.
    fn start_background(&self, looked: watch::Sender<Option<i64>>) {
        let (context, mirror) = (&self.reconcilers.context, &self.reconcilers.database);
        let (tasks, stop, pace) = (&self.watches.tasks, &self.stop, &self.settings.pace);
        let leader = self.leadership.leader();
        let search = MissedDeletions {
            context: context.clone(),
            mirror: mirror.clone(),
            leader: leader.clone(),
            listed: self.watches.missed_deletions.clone(),
            looked,
        };
        tasks.spawn("search for what was deleted unseen", search.watch(stop.clone()));
        if let Some(kept) = pace.retention {
            tasks.spawn(
                "retention",
                retention::watch(context.clone(), mirror.clone(), kept, leader, stop.clone()),
            );
        }
        tasks.spawn(
            "sweep",
            sweep::watch(context.clone(), mirror.clone(), pace.sweep_interval, stop.clone()),
        );
    }
}

/// What the reconcilers have to know of the settings.
fn of_reconcilers(settings: &Settings) -> ReconcileSettings {
    ReconcileSettings {
        namespaces: settings.identity.namespaces.clone(),
        mode: settings.database.mode,
        run_kinds: settings.endings.watched_kinds(),
        notice_by: settings.endings.sources(),
        unmanaged: settings.endings.unmanaged_rules(settings.database.mode),
    }
}

/// What is measured when the metrics are read. It holds on to what it measures alone: the reconciler holds the metrics.
fn measure(queue: Arc<Queue>, cache: SharedCache, store: Store) -> impl Fn(&Metrics) + Send + Sync + 'static {
    move |metrics| {
        let size = queue.size(Instant::now());
        metrics.work.set_waiting("Environment", size.environments);
        metrics.work.set_waiting("EnvironmentLease", size.leases);
        metrics.work.set_deadlines(&size.timers);
        let object_counts = cache.read().object_counts();
        metrics.leases.set_object_counts(object_counts);
        metrics.database.set_pool("main", store.pool_use());
    }
}

/// The watches that are to be followed.
struct Watches {
    tasks: Supervisor,
    client: Client,
    context: Arc<Context>,
    health: Health,
    permissions: Permissions,
    settings: WatchSettings,
    listed: watch::Sender<usize>,
    missed_deletions: Arc<Notify>,
}

impl Watches {
    /// Starts all watches; how many of them must be listed before anything is decided.
    ///
    /// The run kinds are not among these, and are waited for a while only: without them leases still end by every other cause.
    fn start(&self, settings: &Settings) -> usize {
        let namespaces: Vec<Option<&str>> = match settings.identity.namespaces.as_slice() {
            [] => vec![None],
            named => named.iter().map(|namespace| Some(namespace.as_str())).collect(),
        };
        for namespace in &namespaces {
            self.follow::<NamespaceObject>(source::namespaces(*namespace), *namespace, true);
            self.follow::<EnvironmentObject>(source::environments(*namespace), *namespace, true);
            self.follow::<LeaseObject>(source::leases(*namespace), *namespace, true);
            for kind in &self.context.settings.run_kinds.clone() {
                self.follow::<RunObject>(source::runs(kind, *namespace), *namespace, false);
            }
        }
        namespaces.len() * 3
    }

    fn follow<T: Fed>(&self, source: Source, scope: Option<&str>, needed: bool) {
        let name = source.display();
        self.health.expect_watch(&name);
        let sink = Sink {
            context: self.context.clone(),
            health: self.health.clone(),
            permissions: self.permissions.clone(),
            listed: self.listed.clone(),
            missed_deletions: self.missed_deletions.clone(),
            name,
            scope: scope.map(str::to_owned),
        };
        let (client, settings) = (self.client.clone(), self.settings);
        let mut counted = !needed;
        let task = format!("watch {}", source.display());
        self.tasks.spawn(task, async move {
            let kind = source.kind.clone();
            list_watch::follow(&client, &source, settings, |event: list_watch::WatchEvent<T>| {
                sink.take(&mut counted, &kind, event)
            })
            .await;
        });
    }
}
