//! A lease that is held: its row follows the object, the object shows the row, and where the two do not agree the status and an Event say so.

use super::LeaseReconciler;
use super::observation::Observation;
use super::{Step, metadata, version};
use crate::api::Reason;
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::lifecycle::LeaseState;
use crate::lifecycle::lease::Row;
use crate::lifecycle::lease_status::{Fault, StatusUpdate, shown_ending};
use crate::projection::agreement::{fault, has_unwritten_metadata, in_step};
use crate::projection::observed::ObservedLease;
use crate::store::environment_leases::{LeaseSync, SyncOutcome};
use crate::store::{Request as _, StoreError};

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Keeps the row of a held lease in step with its object, and the object with its row.
    pub(super) async fn hold(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<Step, ReconcileError> {
        let mut told = observed.present().and_then(|lease| fault(lease, &observation.view));
        if let Some(lease) = observed.present().filter(|lease| !in_step(lease, &observation.view)) {
            match self.write_spec(lease).await? {
                (SyncOutcome::Updated(_), None) => {
                    self.context.committed::<LeaseSync>(Key::Lease(observed.id));
                    return Ok(Step::Again);
                }
                (SyncOutcome::NotHeld, _) => return Ok(Step::Again),
                (SyncOutcome::Busy, _) => {
                    return Ok(Step::Done(Some(self.context.troubles.busy(Key::Lease(observed.id)))));
                }
                // The newer version is on its way through the watch: about this one there is nothing to say.
                (SyncOutcome::Older, _) => told = None,
                (_, unstorable) => told = unstorable.or(told),
            }
        }
        self.show_use(observed, observation).await?;
        let pause = self.until_expiry(observation);
        let grant = self.granted(observed, observation);
        Ok(match &observation.facts.row {
            Row::Present {
                state: LeaseState::Retained,
                recorded: Some(ending),
            } => {
                let update = StatusUpdate::Ended {
                    grant,
                    ending: ending.clone(),
                    released_at: None,
                    cleanup_status: observation.view.row.as_ref().and_then(|row| row.cleanup_status.clone()),
                    fault: told,
                };
                Step::Report(update, pause)
            }
            _ if grant.is_none() && told.is_none() => Step::Done(pause),
            _ => Step::Report(StatusUpdate::Held { grant, fault: told }, pause),
        })
    }

    /// Writes metadata that has come in one edit with what ends the lease: once it has ended nothing is written. What stands in
    /// the way of that is told with the end, and delays it no further.
    pub(super) async fn write_last_edit(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<(), ReconcileError> {
        let Some(lease) = observed
            .present()
            .filter(|lease| lease.status.as_ref().and_then(shown_ending).is_none())
            .filter(|lease| has_unwritten_metadata(lease, &observation.view))
        else {
            return Ok(());
        };
        match self.write_spec(lease).await {
            Ok((SyncOutcome::Updated(_), _)) => self.context.committed::<LeaseSync>(Key::Lease(observed.id)),
            Ok(_) => {}
            Err(error) if error.refusal_of_one().is_none() => return Err(error),
            Err(error) => tracing::warn!(lease = %observed.id, %error, "the last edit of a lease cannot be written"),
        }
        Ok(())
    }

    /// Writes what may change of a held lease. What of it cannot be stored holds up nothing else, and is told.
    async fn write_spec(&self, lease: &LeaseObject) -> Result<(SyncOutcome, Option<Fault>), ReconcileError> {
        let storable = lease.check().is_ok();
        let sync = |metadata| LeaseSync {
            id: lease.meta.uid,
            version: version(lease),
            ttl_seconds: lease.spec.ttl_seconds,
            metadata,
            ttl_seconds_after_finished: lease.spec.ttl_seconds_after_finished,
        };
        let metadata = storable.then(|| metadata(lease));
        match self.database.ask(sync(metadata)).await {
            // The database knows better than the validation.
            Err(StoreError::Data { message }) if storable => {
                let outcome = self.database.ask(sync(None)).await.at(LeaseSync::NAME)?;
                Ok((outcome, Some((Reason::InvalidSpec, message))))
            }
            // It may be the metadata that the database refuses now: the times are written without it, and all is tried again.
            Err(refused @ StoreError::Refused { .. }) if storable => {
                self.database.ask(sync(None)).await.at(LeaseSync::NAME)?;
                Err(refused).at(LeaseSync::NAME)
            }
            outcome => Ok((outcome.at(LeaseSync::NAME)?, None)),
        }
    }
}
