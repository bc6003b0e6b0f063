//! Grants a claim.

use uuid::Uuid;

use super::observation::Observation;
use super::pause::until_its_end;
use super::put_off::UNSETTLED;
use super::{LeaseReconciler, Step, metadata, refuse, version};
use crate::api::{Driver, Reason};
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::controller::work::trouble::HELD;
use crate::lifecycle::lease::{Decision, refused_by_database};
use crate::lifecycle::lease_status::StatusUpdate;
use crate::projection::choice::local_object;
use crate::projection::driver;
use crate::projection::observed::ObservedLease;
use crate::store::environment_leases::{Grant, GrantOutcome};
use crate::store::environments::EnvironmentRow;
use crate::store::{NamespaceBinding, Request as _};

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    pub(super) async fn grant(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<Step, ReconcileError> {
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
        let grant = self.request(lease, environment, *company_id, binding.clone(), observation);
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

    /// What is asked of the database for a claim.
    fn request(
        &self,
        lease: &LeaseObject,
        environment: &EnvironmentRow,
        company_id: Uuid,
        binding: Option<NamespaceBinding>,
        observation: &Observation,
    ) -> Grant {
        let provision = driver::provision(environment.driver, &environment.config);
        Grant {
            id: lease.meta.uid,
            version: version(lease),
            company_id,
            binding,
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
                .and_then(|_| self.context.cache().wait_queue.turn(lease.meta.uid)),
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
}
