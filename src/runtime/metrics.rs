//! What the operator counts, in the OpenMetrics format; every name begins with `environment_operator_`.
//!
//! Labels come from closed sets or from the configuration: none grows with the number of objects.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who made a lease that is active although its run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOwner {
    /// It has or had an object.
    Operator,
    /// It never had one.
    Foreign,
}

/// The process's metrics; one method per thing that happens.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<KindResult, Counter>,
    reconcile_duration: Family<Kind, Histogram, Buckets>,
    lease_grants: Counter,
    lease_refusals: Family<Reason, Counter>,
    lease_endings: Family<Reason, Counter>,
    rewritten_endings: Counter,
    removed_objects: Counter,
    removed_rows: Counter,
    retention_last_success: Gauge<f64, AtomicU64>,
    batch_size: Family<Statement, Histogram, Buckets>,
    batch_duration: Family<Statement, Histogram, Buckets>,
    feed_freshness: Family<Kind, Gauge<f64, AtomicU64>>,
    feed_lists: Family<Kind, Counter>,
    queue_depth: Family<Kind, Gauge>,
    leadership: Gauge,
    events_dropped: Counter,
    leaked_leases: Family<Owner, Gauge>,
    reported_foreign_leases: Family<Reason, Gauge>,
    store_errors: Family<Category, Counter>,
    sweeps: Counter,
    sweep_candidates: Counter,
    notification_queue_usage: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindResult {
    kind: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Statement {
    statement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Owner {
    owner: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    category: &'static str,
}

/// Buckets of a family of histograms: first bound, factor, number.
#[derive(Clone, Copy, Debug)]
struct Buckets(f64, f64, u16);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(self.0, self.1, self.2))
    }
}

/// 1 ms to about 16 s.
const SECONDS: Buckets = Buckets(0.001, 2.0, 15);
/// 1 to 1,024 rows.
const ROWS: Buckets = Buckets(1.0, 2.0, 11);

