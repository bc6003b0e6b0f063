//! Observes one lease: the cache, the database, and the API server where nothing else tells which Namespace or run it is.

use uuid::Uuid;

use super::LeaseReconciler;
use crate::api::ObjectRef;
use crate::cache::Key;
use crate::cache::object::NamespaceObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::lifecycle::lease::{Facts, Object, Row};
use crate::projection::choice::{choice, shown_is_gone};
use crate::projection::company::{self, Company};
use crate::projection::facts::{Findings, is_of_claim, run_object};
use crate::projection::observed::{Choice, ObservedLease};
use crate::store::lease_object::{EnvironmentChoice, LeaseQuery, LeaseSnapshot};
use crate::store::{NamespaceBinding, Request as _};

/// Everything that a decision about the lease needs, and what carrying it out needs besides.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What is decided upon.
    pub facts: Facts,
    /// What the database knows.
    pub view: LeaseSnapshot,
    /// What was known of its environment before the database was asked.
    pub chosen: Choice,
    /// The company of a claim, and whether it has to be recorded with its row.
    pub company: Option<(Uuid, Option<NamespaceBinding>)>,
    /// The run object, its uid pinned as far as it is known.
    pub run_object: Option<ObjectRef>,
    /// When the run ended, as far as it tells.
    pub run_ended_at: Option<jiff::Timestamp>,
}

impl Observation {
    /// Whether this is a claim: the object is there, and the database has never had a lease of it.
    pub fn is_claim(&self, observed: &ObservedLease) -> bool {
        observed.present().is_some() && is_of_claim(&self.view)
    }

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
        let chosen = {
            let cache = self.context.cache();
            Choice {
                environment: choice(&cache, observed),
                was_gone: shown_is_gone(&cache, observed),
            }
        };
        let (view, namespace, unread) = self.look(observed, chosen.environment).await?;
        let claim = observed.present().filter(|_| is_of_claim(&view));
        let company = claim.and(namespace.as_ref()).map(|namespace| {
            let (recorded, exists) = (view.recorded_company, view.company_exists);
            company::of_new_object(namespace, recorded, exists, self.context.settings.mode)
        });
        let run_object = run_object(observed, &view);
        let seen = self.run(observed, &view, run_object.as_ref()).await;
        let heartbeat_missed = self.seems_silent(observed);
        let findings = Findings {
            lease: observed,
            snapshot: &view,
            chosen,
            namespace: namespace.as_ref(),
            unread: unread.as_ref().map(ClusterError::sentence),
            company: company.as_ref(),
            run: seen.run,
            run_obstacle: seen.obstacle,
            run_object: run_object.as_ref(),
            heartbeat_missed,
        };
        let facts = findings.facts(&self.context.cache());
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
            chosen,
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
