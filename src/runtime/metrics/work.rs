//! Reconciles, and the queue of what is to be reconciled.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use strum::{IntoStaticStr, VariantArray};

use super::families::{Counted, DELAYS, DURATIONS, Families, FloatGauge, Histograms, number};

/// Reconciles and the queue.
#[derive(Debug)]
pub struct WorkMetrics {
    reconciles: Family<KindResult, Counter>,
    reconcile_duration: Histograms<Kind>,
    queue_depth: Family<Kind, Gauge>,
    queue_age: Family<Kind, FloatGauge>,
    deadlines: Counted<CauseLabel>,
    deadline_lateness: Histograms<CauseLabel>,
}

/// Why something is to be looked at again at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum Cause {
    /// A lease's `expiresAt`.
    Ttl,
    /// The end of a lease's patience with a runner that is silent.
    Heartbeat,
    /// A claim asks again, at its last moment at the latest.
    Acquire,
    /// A finished lease's object is to be removed.
    Removal,
    /// The last reconcile failed.
    Retry,
    /// Another look at what could not be settled, or is to be shown at a measured pace.
    Look,
}

/// Keys of one kind that are ready and wait for a free hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub keys: usize,
    /// How long the one that has waited longest has done so; zero where none waits.
    pub longest: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindResult {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

impl From<Cause> for CauseLabel {
    fn from(cause: Cause) -> Self {
        let cause = cause.into_str();
        Self { cause }
    }
}

impl WorkMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            reconciles: families.register("reconciles", "Reconciles, by what came of them", Family::default()),
            reconcile_duration: families.register(
                "reconcile_duration_seconds",
                "Duration of a reconcile, from the key to the status",
                Family::new_with_constructor(DURATIONS),
            ),
            queue_depth: families.register("queue_depth", "Keys that wait for a reconcile", Family::default()),
            queue_age: families.register(
                "queue_age_seconds",
                "How long the key that has waited longest for a reconcile has done so; 0: none waits",
                Family::default(),
            ),
            deadlines: Counted::register(
                families,
                "deadlines",
                "Keys that are to be looked at again at a moment, by what for: a lease's end by time (ttl), its silence \
                 (heartbeat), a claim's patience (acquire), a finished object (removal), a failed reconcile (retry), any other \
                 look",
            ),
            deadline_lateness: families.register(
                "deadline_lateness_seconds",
                "How long after its moment such a key was looked at",
                Family::new_with_constructor(DELAYS),
            ),
        }
    }

    /// A reconcile is over; `result` is `ok` or the category of its error.
    pub fn reconciled(&self, kind: &'static str, result: &'static str, duration: Duration) {
        self.reconciles.get_or_create(&KindResult { kind, result }).inc();
        self.reconcile_duration
            .get_or_create(&Kind { kind })
            .observe(duration.as_secs_f64());
    }

    /// How many keys of a kind wait, and for how long.
    pub fn set_waiting(&self, kind: &'static str, waiting: Waiting) {
        self.queue_depth.get_or_create(&Kind { kind }).set(number(waiting.keys));
        self.queue_age
            .get_or_create(&Kind { kind })
            .set(waiting.longest.as_secs_f64());
    }

    /// How many keys have their moment.
    pub fn set_deadlines(&self, deadlines: &HashMap<Cause, usize>) {
        let count = |cause| deadlines.get(&cause).copied().unwrap_or_default();
        let counted = Cause::VARIANTS.iter().map(|cause| ((*cause).into(), count(*cause)));
        self.deadlines.set(counted.collect());
    }

    /// A key is looked at, so long after its moment.
    pub fn looked_after_deadline(&self, cause: Cause, lateness: Duration) {
        self.deadline_lateness
            .get_or_create(&cause.into())
            .observe(lateness.as_secs_f64());
    }
}
