//! Gathers what is known about one lease: from the cache, from the database, and from the API server where only a live read
//! is proof.

use uuid::Uuid;

use super::LeaseReconciler;
use crate::api::{ObjectRef, Reason};
use crate::cache::Key;
use crate::cache::object::NamespaceObject;
use crate::controller::error::{At as _, READ_NAMESPACE, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::lifecycle::Ending;
use crate::lifecycle::capacity::Capacity;
use crate::lifecycle::lease::{Decision, Environment, Facts, Object, Obstacle, Row, Run, decide};
use crate::projection::agreement::expired;
use crate::projection::choice::{choice, environment, shown_is_gone};
use crate::projection::company::{self, Company};
use crate::projection::facts::{
    ObservedLease, acquire_deadline, environment_display, object, obstacle, policy, row, run_display, run_named,
    run_object,
};
use crate::store::lease_object::{EnvironmentChoice, LeaseQuery, LeaseSnapshot};
use crate::store::{NamespaceBinding, Request as _};

/// Everything that a decision about the lease needs, and what carrying it out needs besides.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What is decided upon.
    pub facts: Facts,
    /// What the database knows.
    pub view: LeaseSnapshot,
    /// The company of a claim, and whether it has to be recorded with its row.
    pub company: Option<(Uuid, Option<NamespaceBinding>)>,
    /// The run object, its uid pinned as far as it is known.
    pub run_object: Option<ObjectRef>,
    /// When the run ended, as far as it tells.
    pub run_ended_at: Option<jiff::Timestamp>,
}

