//! How many objects there are, counted when the metrics are read: an incremental count would have to follow every path on
//! which a status changes, and ten thousand leases are counted in a few milliseconds.

use std::collections::HashMap;

use super::Cache;
use crate::api::{Driver, EnvironmentPhase, LeasePhase, LeasePolicy, Reason};

/// What leases are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeasesBy {
    /// `status.phase`; one that shows none is Pending.
    pub phase: LeasePhase,
    pub policy: LeasePolicy,
    /// `status.environment.driver`; none until a grant is shown.
    pub driver: Option<Driver>,
}

/// How many objects there are, as they show themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectCounts {
    pub leases: HashMap<LeasesBy, usize>,
    /// Claims that wait, by the reason that they show; none: nobody has looked at them yet.
    pub pending: HashMap<Option<Reason>, usize>,
    /// Environments, by phase (one that shows none is Pending) and driver.
    pub environments: HashMap<(EnvironmentPhase, Driver), usize>,
}

impl Cache {
    /// Counts the objects that are there by what they show.
    pub fn object_counts(&self) -> ObjectCounts {
        let mut object_counts = ObjectCounts::default();
        for lease in self.leases.iter() {
            let status = lease.status.as_ref();
            let phase = status.and_then(|status| status.phase).unwrap_or(LeasePhase::Pending);
            if phase == LeasePhase::Pending {
                let reason = status.and_then(|status| status.reason);
                *object_counts.pending.entry(reason).or_default() += 1;
            }
            let by = LeasesBy {
                phase,
                policy: lease.spec.policy,
                driver: status.and_then(|status| Some(status.environment.as_ref()?.driver)),
            };
            *object_counts.leases.entry(by).or_default() += 1;
        }
        for environment in self.environments.iter() {
            let phase = environment.status.as_ref().and_then(|status| status.phase);
            let phase = phase.unwrap_or(EnvironmentPhase::Pending);
            *object_counts
                .environments
                .entry((phase, environment.spec.driver))
                .or_default() += 1;
        }
        object_counts
    }
}
