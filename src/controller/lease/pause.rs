//! How long it takes until a lease is reconciled again by itself.

use std::time::Duration;

use super::BUSY_PAUSE;
use super::LeaseReconciler;
use super::observation::Observation;
use crate::cache::object::LeaseObject;
use crate::controller::work::requeue::Requeue;
use crate::projection::facts::acquire_deadline;
use crate::runtime::configuration::NoticeSource;
use crate::runtime::metrics::Cause;

impl<D, C> LeaseReconciler<D, C> {
    /// The time until the row expires, if deadlines may end leases.
    pub(super) fn until_expiry(&self, observation: &Observation) -> Option<Requeue> {
        let at = observation.view.row.as_ref()?.expires_at?;
        self.context
            .settings
            .notice_by
            .contains(&NoticeSource::Deadlines)
            .then(|| Requeue::new(Cause::Ttl, until(observation.view.now, at)))
    }
}

/// The time from one moment to another; nothing where it has passed.
pub(super) fn until(now: jiff::Timestamp, at: jiff::Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// How long a claim waits before it looks again by itself: the longer it has waited, the longer, but never past its end.
/// Whatever it waits for wakes it earlier, as far as that can be heard of.
pub(super) fn patience(lease: &LeaseObject, observation: &Observation) -> Duration {
    let waited = until(lease.meta.created_at, observation.view.now);
    let pause = (waited / 4).clamp(Duration::from_millis(500), Duration::from_secs(15));
    pause.min(until_its_end(lease, observation))
}

/// The time until a claim's own is out, and a moment more.
pub(super) fn until_its_end(lease: &LeaseObject, observation: &Observation) -> Duration {
    until_deadline(lease, observation.view.now)
}

/// The same at a given moment of the database's clock.
pub(super) fn until_deadline(lease: &LeaseObject, now: jiff::Timestamp) -> Duration {
    until(now, acquire_deadline(lease)) + BUSY_PAUSE
}