impl Metrics {
    /// All families at zero, registered.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("environment_operator"),
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(SECONDS),
            lease_grants: Counter::default(),
            lease_refusals: Family::default(),
            lease_endings: Family::default(),
            rewritten_endings: Counter::default(),
            removed_objects: Counter::default(),
            removed_rows: Counter::default(),
            retention_last_success: Gauge::default(),
            batch_size: Family::new_with_constructor(ROWS),
            batch_duration: Family::new_with_constructor(SECONDS),
            feed_freshness: Family::default(),
            feed_lists: Family::default(),
            queue_depth: Family::default(),
            leadership: Gauge::default(),
            events_dropped: Counter::default(),
            leaked_leases: Family::default(),
            reported_foreign_leases: Family::default(),
            store_errors: Family::default(),
            sweeps: Counter::default(),
            sweep_candidates: Counter::default(),
            notification_queue_usage: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    /// Names and describes each family; the names of counters get their `_total` when they are encoded.
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What runs here", build);
        registry.register(
            "reconciles",
            "Reconciles, by what came of them",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of a reconcile, from the key to the status",
            self.reconcile_duration.clone(),
        );
        registry.register("lease_grants", "Leases granted", self.lease_grants.clone());
        registry.register(
            "lease_refusals",
            "Claims that failed without a grant",
            self.lease_refusals.clone(),
        );
        registry.register("lease_endings", "Leases ended or retained", self.lease_endings.clone());
        registry.register(
            "rewritten_endings",
            "Ended rows that another writer changed after their end",
            self.rewritten_endings.clone(),
        );
        registry.register(
            "removed_objects",
            "Finished lease objects removed after spec.ttlSecondsAfterFinished",
            self.removed_objects.clone(),
        );
        registry.register(
            "removed_rows",
            "Rows of leases removed because they ended longer ago than --retention",
            self.removed_rows.clone(),
        );
        registry.register(
            "retention_last_success_timestamp_seconds",
            "When --retention last left nothing to remove, in seconds since 1970; 0: never yet",
            self.retention_last_success.clone(),
        );
        registry.register("batch_size", "Rows of a transaction", self.batch_size.clone());
        registry.register(
            "batch_duration_seconds",
            "Duration of a transaction",
            self.batch_duration.clone(),
        );
        registry.register(
            "feed_freshness_seconds",
            "Time since a feed last heard from the API server",
            self.feed_freshness.clone(),
        );
        registry.register("feed_lists", "Complete lists of a kind", self.feed_lists.clone());
        registry.register(
            "queue_depth",
            "Keys that wait for a reconcile",
            self.queue_depth.clone(),
        );
        registry.register(
            "leadership",
            "1 while this replica leads, else 0",
            self.leadership.clone(),
        );
        registry.register(
            "events_dropped",
            "Events over their namespace's budget",
            self.events_dropped.clone(),
        );
        registry.register(
            "leaked_leases",
            "Active leases whose run is over",
            self.leaked_leases.clone(),
        );
        registry.register(
            "reported_foreign_leases",
            "Foreign leases that are due to end, by what for, and are left to their own server",
            self.reported_foreign_leases.clone(),
        );
        registry.register(
            "store_errors",
            "Failed sweeps and lost LISTEN connections (a reconcile that the database fails is one of reconciles)",
            self.store_errors.clone(),
        );
        registry.register("sweeps", "Sweeps that were done to their end", self.sweeps.clone());
        registry.register(
            "sweep_candidates",
            "Leases that the sweep had to look at",
            self.sweep_candidates.clone(),
        );
        registry.register(
            "notification_queue_usage_ratio",
            "How full Postgres's queue of notifications is, 0 to 1",
            self.notification_queue_usage.clone(),
        );
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    ///
    /// None in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut buffer = String::new();
        text::encode(&mut buffer, &self.registry)?;
        Ok(buffer)
    }

    /// A reconcile is over; `result` is `ok` or the category of its error.
    pub fn reconciled(&self, kind: &str, result: &'static str, duration: Duration) {
        self.reconciles
            .get_or_create(&KindResult {
                kind: kind.into(),
                result,
            })
            .inc();
        self.reconcile_duration
            .get_or_create(&Kind { kind: kind.into() })
            .observe(duration.as_secs_f64());
    }

    /// A lease was granted.
    pub fn lease_granted(&self) {
        self.lease_grants.inc();
    }

    /// A claim failed without ever having been granted.
    pub fn lease_refused(&self, reason: &'static str) {
        self.lease_refusals.get_or_create(&Reason { reason }).inc();
    }

    /// A lease ended, or is retained.
    pub fn lease_ended(&self, reason: &'static str) {
        self.lease_endings.get_or_create(&Reason { reason }).inc();
    }

    /// An ended row was found changed by another writer.
    pub fn ending_rewritten(&self) {
        self.rewritten_endings.inc();
    }

    /// The object of a finished lease was removed.
    pub fn object_removed(&self) {
        self.removed_objects.inc();
    }

    /// Rows of leases that ended long ago were removed.
    pub fn rows_removed(&self, rows: i64) {
        self.removed_rows.inc_by(u64::try_from(rows).unwrap_or_default());
    }

    /// Nothing is left that ended longer ago than it is kept, at this moment in seconds since 1970.
    pub fn retention_succeeded(&self, now: f64) {
        self.retention_last_success.set(now);
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

    /// How long ago a feed last heard anything; set when the metrics are read.
    pub fn set_feed_freshness(&self, kind: &str, since: Duration) {
        self.feed_freshness
            .get_or_create(&Kind { kind: kind.into() })
            .set(since.as_secs_f64());
    }

    /// A feed has listed its kind completely.
    pub fn feed_listed(&self, kind: &str) {
        self.feed_lists.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// How many keys wait.
    pub fn set_queue_depth(&self, kind: &str, keys: usize) {
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.queue_depth.get_or_create(&Kind { kind: kind.into() }).set(keys);
    }

    /// Whether this replica leads.
    pub fn set_leading(&self, leading: bool) {
        self.leadership.set(i64::from(leading));
    }

    /// An Event was over its namespace's budget.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// How many active leases' runs are over.
    pub fn set_leaked_leases(&self, owner: LeaseOwner, leases: i64) {
        let owner = match owner {
            LeaseOwner::Operator => "operator",
            LeaseOwner::Foreign => "foreign",
        };
        self.leaked_leases.get_or_create(&Owner { owner }).set(leases);
    }

    /// Another replica leads, and counts leases from now on.
    pub fn forget_leases(&self) {
        self.leaked_leases.clear();
        self.reported_foreign_leases.clear();
    }

    /// How many foreign leases the sweep would have ended, for which reasons, all of them.
    pub fn set_reported_foreign_leases(&self, leases: impl Iterator<Item = (&'static str, i64)>) {
        self.reported_foreign_leases.clear();
        for (reason, leases) in leases {
            self.reported_foreign_leases
                .get_or_create(&Reason { reason })
                .set(leases);
        }
    }

    /// An operation of the store failed.
    pub fn store_failed(&self, category: &'static str) {
        self.store_errors.get_or_create(&Category { category }).inc();
    }

    /// A sweep is done.
    pub fn sweep_done(&self) {
        self.sweeps.inc();
    }

    /// The sweep found leases that no other source had noticed in time.
    pub fn swept(&self, candidates: usize) {
        self.sweep_candidates
            .inc_by(u64::try_from(candidates).unwrap_or(u64::MAX));
    }

    /// How full Postgres's queue of notifications is, 0 to 1.
    pub fn set_notification_queue_usage(&self, ratio: f64) {
        self.notification_queue_usage.set(ratio);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_carries_the_prefix_and_its_documented_name() {
        let metrics = Metrics::new();
        metrics.reconciled("EnvironmentLease", "ok", Duration::from_millis(3));
        metrics.lease_granted();
        metrics.lease_ended("RunFinished");
        metrics.batch("grant", 200, Duration::from_millis(12));
        metrics.feed_listed("Job");
        metrics.set_leading(true);
        metrics.set_leaked_leases(LeaseOwner::Foreign, 7);

        let text = metrics.encode().unwrap();

        for line in [
            "environment_operator_build_info{version=",
            r#"environment_operator_reconciles_total{kind="EnvironmentLease",result="ok"} 1"#,
            r#"environment_operator_reconcile_duration_seconds_count{kind="EnvironmentLease"} 1"#,
            "environment_operator_lease_grants_total 1",
            r#"environment_operator_lease_endings_total{reason="RunFinished"} 1"#,
            r#"environment_operator_batch_size_sum{statement="grant"} 200"#,
            r#"environment_operator_feed_lists_total{kind="Job"} 1"#,
            "environment_operator_leadership 1",
            r#"environment_operator_leaked_leases{owner="foreign"} 7"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
