//! The reconciler of leases: dereference ([`scene`], [`facts`], [`choice`], [`run`]), decide, commit, report ([`report`]).
//! What has ended is removed in time ([`removal`]).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::context::Context;
use crate::api::{CompactObject, Driver, FreeObject, Reason, Timestamp};
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::controller::error::ReconcileError;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Later;
use crate::controller::work::trouble::HELD;
use crate::lifecycle::lease::{Decision, Row, decide, refused_by_database, waits_for_a_moment};
use crate::lifecycle::lease_status::{Verdict, shown_ending};
use crate::lifecycle::{Ending, LeaseState};
use crate::projection::agreement::fault_at_end;
use crate::projection::driver;
use crate::runtime::metrics::Cause;
use crate::store::ObjectVersion;
use crate::store::environment_leases::{End, EndOutcome, ForeignEnd, Grant, GrantOutcome};
use crate::store::lease_object::MarkGone;

mod capacity;

mod delay;

mod heartbeat;
mod hold;
mod local;
#[cfg(test)]
mod order;
mod pause;
pub mod preview;
mod put_off;
mod removal;
mod report;
mod run;
mod scene;
pub(super) mod unseen;

use crate::projection::choice::local_object;
use crate::projection::facts::Subject;
use pause::until_its_end;
use put_off::{UNSETTLED, not_in_haste};
use scene::Scene;

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
    Report(Verdict, Option<Later>),
    /// Nothing to show; look again after the pause.
    Done(Option<Later>),
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
            let subject = self.find_lease(id); // the index
            let aside = |error: &ReconcileError| self.stand_aside_after(&subject, error);
            // The database; the API server where only a live read is proof.
            let scene = self.lease_scene(&subject).await.inspect_err(aside)?;
            let decision = not_in_haste(decide(&scene.facts), &subject, &scene); // pure
            let committed = self.commit_lease(&subject, &scene, decision).await; // the database
            let step = match committed.inspect_err(aside) {
                Ok(Step::Again) if round == ROUNDS => self.put_off(&subject, &scene, UNSETTLED),
                committed => self.put_off_failed(&subject, &scene, committed)?,
            };
            let later = match step {
                Step::Again | Step::Written => continue,
                Step::Report(verdict, later) => {
                    self.report_lease(&subject, &scene, &verdict).await?; // the API server
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
        self.context.later(key, Later::look(BUSY_PAUSE));
        Ok(())
    }

    /// Carries a decision out.
    async fn commit_lease(&self, subject: &Subject, scene: &Scene, decision: Decision) -> Result<Step, ReconcileError> {
        if !decision.is_of_claim() {
            self.leave_line(subject);
        }
        match decision {
            Decision::Nothing => self.nothing(subject, scene).await,
            Decision::Forget => self.forget(subject, scene).await,
            Decision::Wait(reason, message) if waits_for_a_moment(&scene.facts) => {
                Ok(self.wait_quietly(subject, scene, reason, message))
            }
            Decision::Wait(reason, message) => Ok(self.wait(subject, scene, reason, message)),
            Decision::Refuse(reason, message) => Ok(refuse(subject, reason, message)),
            Decision::MakeLocal => self.wait_for_local(subject, scene).await,
            Decision::Grant => self.grant(subject, scene).await,
            Decision::Hold => self.hold(subject, scene).await,
            Decision::End(ending) => self.end(subject, scene, ending).await,
            Decision::Follow { ending, record } => self.follow(subject, scene, ending, record).await,
        }
    }

    /// A claim that has failed stays for its time; of any other, more has to be known first.
    async fn nothing(&self, subject: &Subject, scene: &Scene) -> Result<Step, ReconcileError> {
        let Some(lease) = subject.present().filter(|lease| !lease.meta.deleting) else {
            return Ok(Step::Done(None));
        };
        Ok(Step::Done(match lease.status.as_ref().and_then(shown_ending) {
            Some(_) => self.remove_in_time(subject, scene).await?,
            None => Some(Later::look(UNKNOWN_PAUSE)),
        }))
    }

    async fn forget(&self, subject: &Subject, scene: &Scene) -> Result<Step, ReconcileError> {
        if scene
            .view
            .object
            .as_ref()
            .is_some_and(|object| object.deleted_at.is_none())
            && subject.deleted
        {
            self.database.ask(MarkGone(subject.id)).await?;
            self.context.committed::<MarkGone>(Key::Lease(subject.id));
        }
        self.context.learn(|index| index.forget_lease(subject.id));
        Ok(Step::Done(None))
    }

    async fn grant(&self, subject: &Subject, scene: &Scene) -> Result<Step, ReconcileError> {
        let (Some(lease), Some((company_id, settle)), Some(environment)) =
            (subject.present(), &scene.company, &scene.view.environment)
        else {
            return Ok(self.put_off(subject, scene, UNSETTLED)); // the facts said otherwise: they will again when they are whole
        };
        if environment.driver == Driver::Local && local_object(&self.context.index(), subject, &scene.view).is_none() {
            self.give_row_its_local(subject, scene).await?;
        }
        let provision = driver::provision(environment.driver, &environment.config);
        let grant = Grant {
            id: subject.id,
            version: version(lease),
            company_id: *company_id,
            settle: settle.clone(),
            environment_id: environment.id,
            run_id: lease.spec.run.as_ref().and_then(|run| run.heartbeat_run_id),
            run_object: scene.run_object.clone(),
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
            turn: scene
                .view
                .capacity
                .as_ref()
                .and_then(|_| self.context.index().line.turn(subject.id)),
        };
        match self.database.ask(grant).await? {
            GrantOutcome::Granted { row, free, .. } => {
                self.note_grant(lease, &row);
                self.context.count_again(row.environment_id);
                self.leave_line(subject);
                let free = free.map_or(usize::MAX, |free| usize::try_from(free).unwrap_or_default());
                self.context.serve(row.environment_id, free);
                Ok(Step::Written)
            }
            GrantOutcome::Full => Ok(Step::Again), // others were granted meanwhile: the next look tells who
            GrantOutcome::AlreadySo | GrantOutcome::EndedMeanwhile => Ok(Step::Written),
            GrantOutcome::Busy => Ok(self.wait_for_rows(subject, scene)),
            GrantOutcome::Refused(refusal) => Ok(
                match refused_by_database(&scene.facts, refusal.reason, refusal.message) {
                    Some(Decision::Wait(reason, message)) => {
                        self.context.stand_aside(subject.looked());
                        self.wait(subject, scene, reason, message)
                    }
                    Some(Decision::Refuse(reason, message)) => {
                        self.leave_line(subject);
                        refuse(subject, reason, message)
                    }
                    Some(_) | None => Step::Again,
                },
            ),
        }
    }

    /// Another transaction holds a row that the grant needs: the claim is tried again later and later. If that lasts it says so,
    /// holds up nobody in line, and its time runs out like any other's.
    fn wait_for_rows(&self, subject: &Subject, scene: &Scene) -> Step {
        let (key, Some(lease)) = (Key::Lease(subject.id), subject.present()) else {
            return Step::Done(None);
        };
        let later = Later::look(self.context.troubles.busy(key).pause.min(until_its_end(lease, scene)));
        if !self.context.troubles.is_lasting(key) && !scene.facts.acquire_timed_out {
            return Step::Done(Some(later));
        }
        match refused_by_database(&scene.facts, Reason::StoreUnavailable, HELD.to_owned()) {
            Some(Decision::Refuse(reason, message)) => {
                self.leave_line(subject);
                refuse(subject, reason, message)
            }
            Some(Decision::Wait(reason, message)) => {
                self.context.stand_aside(subject.looked());
                Step::Report(Verdict::Pending(reason, message), Some(later))
            }
            Some(_) | None => Step::Done(Some(later)),
        }
    }

    async fn end(&self, subject: &Subject, scene: &Scene, ending: Ending) -> Result<Step, ReconcileError> {
        let (reason, only_if_expired) = (ending.reason, ending.reason == Reason::TtlExpired);
        let Row::Present { state: leaves, .. } = scene.facts.row else {
            return Ok(Step::Again); // there is nothing to end: only a row that is there is decided to
        };
        self.write_last_edit(subject, scene).await?;
        match self
            .database
            .ask(End {
                id: subject.id,
                leaves,
                ending,
                only_if_expired,
                run_ended_at: scene.run_ended_at,
            })
            .await?
        {
            EndOutcome::Ended(row) => {
                self.note_end(scene, reason, &row);
                tracing::info!(lease = %subject.id, reason = reason.into_str(), status = row.status.into_str(), "lease ended");
                self.context.count_again(row.environment_id);
                self.context.serve(row.environment_id, 1);
                Ok(Step::Again)
            }
            EndOutcome::AlreadyEnded(_) | EndOutcome::Moved(_) | EndOutcome::RowMissing => Ok(Step::Again),
            EndOutcome::NotYetExpired(_) => Ok(Step::Done(self.until_expiry(scene).or(Some(Later::look(BUSY_PAUSE))))),
            EndOutcome::Busy => Ok(Step::Done(Some(self.context.troubles.busy(Key::Lease(subject.id))))),
        }
    }

    /// The row is ended: what is known of it is recorded, and the object follows.
    async fn follow(
        &self,
        subject: &Subject,
        scene: &Scene,
        ending: Ending,
        record: bool,
    ) -> Result<Step, ReconcileError> {
        // Where its own schema was dropped under its leases there is nothing to record in: the object alone remembers.
        let forgotten = record && scene.view.object.is_none();
        if forgotten && subject.deleted {
            return self.forget(subject, scene).await;
        }
        if record && !forgotten {
            self.database
                .ask(ForeignEnd {
                    id: subject.id,
                    ending: ending.clone(),
                    run_ended_at: scene.run_ended_at,
                })
                .await?;
            self.context.committed::<ForeignEnd>(Key::Lease(subject.id));
            let status = ending.state.into_str();
            if scene.view.object.as_ref().and_then(|object| object.ended_status) == Some(LeaseState::PendingCleanup) {
                tracing::info!(lease = %subject.id, status, "the cleanup of an ended lease is over");
            } else {
                self.note_foreign_end(scene, ending.reason);
                let reason = ending.reason.into_str();
                tracing::info!(lease = %subject.id, reason, status, "lease was ended by another writer");
            }
            if let Some(object) = &scene.view.object {
                // Its own row may have gone with the lease's: the Environment says so then.
                self.context.count_again(object.environment_id);
                self.context.serve(object.environment_id, 1);
            }
            // A lease that another writer has retained is held on, and shown as such.
            if subject.deleted || ending.state == LeaseState::Retained {
                return Ok(Step::Again);
            }
        }
        self.warn_of_rewritten_end(subject, scene, &ending).await;
        let released_at = match (&scene.view.row, &scene.view.object) {
            (Some(row), object) => row.released_at.or(object.as_ref().and_then(|object| object.ended_at)),
            (None, object) => object
                .as_ref()
                .and_then(|object| object.ended_at)
                .or(Some(scene.view.now)),
        };
        let verdict = Verdict::Ended {
            grant: self.granted(subject, scene),
            ending,
            released_at: released_at.map(Timestamp::cut),
            cleanup_status: scene.view.row.as_ref().and_then(|row| row.cleanup_status.clone()),
            fault: subject.present().and_then(|lease| fault_at_end(lease, &scene.view)),
        };
        let pause = self.remove_in_time(subject, scene).await?;
        Ok(Step::Report(verdict, pause))
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
fn refuse(subject: &Subject, reason: Reason, message: String) -> Step {
    let ttl = subject.present().map(|lease| lease.spec.ttl_seconds_after_finished);
    let removal = |seconds: i32| Later::new(Cause::Removal, Duration::from_secs(seconds.unsigned_abs().into()));
    Step::Report(Verdict::Refused(reason, message), ttl.map(removal))
}
