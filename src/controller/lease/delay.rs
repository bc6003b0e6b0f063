//! How long it took: from a claim to its grant, from a run's end to that of its lease.

use std::time::Duration;

use super::LeaseReconciler;
use super::observation::Observation;
use super::pause::until;
use crate::api::Reason;
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::lifecycle::LeaseState;
use crate::store::environment_leases::{End, Grant, LeaseRow};

impl<D, C> LeaseReconciler<D, C> {
    /// A claim was granted.
    pub(super) fn note_grant(&self, claim: &LeaseObject, row: &LeaseRow) {
        self.context.committed::<Grant>(Key::Lease(row.id));
        let delay = until(claim.meta.created_at, row.acquired_at);
        self.context.metrics.leases.granted(delay);
    }

    /// A lease was ended, or is retained.
    pub(super) fn note_end(&self, observation: &Observation, reason: Reason, row: &LeaseRow) {
        let key = Key::Lease(row.id);
        self.context.committed::<End>(key);
        self.context.metrics.leases.ended(reason);
        let noticed = self.context.queue.ready(key).map(|ready| ready.since.elapsed());
        // The moment of the ending; a retained lease has no other.
        let ended_at = row.last_used_at;
        if let Some(at) = observation.run_ended_at.filter(|_| !was_retained(observation)) {
            self.context
                .metrics
                .leases
                .outlived_its_run(reason, until(at, ended_at));
        }
        if let Some(delay) = after_run(reason, observation.run_ended_at, ended_at, noticed.unwrap_or_default()) {
            self.context.metrics.leases.released(delay);
        }
    }

    /// A lease was ended, or retained, by another writer.
    pub(super) fn note_external_ending(&self, observation: &Observation, reason: Reason) {
        self.context.metrics.leases.ended(reason);
        let released_at = observation.view.row.as_ref().and_then(|row| row.released_at);
        if let Some(at) = observation.run_ended_at.filter(|_| !was_retained(observation)) {
            let by = until(at, released_at.unwrap_or(observation.view.now));
            self.context.metrics.leases.outlived_its_run(reason, by);
        }
    }
}

/// Whether the lease was out of use before it ended for good.
fn was_retained(observation: &Observation) -> bool {
    let recorded = observation.view.object.as_ref().and_then(|object| object.ended_status);
    recorded == Some(LeaseState::Retained)
}

/// How long after its run's end a lease ended; `None` where it ended for something else. A run that does not tell its end, or
/// is gone, ended when that was noticed. Clocks differ: what comes out negative is none.
fn after_run(
    reason: Reason,
    run_ended_at: Option<jiff::Timestamp>,
    ended_at: jiff::Timestamp,
    noticed: Duration,
) -> Option<Duration> {
    let of_run = [
        Reason::RunFinished,
        Reason::RunFailed,
        Reason::RunCancelled,
        Reason::RunGone,
    ];
    of_run
        .contains(&reason)
        .then(|| run_ended_at.map_or(noticed, |at| until(at, ended_at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_run_has_a_delay_and_it_counts_from_what_the_run_tells() {
        let second = |second| jiff::Timestamp::from_second(second).unwrap();
        let noticed = Duration::from_millis(5);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (reason, told, expected) in [
            (Reason::RunFinished, Some(second(97)), seconds(3)),
            (Reason::RunFailed, None, Some(noticed)),
            (Reason::RunGone, None, Some(noticed)),
            (Reason::RunCancelled, Some(second(101)), seconds(0)),
            (Reason::ReleaseRequested, Some(second(97)), None),
            (Reason::TtlExpired, None, None),
        ] {
            assert_eq!(after_run(reason, told, second(100), noticed), expected, "{reason}");
        }
    }
}
