//! Claims whose snapshot can't be read: the database refuses the query for one alone, or the operator fails at it. They say so, end, and
//! are removed like any other.

use super::LeaseReconciler;
use super::pause::until_deadline;
use crate::api::{EnvironmentLeaseStatus, LeasePhase, Reason, Timestamp};
use crate::cache::object::LeaseObject;
use crate::cache::{Key, Looked};
use crate::clock;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::lease::Decision;
use crate::lifecycle::lease_status::{StatusUpdate, lease_status, shown_ending};
use crate::lifecycle::unseen::{self, Unseen};
use crate::projection::facts::acquire_deadline;
use crate::runtime::metrics::Cause;
use crate::store::Request as _;
use crate::store::lease_object::WasGranted;

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Says why a claim can't be looked at. Only its keys are asked for: they prove that it has no row, and it may fail then.
    ///
    /// # Errors
    /// When the API server does not answer, or the database is away as a whole: nothing is said then.
    pub(in crate::controller) async fn report_unseen_claim(
        &self,
        lease: &LeaseObject,
        reason: Reason,
        sentence: &str,
    ) -> Result<(), ReconcileError> {
        let term = self.context.cache().term();
        let (granted, now) = match self.database.ask(WasGranted(lease.meta.uid)).await {
            Ok(proof) if proof.leading => (Some(proof.granted), proof.now),
            Ok(_) => return Err(ReconcileError::NotLeading),
            Err(error) if error.is_of_all() => return Err(error).at(WasGranted::NAME),
            // This machine's clock has to do: it decides nothing.
            Err(_) => (None, clock::wall()),
        };
        if lease.status.as_ref().and_then(shown_ending).is_some() {
            if granted == Some(false)
                && let Some(later) = self.remove_finished(lease, None, now).await?
            {
                self.context.later(Key::Lease(lease.meta.uid), later);
            }
            return Ok(());
        }
        let unseen = Unseen {
            granted,
            release: lease.spec.release,
            deleting: lease.meta.deleting,
            acquire_timed_out: acquire_deadline(lease) <= now,
        };
        let update = match unseen::decide(unseen, reason, sentence) {
            Decision::Refuse(reason, message) => {
                let id = lease.meta.uid;
                self.context.learn(|cache| cache.leave_wait_queue(Looked { id, term }));
                StatusUpdate::Refused(reason, message)
            }
            Decision::Wait(reason, message) => StatusUpdate::Pending(reason, message),
            _ => return Ok(()),
        };
        if !unseen.acquire_timed_out {
            let pause = until_deadline(lease, now);
            self.context
                .later(Key::Lease(lease.meta.uid), Requeue::new(Cause::Acquire, pause));
        }
        let (generation, run) = (lease.meta.generation, lease.spec.run.as_ref());
        let status = lease_status(lease.status.as_ref(), generation, run, &update, Timestamp::cut(now));
        self.write_lease_status(lease, status).await.map(drop)
    }
}

/// Whether this is a claim, or one that has failed, as far as its object shows.
pub(in crate::controller) fn is_or_was_claim(lease: &LeaseObject) -> bool {
    let has_failed =
        |status: &EnvironmentLeaseStatus| status.phase == Some(LeasePhase::Failed) && status.lease_id.is_none();
    lease.shows_that_it_waits() || lease.status.as_ref().is_some_and(has_failed)
}