impl Observation {
    /// Whether this is a claim that nobody has decided.
    pub fn is_open_claim(&self) -> bool {
        let open = |object: &Object| {
            matches!(
                object,
                Object::Present {
                    deleting: false,
                    shown: None,
                    ..
                }
            )
        };
        self.facts.row == Row::Never && open(&self.facts.object)
    }
}

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// What the watches know of a lease.
    pub(super) fn find_lease(&self, id: Uuid) -> ObservedLease {
        let cache = self.context.cache();
        let term = cache.term();
        match (cache.leases.get(id), cache.leases.gone(id)) {
            (Some(object), _) => ObservedLease {
                id,
                object: Some(object.clone()),
                deleted: false,
                term,
            },
            (None, Some(object)) => ObservedLease {
                id,
                object: Some(object.clone()),
                deleted: true,
                term,
            },
            (None, None) => ObservedLease {
                id,
                object: None,
                deleted: cache.is_missed_deletion(Key::Lease(id)),
                term,
            },
        }
    }

    /// Gathers the facts. Needs the database, and the API server where only a live read is proof.
    pub(super) async fn observe(&self, observed: &ObservedLease) -> Result<Observation, ReconcileError> {
        let (chosen, was_gone) = {
            let cache = self.context.cache();
            (choice(&cache, observed), shown_is_gone(&cache, observed))
        };
        let (view, namespace, unread) = self.look(observed, chosen).await?;
        let claim = observed.present().filter(|_| is_of_claim(&view));
        let run_object = run_object(observed, &view);
        let seen = self.run(observed, &view, run_object.as_ref()).await;
        let company = match (claim, &namespace) {
            (Some(_), Some(namespace)) => Some(company::of_new_object(
                namespace,
                view.recorded_company,
                view.company_exists,
                self.context.settings.mode,
            )),
            _ => None,
        };
        // A claim of which that can't be known says so and waits, until it times out.
        let unknown = unread.as_ref().map(|error| {
            let message = format!("its namespace can't be read: {}", error.sentence());
            Obstacle::Waits(Reason::CompanyNotFound, message)
        });
        let of_run = seen.obstacle.or(unknown);
        let obstacle = claim.and_then(|lease| obstacle(lease, &view, of_run, company.as_ref()));
        let heartbeat_missed = self.seems_silent(observed);
        let mut facts = Facts {
            object: object(observed),
            row: row(&view, observed.present()),
            run: seen.run,
            environment: environment(&self.context.cache(), observed, &view, chosen, was_gone),
            namespace_terminating: namespace
                .as_ref()
                .map_or(claim.is_some() && unread.is_none(), |namespace| namespace.meta.deleting),
            obstacle,
            capacity: Capacity::Free,
            policy: policy(observed, &view),
            run_display: run_display(observed, &view, run_object.as_ref()),
            run_named: claim.and_then(run_named),
            environment_display: environment_display(observed, &view, chosen),
            expired: expired(&view, observed.present()),
            heartbeat_missed,
            acquire_timed_out: claim.is_some_and(|lease| acquire_deadline(lease) <= view.now),
        };
        if unread.is_some() {
            // What was found may be another company's: nothing is refused for it.
            (facts.run, facts.environment) = (Run::Unknown, Environment::NotMirrored);
        }
        if let Some(lease) = claim {
            facts.capacity = self.room_for(observed, lease, &view, &facts);
        }
        // One deletion of a Namespace deletes what is in it in random order: what went first says nothing. And the Namespace of
        // which the watch tells may be one that had the name before.
        let doubtful = [Reason::EnvironmentDeleted, Reason::RunGone];
        let is_doubtful =
            |reason| doubtful.contains(&reason) || reason == Reason::LeaseDeleted && is_there(&facts.object);
        if matches!(decide(&facts), Decision::End(ending) if is_doubtful(ending.reason)) {
            facts.namespace_terminating = self.namespace_is_going(observed, &view).await?;
        }
        // A refusal is for good, and the edit that takes the environment back may be on its way through its own watch.
        if matches!(decide(&facts), Decision::Refuse(Reason::EnvironmentArchived, _)) {
            let read = self.read_environment(chosen).await;
            let cache = self.context.cache();
            facts.environment = match read {
                Err(error) => {
                    tracing::warn!(lease = %observed.id, %error, "an environment can't be read");
                    Environment::NotMirrored // whether it is to be archived is not known
                }
                Ok(true) if choice(&cache, observed) == chosen => {
                    environment(&cache, observed, &view, chosen, was_gone)
                }
                Ok(_) => Environment::NotFound, // it is gone, or another one has its name: to be looked at
            };
        }
        if let Decision::End(Ending {
            reason: Reason::HeartbeatMissed,
            ..
        }) = decide(&facts)
            && let Some(lease) = observed.present()
        {
            facts.heartbeat_missed = self.is_silent(lease).await;
        }
        let company = match company {
            Some(Company::Known(id, binding)) => Some((id, binding)),
            Some(Company::Doubt(..)) | None => None,
        };
        // What an object tells may be any moment: no lease has outlived its run for longer than it was held.
        let run_ended_at = match &view.row {
            Some(row) => seen.ended_at.map(|at| at.max(row.acquired_at).min(view.now)),
            None => None,
        };
        let run_object = run_object.map(|object| ObjectRef {
            uid: seen.pinned.map(|uid| uid.to_string()),
            ..object
        });
        Ok(Observation {
            facts,
            view,
            company,
            run_object,
            run_ended_at,
        })
    }

    /// Looks into the database. Which Namespace a claim is in is read live once, for the watch may not have heard yet that
    /// another one, of another company, has taken the name; and while no company is recorded, at every attempt, for that
    /// is what decides it. Without an answer the Namespace is not known, and why is told.
    async fn look(
        &self,
        observed: &ObservedLease,
        choice: Option<EnvironmentChoice>,
    ) -> Result<(LeaseSnapshot, Option<NamespaceObject>, Option<ClusterError>), ReconcileError> {
        let name = observed.present().map(|lease| &lease.meta.namespace);
        let known = name.and_then(|name| self.context.cache().namespaces.get(name).cloned());
        let look = question(observed, known.as_ref(), choice);
        let view = self.database.ask(look).await.at(LeaseQuery::NAME)?;
        if !view.leading {
            return Err(ReconcileError::NotLeading);
        }
        let Some(name) = name.filter(|_| is_of_claim(&view)) else {
            self.context
                .cache
                .note(|cache| cache.namespaces_of_claims.remove(&observed.id));
            return Ok((view, known, None));
        };
        let own = self.context.cache().namespaces_of_claims.get(&observed.id).copied();
        let is_own = |namespace: &NamespaceObject| own == Some(namespace.meta.uid);
        if view.recorded_company.is_some() && known.as_ref().is_some_and(is_own) {
            return Ok((view, known, None));
        }
        let live = match self.cluster.read_namespace(name).await {
            // It is in its own as long as it lives: where another one has the name, both are gone.
            Ok(live) => live.filter(|live| own.is_none() || is_own(live)),
            Err(error) => {
                tracing::warn!(lease = %observed.id, %error, "its namespace can't be read");
                return Ok((view, None, Some(error)));
            }
        };
        if let Some(live) = &live {
            self.context
                .cache
                .note(|cache| cache.note_namespace(observed.id, live.meta.uid));
        }
        if live.as_ref().map(NamespaceObject::decides_company) == known.as_ref().map(NamespaceObject::decides_company) {
            return Ok((view, live, None));
        }
        let look = question(observed, live.as_ref(), choice);
        Ok((self.database.ask(look).await.at(LeaseQuery::NAME)?, live, None))
    }

    /// Tells the cache what a live read says of the environment that a claim names; whether there is still one of its name, as
    /// far as it names one.
    async fn read_environment(&self, chosen: Option<EnvironmentChoice>) -> Result<bool, ClusterError> {
        let Some(EnvironmentChoice::Object(id)) = chosen else {
            return Ok(true);
        };
        let Some(known) = self.context.cache().environments.get(id).cloned() else {
            return Ok(false);
        };
        let read = self
            .cluster
            .read_environment(&known.meta.namespace, &known.meta.name)
            .await?;
        let is_there = read.is_some();
        if let Some(environment) = read {
            self.context.learn(|cache| cache.read_environment(environment));
        }
        Ok(is_there)
    }

    async fn namespace_is_going(&self, observed: &ObservedLease, view: &LeaseSnapshot) -> Result<bool, ReconcileError> {
        let of_object = observed.object.as_ref().map(|lease| &lease.meta.namespace);
        let Some(name) = of_object.or(view.object.as_ref().map(|row| &row.namespace)) else {
            return Ok(false);
        };
        Ok(self
            .cluster
            .read_namespace(name)
            .await
            .at(READ_NAMESPACE)?
            .is_none_or(|namespace| namespace.meta.deleting))
    }
}

/// Whether the database has never had a lease of this object.
const fn is_of_claim(view: &LeaseSnapshot) -> bool {
    view.row.is_none() && view.object.is_none()
}

/// Whether the object is there, and nobody has deleted it.
const fn is_there(object: &Object) -> bool {
    matches!(object, Object::Present { deleting: false, .. })
}

/// What is asked of the database.
fn question(
    observed: &ObservedLease,
    namespace: Option<&NamespaceObject>,
    choice: Option<EnvironmentChoice>,
) -> LeaseQuery {
    let spec = observed.object.as_ref().map(|lease| &lease.spec);
    LeaseQuery {
        id: observed.id,
        namespace_uid: namespace.map(|namespace| namespace.meta.uid),
        company_id: namespace.and_then(|namespace| namespace.company().ok()),
        environment: choice.unwrap_or(EnvironmentChoice::Default),
        agent_id: spec.and_then(|spec| spec.agent_id),
        run_id: spec.and_then(|spec| spec.run.as_ref()?.heartbeat_run_id),
        issue_id: spec.and_then(|spec| spec.issue_id),
        execution_workspace_id: spec.and_then(|spec| spec.execution_workspace_id),
    }
}
