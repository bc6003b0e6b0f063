//! Claims that wait: each says what for, and times out, also one that could not be brought further for now.

use std::time::Duration;

use super::LeaseReconciler;
use super::observation::Observation;
use super::pause::{patience, until};
use super::{Step, refuse};
use crate::api::Reason;
use crate::cache::Key;
use crate::controller::error::ReconcileError;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::lease::{Decision, Environment, put_off, waits_for_a_moment};
use crate::lifecycle::lease_status::StatusUpdate;
use crate::projection::choice::awaited_object;
use crate::projection::facts::acquire_deadline;
use crate::projection::observed::ObservedLease;
use crate::runtime::metrics::{Cause, Place};

/// Pause before the first in the wait queue look again, for an ending by another writer is not heard of.
const UNHEARD_PAUSE: Duration = Duration::from_secs(2);

/// For how long a new claim says nothing of what passes by itself within a moment as a rule.
const QUIET: Duration = Duration::from_secs(2);

/// Pause before it is looked at again meanwhile.
pub(super) const QUIET_PAUSE: Duration = Duration::from_millis(500);

/// How long a claim whose time is out is left to what passes by itself within a moment as a rule: it is tried once at least,
/// however late it is looked at.
const GRACE: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// Why a claim was put off.
pub(super) type Why = (Reason, &'static str);

/// Look and database did not agree for a whole reconcile.
pub(super) const UNSETTLED: Why = (
    Reason::EnvironmentNotActive,
    "what it needs changes faster than it can be granted",
);

/// The object `local` is made, and not mirrored yet.
pub(super) const COMING: Why = (Reason::EnvironmentNotActive, "the company's Local is being made");

/// Whether the time of a claim is out, and that only since a moment ago.
pub(super) fn is_in_grace(observed: &ObservedLease, observation: &Observation) -> bool {
    let over = |lease| {
        acquire_deadline(lease)
            .saturating_add(GRACE)
            .is_ok_and(|over| over <= observation.view.now)
    };
    observation.facts.acquire_timed_out && !observed.present().is_some_and(over)
}

/// The same decision, unless it refuses a claim for being late that has to wait for a moment alone.
pub(super) fn not_in_haste(decision: Decision, observed: &ObservedLease, observation: &Observation) -> Decision {
    match decision {
        Decision::Refuse(Reason::AcquireTimedOut, _)
            if waits_for_a_moment(&observation.facts) && is_in_grace(observed, observation) =>
        {
            Decision::Nothing
        }
        decision => decision,
    }
}

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// A claim is put off. What is no open claim is looked at again.
    pub(super) fn put_off(&self, observed: &ObservedLease, observation: &Observation, (reason, message): Why) -> Step {
        self.put_off_for(observed, observation, reason, message.to_owned())
    }

    /// What has become of a decision. Where the API server or the database would not have what a claim needs, the claim says so.
    pub(super) fn put_off_failed(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        committed: Result<Step, ReconcileError>,
    ) -> Result<Step, ReconcileError> {
        match committed {
            Err(ReconcileError::Cluster { source: error, .. }) if observation.is_open_claim() => {
                tracing::warn!(lease = %observed.id, %error, "the company's Local can't be made, trying again");
                let message = format!("the company's Local can't be made: {}", error.sentence());
                Ok(self.put_off_for(observed, observation, Reason::EnvironmentNotActive, message))
            }
            // The look has found no row: the claim waits like any other, and its time runs out.
            Err(error) if observation.is_open_claim() => {
                let Some((reason, message)) = error.told() else {
                    return Err(error);
                };
                tracing::warn!(lease = %observed.id, %error, "a claim can't be brought further, trying again");
                self.context.metrics.database.set_aside(Place::Reconcile);
                Ok(self.put_off_for(observed, observation, reason, message))
            }
            committed => committed,
        }
    }

    fn put_off_for(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        reason: Reason,
        message: String,
    ) -> Step {
        if !observation.is_open_claim() {
            return Step::Done(Some(Requeue::look(QUIET_PAUSE)));
        }
        match put_off(&observation.facts, reason, message) {
            Decision::Wait(reason, message) => self.wait_quietly(observed, observation, reason, message),
            Decision::Refuse(reason, message) => {
                self.leave_wait_queue(observed);
                refuse(observed, reason, message)
            }
            _ => Step::Again,
        }
    }

    /// A claim waits, says what for, and looks again.
    pub(super) fn wait(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        reason: Reason,
        message: String,
    ) -> Step {
        let Some(lease) = observed.present() else {
            return Step::Done(None);
        };
        if observation.facts.environment == Environment::NotMirrored {
            // Nobody else may have noticed that the row is not there (any more), or not as it should be.
            let awaited = awaited_object(&self.context.cache(), observed, &observation.view);
            self.context.wake(awaited.map(Key::Environment));
        }
        let mut pause = patience(lease, observation);
        if reason == Reason::CapacityFull && self.is_among_the_first(observed.id, &observation.view) {
            pause = pause.min(UNHEARD_PAUSE);
        }
        let (message, again) = self.sentence(lease, reason, message);
        pause = again.map_or(pause, |again| pause.min(again));
        Step::Report(
            StatusUpdate::Pending(reason, message),
            Some(Requeue::new(Cause::Acquire, pause)),
        )
    }

    /// A claim waits for what passes within a moment as a rule: one that is new says so only once it has lasted.
    pub(super) fn wait_quietly(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        reason: Reason,
        message: String,
    ) -> Step {
        let new = observed.present().filter(|lease| lease.status.is_none());
        if new.is_some_and(|lease| until(lease.meta.created_at, observation.view.now) < QUIET) {
            return Step::Done(Some(Requeue::new(Cause::Acquire, QUIET_PAUSE)));
        }
        self.wait(observed, observation, reason, message)
    }
}
