//! The reconciler of leases: dereference ([`observation`], [`facts`], [`choice`], [`run`]), decide, commit, report ([`report`]).
//! What has ended is removed in time ([`removal`]).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::context::Context;
use crate::api::{CompactObject, Driver, FreeObject, Reason, Timestamp};
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::controller::work::trouble::HELD;
use crate::lifecycle::lease::{Decision, Row, decide, refused_by_database, waits_for_a_moment};
use crate::lifecycle::lease_status::{StatusUpdate, shown_ending};
use crate::lifecycle::{Ending, LeaseState};
use crate::projection::agreement::fault_at_end;
use crate::projection::driver;
use crate::runtime::metrics::Cause;
use crate::store::environment_leases::{End, EndOutcome, ExternalEnding, Grant, GrantOutcome};
use crate::store::lease_object::MarkGone;
use crate::store::{ObjectVersion, Request as _};

mod capacity;

mod delay;

mod heartbeat;
mod hold;
mod local;
mod observation;
#[cfg(test)]
mod order;
mod pause;
pub mod preview;
mod put_off;
mod removal;
mod report;
mod run;
pub(super) mod unseen;

use crate::projection::choice::local_object;
use crate::projection::facts::ObservedLease;
use observation::Observation;
use pause::until_its_end;
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
            // The database; the API server where only a live read is proof.
            let observation = self.observe(&observed).await.inspect_err(aside)?;
            let decision = not_in_haste(decide(&observation.facts), &observed, &observation); // pure
            let committed = self.commit_lease(&observed, &observation, decision).await; // the database
            let step = match committed.inspect_err(aside) {
                Ok(Step::Again) if round == ROUNDS => self.put_off(&observed, &observation, UNSETTLED),
                committed => self.put_off_failed(&observed, &observation, committed)?,
            };
            let later = match step {
                Step::Again | Step::Written => continue,
                Step::Report(update, later) => {
                    self.report_lease(&observed, &observation, &update).await?; // the API server
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
    async fn commit_lease(
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

    async fn grant(&self, observed: &ObservedLease, observation: &Observation) -> Result<Step, ReconcileError> {
        let (Some(lease), Some((company_id, binding)), Some(environment)) =
            (observed.present(), &observation.company, &observation.view.environment)
        else {
            return Ok(self.put_off(observed, observation, UNSETTLED)); // the facts said otherwise: they will again when they are whole
        };
        if environment.driver == Driver::Local
            && local_object(&self.context.cache(), observed, &observation.view).is_none()
        {
            self.give_row_its_local(observed, observation).await?;
        }
        let provision = driver::provision(environment.driver, &environment.config);
        let grant = Grant {
            id: observed.id,
            version: version(lease),
            company_id: *company_id,
            binding: binding.clone(),
            environment_id: environment.id,
            run_id: lease.spec.run.as_ref().and_then(|run| run.heartbeat_run_id),
            run_object: observation.run_object.clone(),
            agent_id: lease.spec.agent_id,
            issue_id: lease.spec.issue_id,
            execution_workspace_id: lease.spec.execution_workspace_id,
            policy: lease.spec.policy,
            provider: provision.provider,
            provider_lease_id: provision.provider_lease_id,
            ttl_seconds: lease.spec.ttl_seconds,
            metadata: metadata(lease),
            context: provision.context,
            ttl_seconds_after_finished: lease.spec.ttl_seconds_after_finished,
            turn: observation
                .view
                .capacity
                .as_ref()
                .and_then(|_| self.context.cache().wait_queue.turn(observed.id)),
        };
        match self.database.ask(grant).await.at(Grant::NAME)? {
            GrantOutcome::Granted { row, free, .. } => {
                self.note_grant(lease, &row);
                self.context.count_again(row.environment_id);
                self.leave_wait_queue(observed);
                let free = free.map_or(usize::MAX, |free| usize::try_from(free).unwrap_or_default());
                self.context.serve(row.environment_id, free);
                Ok(Step::Written)
            }
            GrantOutcome::Full => Ok(Step::Again), // others were granted meanwhile: the next look tells who
            GrantOutcome::AlreadySo | GrantOutcome::EndedMeanwhile => Ok(Step::Written),
            GrantOutcome::Busy => Ok(self.wait_for_rows(observed, observation)),
            GrantOutcome::Refused(refusal) => Ok(
                match refused_by_database(&observation.facts, refusal.reason, refusal.message) {
                    Some(Decision::Wait(reason, message)) => {
                        self.context.stand_aside(observed.looked());
                        self.wait(observed, observation, reason, message)
                    }
                    Some(Decision::Refuse(reason, message)) => {
                        self.leave_wait_queue(observed);
                        refuse(observed, reason, message)
                    }
                    Some(_) | None => Step::Again,
                },
            ),
        }
    }

    /// Another transaction holds a row that the grant needs: the claim is tried again later and later. If that lasts it says so,
    /// holds up nobody in the wait queue, and its time runs out like any other's.
    fn wait_for_rows(&self, observed: &ObservedLease, observation: &Observation) -> Step {
        let (key, Some(lease)) = (Key::Lease(observed.id), observed.present()) else {
            return Step::Done(None);
        };
        let later = Requeue::look(
            self.context
                .troubles
                .busy(key)
                .pause
                .min(until_its_end(lease, observation)),
        );
        if !self.context.troubles.is_lasting(key) && !observation.facts.acquire_timed_out {
            return Step::Done(Some(later));
        }
        match refused_by_database(&observation.facts, Reason::StoreUnavailable, HELD.to_owned()) {
            Some(Decision::Refuse(reason, message)) => {
                self.leave_wait_queue(observed);
                refuse(observed, reason, message)
            }
            Some(Decision::Wait(reason, message)) => {
                self.context.stand_aside(observed.looked());
                Step::Report(StatusUpdate::Pending(reason, message), Some(later))
            }
            Some(_) | None => Step::Done(Some(later)),
        }
    }

    async fn end(
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
    async fn follow(
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
            if observation.view.object.as_ref().and_then(|object| object.ended_status)
                == Some(LeaseState::PendingCleanup)
            {
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

/// Shows that a claim has failed, and looks again when it has been shown for its time.
fn refuse(observed: &ObservedLease, reason: Reason, message: String) -> Step {
    let ttl = observed.present().map(|lease| lease.spec.ttl_seconds_after_finished);
    let removal = |seconds: i32| Requeue::new(Cause::Removal, Duration::from_secs(seconds.unsigned_abs().into()));
    Step::Report(StatusUpdate::Refused(reason, message), ttl.map(removal))
}
