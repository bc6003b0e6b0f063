//! How families are registered, and the few shapes that they have.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// A gauge of a ratio, of seconds, of a moment.
pub(super) type FloatGauge = Gauge<f64, AtomicU64>;

/// The upper bounds of a histogram's buckets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets(&'static [f64]);

/// Seconds that something took: 1 ms to about 16 s.
pub(super) const DURATIONS: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
]);

/// Seconds by which something came after what it was due to: 1 ms to an hour, for what was away may have been away for long.
pub(super) const DELAYS: Buckets = Buckets(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
]);

/// Rows of a transaction: 1 to 1,024.
pub(super) const ROWS: Buckets = Buckets(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]);

impl Buckets {
    /// A histogram of these buckets.
    pub(super) fn histogram(self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        self.histogram()
    }
}

/// Histograms by labels.
pub(super) type Histograms<L> = Family<L, Histogram, Buckets>;

/// The registry while families are added to it.
pub(super) struct Families {
    registry: Registry,
    registered: usize,
}

impl Families {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            registered: 0,
        }
    }

    /// Registers a family and hands it back. The names of counters get their `_total` when they are encoded.
    pub(super) fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.register_constant(name, help, metric.clone());
        metric
    }

    /// Registers what never changes.
    pub(super) fn register_constant(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registered += 1;
        self.registry.register(name, help, metric);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn registered(&self) -> usize {
        self.registered
    }

    pub(super) fn into_registry(self) -> Registry {
        self.registry
    }
}

/// Gauges that are counted anew all at once. A series that has been shown and has nothing to count any more shows zero: one
/// that vanished would be taken for an operator that has.
#[derive(Debug)]
pub(super) struct Counted<L> {
    family: Family<L, Gauge>,
    shown: Mutex<HashSet<L>>,
}

impl<L: Clone + Debug + EncodeLabelSet + Eq + Hash + Send + Sync + 'static> Counted<L> {
    pub(super) fn register(families: &mut Families, name: &str, help: &str) -> Self {
        Self {
            family: families.register(name, help, Family::default()),
            shown: Mutex::default(),
        }
    }

    pub(super) fn set(&self, counts: HashMap<L, usize>) {
        let mut shown = self.shown.lock();
        for labels in shown.iter().filter(|labels| !counts.contains_key(*labels)) {
            self.family.get_or_create(labels).set(0);
        }
        for (labels, count) in counts {
            self.family.get_or_create(&labels).set(number(count));
            shown.insert(labels);
        }
    }

    /// Shows no series any more: somebody else counts.
    pub(super) fn forget(&self) {
        self.shown.lock().clear();
        self.family.clear();
    }
}

/// A count as a gauge takes it.
pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
