//! The sweep and the retention, and what only they count: the leader's own, so a follower shows none of it.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::families::{Counted, DURATIONS, Families, FloatGauge};
use super::leases::ReasonLabel;
use crate::api::Reason;

/// The sweep and the retention.
#[derive(Debug)]
pub struct SweepMetrics {
    sweeps: Counter,
    candidates: Counter,
    duration: Histogram,
    last_success: FloatGauge,
    leaked: Family<Owner, Gauge>,
    reported_unmanaged: Counted<ReasonLabel>,
    removed_rows: Counter,
    retention_last_success: FloatGauge,
}

/// Who made a lease that is active although its run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOwner {
    /// It has or had an object.
    Operator,
    /// It never had one.
    Unmanaged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Owner {
    owner: &'static str,
}

impl SweepMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            sweeps: families.register("sweeps", "Sweeps that were done to their end", Counter::default()),
            candidates: families.register(
                "sweep_candidates",
                "Leases that the sweep had to look at",
                Counter::default(),
            ),
            duration: families.register(
                "sweep_duration_seconds",
                "Duration of a sweep that was done to its end",
                DURATIONS.histogram(),
            ),
            last_success: families.register(
                "sweep_last_success_timestamp_seconds",
                "When this replica's last sweep was done to its end, in seconds since 1970; 0: none yet, or another one leads",
                FloatGauge::default(),
            ),
            leaked: families.register("leaked_leases",
                "Leases that are still active although their run is over or gone; those whose run ended a moment ago, and are \
                 about to be ended, are counted too. owner: operator, the lease has or had an object; unmanaged, another program \
                 made it",
                Family::default(),
            ),
            reported_unmanaged: Counted::register(
                families,
                "reported_unmanaged_leases",
                "Unmanaged leases that are due to end, by what for, and are left to their own server",
            ),
            removed_rows: families.register(
                "removed_rows",
                "Rows of leases removed because they ended longer ago than --retention",
                Counter::default(),
            ),
            retention_last_success: families.register(
                "retention_last_success_timestamp_seconds",
                "When --retention last left nothing to remove, in seconds since 1970; 0: never yet",
                FloatGauge::default(),
            ),
        }
    }

    /// A sweep is done, at this moment in seconds since 1970.
    pub fn done(&self, duration: Duration, now: f64) {
        self.sweeps.inc();
        self.duration.observe(duration.as_secs_f64());
        self.last_success.set(now);
    }

    /// The sweep found leases that no other source had noticed in time.
    pub fn found(&self, candidates: usize) {
        self.candidates.inc_by(u64::try_from(candidates).unwrap_or(u64::MAX));
    }

    /// How many active leases' runs are over.
    pub fn set_leaked(&self, owner: LeaseOwner, leases: i64) {
        let owner = match owner {
            LeaseOwner::Operator => "operator",
            LeaseOwner::Unmanaged => "unmanaged",
        };
        self.leaked.get_or_create(&Owner { owner }).set(leases);
    }

    /// How many unmanaged leases the sweep would have ended, for which reasons, all of them.
    pub fn set_reported_unmanaged(&self, leases: &HashMap<Reason, usize>) {
        let leases = leases.iter().map(|(reason, leases)| ((*reason).into(), *leases));
        self.reported_unmanaged.set(leases.collect());
    }

    /// Another replica leads, and counts from now on.
    pub fn forget(&self) {
        self.leaked.clear();
        self.reported_unmanaged.forget();
        self.last_success.set(0.0);
    }

    /// Rows of leases that ended long ago were removed.
    pub fn rows_removed(&self, rows: i64) {
        self.removed_rows.inc_by(u64::try_from(rows).unwrap_or_default());
    }

    /// Nothing is left that ended longer ago than it is kept, at this moment in seconds since 1970.
    pub fn retention_succeeded(&self, now: f64) {
        self.retention_last_success.set(now);
    }
}
