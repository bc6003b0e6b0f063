//! Transactions and connections.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoStaticStr;
use uuid::Uuid;

use super::families::{DELAYS, DURATIONS, Families, FloatGauge, Histograms, ROWS};
use crate::store::{Category, PoolUse};

/// Transactions and connections.
#[derive(Debug)]
pub struct DatabaseMetrics {
    reachable: Gauge,
    fits: Gauge,
    identity: Family<Identity, Gauge>,
    batch_size: Histograms<Statement>,
    batch_duration: Histograms<Statement>,
    batch_lag: Histograms<Statement>,
    connections: Family<PoolState, Gauge>,
    connections_max: Family<Pool, Gauge>,
    errors: Family<CategoryLabel, Counter>,
    notification_queue_usage: FloatGauge,
    set_aside: Family<PlaceLabel, Counter>,
}

/// Who has set a row aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum Place {
    Reconcile,
    /// The sweep of unmanaged leases.
    Sweep,
    Retention,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabel {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Statement {
    statement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolState {
    pool: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabel {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Identity {
    id: String,
}

impl DatabaseMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            reachable: families.register(
                "database_reachable",
                "1 while the database answers this replica, else 0",
                Gauge::default(),
            ),
            fits: families.register(
                "database_fits",
                "0 while the database answers this replica and is refused: its /readyz says why; else 1",
                Gauge::default(),
            ),
            identity: families.register(
                "database_info",
                "1, with the id of the database: a restored backup has the same, another database another one",
                Family::default(),
            ),
            batch_size: families.register(
                "batch_size",
                "Rows of a transaction",
                Family::new_with_constructor(ROWS),
            ),
            batch_duration: families.register(
                "batch_duration_seconds",
                "Duration of a transaction",
                Family::new_with_constructor(DURATIONS),
            ),
            batch_lag: families.register(
                "batch_lag_seconds",
                "Time from when a key was ready in the queue to the commit of what followed from it",
                Family::new_with_constructor(DELAYS),
            ),
            connections: families.register(
                "database_connections",
                "Connections to the database by pool and state (used, idle)",
                Family::default(),
            ),
            connections_max: families.register(
                "database_connections_max",
                "How many connections a pool may have",
                Family::default(),
            ),
            errors: families.register(
                "store_errors",
                "Failed sweeps and lost LISTEN connections (a reconcile that the database fails is one of reconciles)",
                Family::default(),
            ),
            set_aside: families.register(
                "rows_set_aside",
                "Rows that were passed over because they could not be read or the database refused what was to be done to them, each \
                 time, by whom (reconcile, sweep, retention)",
                Family::default(),
            ),
            notification_queue_usage: families.register(
                "notification_queue_usage_ratio",
                "How full Postgres's queue of notifications is, 0 to 1",
                FloatGauge::default(),
            ),
        }
    }

    /// Whether the database has answered when it was last asked.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.set(i64::from(reachable));
    }

    /// Whether the database was not refused when it was last looked at.
    pub fn set_fits(&self, fits: bool) {
        self.fits.set(i64::from(fits));
    }

    /// Which database it is.
    pub fn set_identity(&self, id: Uuid) {
        self.identity.clear();
        self.identity.get_or_create(&Identity { id: id.to_string() }).set(1);
    }

    /// A transaction of the mirror is over; `statement` names what it did.
    pub fn batch(&self, statement: &'static str, rows: usize, duration: Duration) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.batch_size
            .get_or_create(&Statement { statement })
            .observe(f64::from(rows));
        self.batch_duration
            .get_or_create(&Statement { statement })
            .observe(duration.as_secs_f64());
    }

    /// What a reconcile asked for is committed, so long after its key was ready.
    pub fn committed(&self, statement: &'static str, lag: Duration) {
        self.batch_lag
            .get_or_create(&Statement { statement })
            .observe(lag.as_secs_f64());
    }

    /// How a pool stands.
    pub fn set_pool(&self, pool: &'static str, of: PoolUse) {
        let used = of.open.saturating_sub(of.idle);
        for (state, connections) in [("used", used), ("idle", of.idle)] {
            self.connections
                .get_or_create(&PoolState { pool, state })
                .set(connections.into());
        }
        self.connections_max.get_or_create(&Pool { pool }).set(of.max.into());
    }

    /// An operation of the store failed.
    pub fn failed(&self, category: Category) {
        let category = category.into_str();
        self.errors.get_or_create(&CategoryLabel { category }).inc();
    }

    /// A row was passed over: it could not be read, or the database refused it.
    pub fn set_aside(&self, place: Place) {
        let by = place.into_str();
        self.set_aside.get_or_create(&PlaceLabel { by }).inc();
    }

    /// How full Postgres's queue of notifications is, 0 to 1.
    pub fn set_notification_queue_usage(&self, ratio: f64) {
        self.notification_queue_usage.set(ratio);
    }
}
