//! This replica: whether it leads, whether it is ready.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::families::Families;

/// This replica.
#[derive(Debug)]
pub struct ReplicaMetrics {
    leadership: Gauge,
    leadership_changes: Counter,
    ready: Gauge,
}

impl ReplicaMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            leadership: families.register("leadership", "1 while this replica leads, else 0", Gauge::default()),
            leadership_changes: families.register(
                "leadership_changes",
                "How often this replica has begun to lead",
                Counter::default(),
            ),
            ready: families.register("ready", "1 while /readyz says yes, else 0", Gauge::default()),
        }
    }

    /// Whether this replica leads. To be called when that changes, or its term does.
    pub fn set_leading(&self, leading: bool) {
        self.leadership.set(i64::from(leading));
        if leading {
            self.leadership_changes.inc();
        }
    }

    /// Whether this replica is ready.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}
