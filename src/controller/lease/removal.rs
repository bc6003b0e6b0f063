//! Finished leases: their objects are removed `spec.ttlSecondsAfterFinished` after the end, their rows stay.

use super::LeaseReconciler;
use super::observation::Observation;
use super::pause::until;
use crate::cache::object::LeaseObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::lease_status::shown_ending;
use crate::lifecycle::removal::{kept_until, removal_at};
use crate::projection::observed::ObservedLease;
use crate::runtime::metrics::Cause;

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Removes the object if its time is over, in the very version that was decided upon; else, how long it has still to stay.
    ///
    /// The time counts from the end that the row remembers, by the database's clock, so neither a restart nor this machine's
    /// clock moves it. How long it is, the present spec says, for that may change after the end too.
    pub(super) async fn remove_in_time(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<Option<Requeue>, ReconcileError> {
        let Some(lease) = observed.present() else {
            return Ok(None);
        };
        let recorded = observation.view.object.as_ref().and_then(|object| object.ended_at);
        self.remove_finished(lease, recorded, observation.view.now).await
    }

    /// The same of an object that is there; `recorded`: the end that the database remembers, of what was granted.
    pub(super) async fn remove_finished(
        &self,
        lease: &LeaseObject,
        recorded: Option<jiff::Timestamp>,
        now: jiff::Timestamp,
    ) -> Result<Option<Requeue>, ReconcileError> {
        if lease.meta.deleting {
            return Ok(None);
        }
        let ttl = lease.spec.ttl_seconds_after_finished;
        let shown = lease.status.as_ref().filter(|status| shown_ending(status).is_some());
        let Some(status) = shown else {
            // It is shown first, for all who watch it to see; only then is it removed.
            let finished = recorded.unwrap_or(now);
            return Ok(Some(Requeue::new(
                Cause::Removal,
                until(now, kept_until(finished, ttl)),
            )));
        };
        let Some(at) = removal_at(status, recorded, ttl) else {
            return Ok(None);
        };
        if at > now {
            return Ok(Some(Requeue::new(Cause::Removal, until(now, at))));
        }
        match self.cluster.delete_lease(&lease.meta).await {
            Ok(()) => {
                self.context.metrics.leases.object_removed();
                let (namespace, name) = (&lease.meta.namespace, &lease.meta.name);
                tracing::info!(namespace, name, "finished lease removed");
            }
            Err(ClusterError::NotFound) => {} // its deletion is on its way through the watch
            Err(ClusterError::Conflict) => self.read_again(lease).await?,
            Err(error) => return Err(error).at("delete a finished lease"),
        }
        Ok(None)
    }
}
