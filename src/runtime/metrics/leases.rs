//! Leases and environments: how many there are, and what becomes of them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::families::{Counted, DELAYS, Families};
use crate::api::Reason;
use crate::cache::ObjectCounts;

/// By how much a lease outlives its run where that is counted: what `docs/operations.md` asks the database for.
const LATE: Duration = Duration::from_secs(60);

/// The label of what an object does not show (yet).
const NONE: &str = "none";

/// Leases and environments.
#[derive(Debug)]
pub struct LeaseMetrics {
    leases: Counted<PhasePolicyDriver>,
    pending: Counted<ReasonLabel>,
    environments: Counted<PhaseDriver>,
    grants: Counter,
    grant_delay: Histogram,
    refusals: Family<ReasonLabel, Counter>,
    endings: Family<ReasonLabel, Counter>,
    release_delay: Histogram,
    late_endings: Family<ReasonLabel, Counter>,
    rewritten_endings: Counter,
    removed_objects: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhasePolicyDriver {
    phase: &'static str,
    policy: &'static str,
    driver: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseDriver {
    phase: &'static str,
    driver: &'static str,
}

/// A closed reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    reason: &'static str,
}

impl From<Reason> for ReasonLabel {
    fn from(reason: Reason) -> Self {
        let reason = reason.into_str();
        Self { reason }
    }
}

impl LeaseMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            leases: Counted::register(
                families,
                "leases",
                "Lease objects by what they show; driver none: without a grant so far",
            ),
            pending: Counted::register(
                families,
                "pending_leases",
                "Claims that wait, by the reason that they show; none: not looked at yet",
            ),
            environments: Counted::register(families, "environments", "Environment objects by what they show"),
            grants: families.register("lease_grants", "Leases granted", Counter::default()),
            grant_delay: families.register(
                "grant_delay_seconds",
                "Time from a claim's creation, which is told in whole seconds, to its grant",
                DELAYS.histogram(),
            ),
            refusals: families.register(
                "lease_refusals",
                "Claims that failed without a grant",
                Family::default(),
            ),
            endings: families.register("lease_endings", "Leases ended or retained", Family::default()),
            release_delay: families.register(
                "release_delay_seconds",
                "Time from a run's end to that of its lease, committed; objects tell theirs in whole seconds, and where none is \
                 told it counts from when the operator noticed",
                DELAYS.histogram(),
            ),
            late_endings: families.register(
                "late_lease_endings",
                "Leases that outlived their run by more than a minute, counted when they ended, by the reason of the ending",
                Family::default(),
            ),
            rewritten_endings: families.register(
                "rewritten_endings",
                "Ended rows that another writer changed after their end",
                Counter::default(),
            ),
            removed_objects: families.register(
                "removed_objects",
                "Finished lease objects removed after spec.ttlSecondsAfterFinished",
                Counter::default(),
            ),
        }
    }

    /// Shows how many objects there are.
    pub fn set_object_counts(&self, object_counts: ObjectCounts) {
        let leases = object_counts.leases.into_iter().map(|(by, count)| {
            let labels = PhasePolicyDriver {
                phase: by.phase.into_str(),
                policy: by.policy.into_str(),
                driver: by.driver.map_or(NONE, Into::into),
            };
            (labels, count)
        });
        let pending = object_counts.pending.into_iter().map(|(reason, count)| {
            let reason = reason.map_or(NONE, Into::into);
            (ReasonLabel { reason }, count)
        });
        let environments = object_counts.environments.into_iter().map(|((phase, driver), count)| {
            let (phase, driver) = (phase.into_str(), driver.into_str());
            (PhaseDriver { phase, driver }, count)
        });
        self.leases.set(leases.collect());
        self.pending.set(pending.collect());
        self.environments.set(environments.collect());
    }

    /// A lease was granted, so long after its claim was made.
    pub fn granted(&self, delay: Duration) {
        self.grants.inc();
        self.grant_delay.observe(delay.as_secs_f64());
    }

    /// A claim failed without ever having been granted.
    pub fn refused(&self, reason: Reason) {
        self.refusals.get_or_create(&reason.into()).inc();
    }

    /// A lease ended, or is retained.
    pub fn ended(&self, reason: Reason) {
        self.endings.get_or_create(&reason.into()).inc();
    }

    /// A lease was ended because its run is over, so long after that.
    pub fn released(&self, delay: Duration) {
        self.release_delay.observe(delay.as_secs_f64());
    }

    /// A lease that was active ended so long after its run: more than a minute is a leak.
    pub fn outlived_its_run(&self, reason: Reason, by: Duration) {
        if by > LATE {
            self.late_endings.get_or_create(&reason.into()).inc();
        }
    }

    /// An ended row was found changed by another writer.
    pub fn ending_rewritten(&self) {
        self.rewritten_endings.inc();
    }

    /// The object of a finished lease was removed.
    pub fn object_removed(&self) {
        self.removed_objects.inc();
    }
}
