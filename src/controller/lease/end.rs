//! Ends a lease, and follows what another writer has ended.

use super::observation::Observation;
use super::{BUSY_PAUSE, LeaseReconciler, Step};
use crate::api::{Reason, Timestamp};
use crate::cache::Key;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::lease::Row;
use crate::lifecycle::lease_status::StatusUpdate;
use crate::lifecycle::{Ending, LeaseState};
use crate::projection::agreement::fault_at_end;
use crate::projection::observed::ObservedLease;
use crate::store::Request as _;
use crate::store::environment_leases::{End, EndOutcome, ExternalEnding};

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Ends the row.
    pub(super) async fn end(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        ending: Ending,
    ) -> Result<Step, ReconcileError> {
        let (reason, only_if_expired) = (ending.reason, ending.reason == Reason::TtlExpired);
        let Row::Present { state: leaves, .. } = observation.facts.row else {
            return Ok(Step::Again); // there is nothing to end: only a row that is there is decided to
        };
        self.write_last_edit(observed, observation).await?;
        match self
            .database
            .ask(End {
                id: observed.id,
                leaves,
                ending,
                only_if_expired,
                run_ended_at: observation.run_ended_at,
            })
            .await
            .at(End::NAME)?
        {
            EndOutcome::Ended(row) => {
                self.note_end(observation, reason, &row);
                tracing::info!(lease = %observed.id, reason = reason.into_str(), status = row.status.into_str(), "lease ended");
                self.context.count_again(row.environment_id);
                self.context.serve(row.environment_id, 1);
                Ok(Step::Again)
            }
            EndOutcome::AlreadyEnded(_) | EndOutcome::Moved(_) | EndOutcome::RowMissing => Ok(Step::Again),
            EndOutcome::NotYetExpired(_) => Ok(Step::Done(
                self.until_expiry(observation).or(Some(Requeue::look(BUSY_PAUSE))),
            )),
            EndOutcome::Busy => Ok(Step::Done(Some(self.context.troubles.busy(Key::Lease(observed.id))))),
        }
    }

    /// The row is ended: what is known of it is recorded, and the object follows.
    pub(super) async fn follow(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        ending: Ending,
        record: bool,
    ) -> Result<Step, ReconcileError> {
        // Where its own schema was dropped under its leases there is nothing to record in: the object alone remembers.
        let forgotten = record && observation.view.object.is_none();
        if forgotten && observed.deleted {
            return self.forget(observed, observation).await;
        }
        if record && !forgotten {
            self.record_external_ending(observed, observation, &ending).await?;
            // A lease that another writer has retained is held on, and shown as such.
            if observed.deleted || ending.state == LeaseState::Retained {
                return Ok(Step::Again);
            }
        }
        self.warn_of_rewritten_end(observed, observation, &ending).await;
        let released_at = match (&observation.view.row, &observation.view.object) {
            (Some(row), object) => row.released_at.or(object.as_ref().and_then(|object| object.ended_at)),
            (None, object) => object
                .as_ref()
                .and_then(|object| object.ended_at)
                .or(Some(observation.view.now)),
        };
        let update = StatusUpdate::Ended {
            grant: self.granted(observed, observation),
            ending,
            released_at: released_at.map(Timestamp::cut),
            cleanup_status: observation.view.row.as_ref().and_then(|row| row.cleanup_status.clone()),
            fault: observed
                .present()
                .and_then(|lease| fault_at_end(lease, &observation.view)),
        };
        let pause = self.remove_in_time(observed, observation).await?;
        Ok(Step::Report(update, pause))
    }

    /// Records what another writer has made of the row, and whoever that concerns is looked at.
    async fn record_external_ending(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        ending: &Ending,
    ) -> Result<(), ReconcileError> {
        self.database
            .ask(ExternalEnding {
                id: observed.id,
                ending: ending.clone(),
                run_ended_at: observation.run_ended_at,
            })
            .await
            .at(ExternalEnding::NAME)?;
        self.context.committed::<ExternalEnding>(Key::Lease(observed.id));
        let status = ending.state.into_str();
        if observation.view.object.as_ref().and_then(|object| object.ended_status) == Some(LeaseState::PendingCleanup) {
            tracing::info!(lease = %observed.id, status, "the cleanup of an ended lease is over");
        } else {
            self.note_external_ending(observation, ending.reason);
            let reason = ending.reason.into_str();
            tracing::info!(lease = %observed.id, reason, status, "lease was ended by another writer");
        }
        if let Some(object) = &observation.view.object {
            // Its own row may have gone with the lease's: the Environment says so then.
            self.context.count_again(object.environment_id);
            self.context.serve(object.environment_id, 1);
        }
        Ok(())
    }
}
