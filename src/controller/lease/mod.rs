//! The reconciler of leases, in named steps: observe ([`observation`], [`run`]), decide and prove ([`prove`], [`capacity`],
//! [`heartbeat`]), commit ([`grant`], [`hold`], [`end`], [`local`], [`put_off`]), report ([`report`]). Finished objects are removed in time
//! ([`removal`]).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::context::Context;
use crate::api::{CompactObject, FreeObject, Reason};
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::lease::{Decision, waits_for_a_moment};
use crate::lifecycle::lease_status::{StatusUpdate, shown_ending};
use crate::projection::observed::ObservedLease;
use crate::runtime::metrics::Cause;
use crate::store::lease_object::MarkGone;
use crate::store::{ObjectVersion, Request as _};

mod capacity;
mod delay;
mod end;
mod grant;
mod heartbeat;
mod hold;
mod local;
mod observation;
#[cfg(test)]
mod order;
mod pause;
pub mod preview;
mod prove;
mod put_off;
mod removal;
mod report;
mod run;
pub(super) mod unseen;

use observation::Observation;
use put_off::{UNSETTLED, not_in_haste};

/// How many decisions one reconcile may carry out before others get their turn.
const ROUNDS: usize = 5;

/// Pause before a key that has had its turns is looked at again.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Pause before a run that could not be read is tried again.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(2);

/// What follows from carrying out a decision.
enum Step {
    /// The world has changed: look and decide again.
    Again,
    /// The row is not what was decided upon, for it was written or is to be followed: what was known of it counts no more.
    Written,
    /// Show this, and look again after the pause.
    Report(StatusUpdate, Option<Requeue>),
    /// Nothing to show; look again after the pause.
    Done(Option<Requeue>),
}

/// Brings leases to where they should be.
pub struct LeaseReconciler<D, C> {
    context: Arc<Context>,
    database: Arc<D>,
    cluster: Arc<C>,
}

impl<D, C> LeaseReconciler<D, C> {
    pub(super) const fn new(context: Arc<Context>, database: Arc<D>, cluster: Arc<C>) -> Self {
        Self {
            context,
            database,
            cluster,
        }
    }
}

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Brings one lease to where it should be.
    ///
    /// # Errors
    /// When the database or the API server does not answer: nothing is lost, the same reconcile is run again.
    pub async fn reconcile(&self, id: Uuid) -> Result<(), ReconcileError> {
        let key = Key::Lease(id);
        for round in 1..=ROUNDS {
            let observed = self.find_lease(id); // the cache
            let aside = |error: &ReconcileError| self.stand_aside_after(&observed, error);
            // The database; the API server where nothing else tells.
            let mut observation = self.observe(&observed).await.inspect_err(aside)?;
            // Pure; live reads where the decision needs proof.
            let decision = self.decide(&observed, &mut observation).await.inspect_err(aside)?;
            let decision = not_in_haste(decision, &observed, &observation);
            let committed = self.commit(&observed, &observation, decision).await; // the database
            let step = match committed.inspect_err(aside) {
                Ok(Step::Again) if round == ROUNDS => self.put_off(&observed, &observation, UNSETTLED),
                committed => self.put_off_failed(&observed, &observation, committed)?,
            };
            let later = match step {
                Step::Again | Step::Written => continue,
                Step::Report(update, later) => {
                    self.report(&observed, &observation, &update).await?; // the API server
                    later
                }
                Step::Done(later) => later,
            };
            // Heartbeats are expected from when the lease is shown as held: only now is it known whether they are.
            if let Some(later) = later.into_iter().chain(self.until_silence(id)).min() {
                self.context.later(key, later);
            }
            return Ok(());
        }
        self.context.later(key, Requeue::look(BUSY_PAUSE));
        Ok(())
    }

    /// Carries a decision out.
    async fn commit(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        decision: Decision,
    ) -> Result<Step, ReconcileError> {
        if !decision.is_of_claim() {
            self.leave_wait_queue(observed);
        }
        match decision {
            Decision::Nothing => self.nothing(observed, observation).await,
            Decision::Forget => self.forget(observed, observation).await,
            Decision::Wait(reason, message) if waits_for_a_moment(&observation.facts) => {
                Ok(self.wait_quietly(observed, observation, reason, message))
            }
            Decision::Wait(reason, message) => Ok(self.wait(observed, observation, reason, message)),
            Decision::Refuse(reason, message) => Ok(refuse(observed, reason, message)),
            Decision::MakeLocal => self.wait_for_local(observed, observation).await,
            Decision::Grant => self.grant(observed, observation).await,
            Decision::Hold => self.hold(observed, observation).await,
            Decision::End(ending) => self.end(observed, observation, ending).await,
            Decision::Follow { ending, record } => self.follow(observed, observation, ending, record).await,
        }
    }

    /// A claim that has failed stays for its time; of any other, more has to be known first.
    async fn nothing(&self, observed: &ObservedLease, observation: &Observation) -> Result<Step, ReconcileError> {
        let Some(lease) = observed.present().filter(|lease| !lease.meta.deleting) else {
            return Ok(Step::Done(None));
        };
        Ok(Step::Done(match lease.status.as_ref().and_then(shown_ending) {
            Some(_) => self.remove_in_time(observed, observation).await?,
            None => Some(Requeue::look(UNKNOWN_PAUSE)),
        }))
    }

    async fn forget(&self, observed: &ObservedLease, observation: &Observation) -> Result<Step, ReconcileError> {
        if observation
            .view
            .object
            .as_ref()
            .is_some_and(|object| object.deleted_at.is_none())
            && observed.deleted
        {
            self.database.ask(MarkGone(observed.id)).await.at(MarkGone::NAME)?;
            self.context.committed::<MarkGone>(Key::Lease(observed.id));
        }
        self.context.learn(|cache| cache.forget_lease(observed.id));
        Ok(Step::Done(None))
    }
}

/// Shows that a claim has failed, and looks again when it has been shown for its time.
fn refuse(observed: &ObservedLease, reason: Reason, message: String) -> Step {
    let ttl = observed.present().map(|lease| lease.spec.ttl_seconds_after_finished);
    let removal = |seconds: i32| Requeue::new(Cause::Removal, Duration::from_secs(seconds.unsigned_abs().into()));
    Step::Report(StatusUpdate::Refused(reason, message), ttl.map(removal))
}

fn version(lease: &LeaseObject) -> ObjectVersion {
    ObjectVersion {
        namespace: lease.meta.namespace.clone(),
        name: lease.meta.name.clone(),
        resource_version: lease.meta.resource_version.clone(),
        generation: lease.meta.generation,
    }
}

fn metadata(lease: &LeaseObject) -> FreeObject {
    lease
        .spec
        .metadata
        .as_ref()
        .map(CompactObject::members)
        .unwrap_or_default()
}
