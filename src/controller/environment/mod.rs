//! The reconciler of environments: observe, decide, commit, report.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::context::Context;
use crate::api::{ConditionStatus, Driver, EnvironmentStatus, Reason, Timestamp};
use crate::cache::object::{EnvironmentObject, NamespaceObject};
use crate::cache::{Key, Wakes};
use crate::controller::error::{At as _, READ_NAMESPACE, ReconcileError};
use crate::controller::outside::cluster::{Cluster, StatusPatch};
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::controller::outside::event::Notice;
use crate::controller::work::requeue::Requeue;
use crate::controller::work::trouble::HELD;
use crate::lifecycle::environment_status::{MirroredEnvironment, StatusUpdate, environment_status};
use crate::store::environment_object::{EnvironmentQuery, EnvironmentSnapshot};
use crate::store::environments::{Archive, ArchiveOutcome, EnvironmentOutcome, EnvironmentSync};
use crate::store::{Request as _, StoreError};

mod local;

use crate::projection::environment_plan::{Plan, plan};

/// Pause before a company that could not be told is looked for again.
const FAULT_PAUSE: Duration = Duration::from_secs(15);

/// Brings Environments to where they should be.
pub struct EnvironmentReconciler<D, C> {
    context: Arc<Context>,
    database: Arc<D>,
    cluster: Arc<C>,
}

impl<D, C> EnvironmentReconciler<D, C> {
    pub(super) const fn new(context: Arc<Context>, database: Arc<D>, cluster: Arc<C>) -> Self {
        Self {
            context,
            database,
            cluster,
        }
    }
}

impl<D: Database, C: Cluster> EnvironmentReconciler<D, C> {
    /// Brings one environment to where it should be.
    ///
    /// # Errors
    /// When the database or the API server does not answer: nothing is lost, the same reconcile is run again.
    pub async fn reconcile(&self, id: Uuid) -> Result<(), ReconcileError> {
        let (present, gone) = {
            let cache = self.context.cache();
            (
                cache.environments.get(id).cloned(),
                cache.environments.gone(id).is_some() || cache.is_missed_deletion(Key::Environment(id)),
            )
        };
        match present {
            Some(environment) => self.mirror_environment(&environment).await,
            None if gone => self.archive_environment(id).await,
            None => Ok(()),
        }
    }

    /// The object is gone: its row is archived, and its leases are looked at.
    async fn archive_environment(&self, id: Uuid) -> Result<(), ReconcileError> {
        let gone = self.context.cache().environments.gone(id).cloned();
        let shown = gone.as_ref().and_then(|gone| gone.status.as_ref()?.environment_id);
        let row = shown.unwrap_or(id); // an adopted Local's row has another id than the object
        match self.database.ask(Archive(id)).await.at(Archive::NAME)? {
            ArchiveOutcome::Busy => {
                self.context
                    .later(Key::Environment(id), self.context.troubles.busy(Key::Environment(id)));
                return Ok(());
            }
            ArchiveOutcome::Archived => self.context.committed::<Archive>(Key::Environment(id)),
            ArchiveOutcome::Unknown => {}
        }
        self.tell_next_local(id).await?;
        self.context.learn(|cache| {
            let leases = cache.leases_of_row(row, gone.as_deref());
            cache.forget_environment(id);
            Wakes::of(leases)
        });
        self.context.serve(row, 1); // without this object its limit may be another one
        Ok(())
    }

    async fn mirror_environment(&self, environment: &Arc<EnvironmentObject>) -> Result<(), ReconcileError> {
        let (mut view, namespace) = self.look_at_environment(environment).await?; // the database; a live read of the Namespace
        let plan = plan(environment, &view, namespace.as_ref(), self.context.settings.mode); // pure
        let synced = matches!(plan, Plan::Sync(_));
        // The row of a Local that is not mirrored is its company's, not its own.
        let last_good = view.row.clone().filter(|_| view.object.is_some());
        let (row, fault) = match plan {
            Plan::Fault(reason, message) => (last_good, Some((reason, message))),
            Plan::InStep => (last_good, None),
            Plan::Sync(sync) => match self.database.ask(*sync).await.at(EnvironmentSync::NAME)? {
                // the database
                EnvironmentOutcome::Inserted(row)
                | EnvironmentOutcome::Adopted(row)
                | EnvironmentOutcome::Updated(row) => {
                    self.context
                        .committed::<EnvironmentSync>(Key::Environment(environment.meta.uid));
                    self.context.learn(|cache| Wakes::of(cache.claims_for(environment)));
                    (Some(row), None)
                }
                EnvironmentOutcome::AlreadySo(row) => (Some(row), None),
                // The row of another company is none of its own to show.
                EnvironmentOutcome::OfAnother => (last_good, Some(of_another())),
                EnvironmentOutcome::Refused(refusal) => (last_good, Some((refusal.reason, refusal.message))),
                EnvironmentOutcome::Busy => {
                    let key = Key::Environment(environment.meta.uid);
                    self.context.later(key, self.context.troubles.busy(key));
                    if !self.context.troubles.is_lasting(key) {
                        return Ok(());
                    }
                    (last_good, Some((Reason::StoreUnavailable, HELD.to_owned())))
                }
                EnvironmentOutcome::Older => {
                    // The newer version is on its way through the watch; were it not, trying in haste would not bring it.
                    self.context
                        .later(Key::Environment(environment.meta.uid), Requeue::look(FAULT_PAUSE));
                    return Ok(());
                }
            },
        };
        if let Some(row) = &row {
            self.context.serve(row.id, 1); // its limit may be another one
        }
        let mut role = None;
        if row.is_some() && environment.spec.driver == Driver::Local {
            if synced {
                view = self.look_at_environment(environment).await?.0; // the database: which one has been chosen
            }
            role = local::role(&view);
            self.tell_other_locals(environment, &view, role.as_ref()).await?; // the database
            if self.delete_spare_local(environment, &view, role.as_ref()).await? {
                return Ok(()); // the API server; its deletion is on its way through the watch
            }
        }
        // An invalid spec waits for its change, of which the watch tells; a row that was changed, for a resync.
        let waits = [Reason::InvalidSpec, Reason::ChangedInDatabase];
        if fault.as_ref().is_some_and(|(reason, _)| !waits.contains(reason)) {
            self.context
                .later(Key::Environment(environment.meta.uid), Requeue::look(FAULT_PAUSE));
        }
        let row = row.map(|row| MirroredEnvironment {
            environment_id: row.id,
            company_id: row.company_id,
            name: row.name,
            state: row.status,
            active_leases: i32::try_from(view.active_leases).unwrap_or(i32::MAX),
        });
        let update = StatusUpdate { row, role, fault };
        let now = Timestamp::cut(view.now);
        let status = environment_status(environment.status.as_ref(), environment.meta.generation, &update, now);
        self.write_environment_status(environment, status).await // the API server
    }

    /// Looks into the database. Until the object is recorded its Namespace is read live, for that is what decides its
    /// company: the watch may not have heard yet that another Namespace has taken the name.
    async fn look_at_environment(
        &self,
        environment: &EnvironmentObject,
    ) -> Result<(EnvironmentSnapshot, Option<NamespaceObject>), ReconcileError> {
        let (view, namespace) = self.look_with_namespace(environment).await?;
        match view.unreadable {
            // It is there, whatever it says: to go on as without one would show it as gone.
            Some(message) => Err(StoreError::Refused { message }).at(EnvironmentQuery::NAME),
            None => Ok((view, namespace)),
        }
    }

    async fn look_with_namespace(
        &self,
        environment: &EnvironmentObject,
    ) -> Result<(EnvironmentSnapshot, Option<NamespaceObject>), ReconcileError> {
        let question = |namespace: Option<&NamespaceObject>| EnvironmentQuery {
            id: environment.meta.uid,
            namespace_uid: namespace.map(|namespace| namespace.meta.uid),
            company_id: namespace.and_then(|namespace| namespace.company().ok()),
            driver: environment.spec.driver,
        };
        let cached = self
            .context
            .cache()
            .namespaces
            .get(&environment.meta.namespace)
            .cloned();
        let view = self
            .database
            .ask(question(cached.as_ref()))
            .await
            .at(EnvironmentQuery::NAME)?;
        if !view.leading {
            return Err(ReconcileError::NotLeading);
        }
        if view.object.is_some() {
            return Ok((view, cached));
        }
        let live = self
            .cluster
            .read_namespace(&environment.meta.namespace)
            .await
            .at(READ_NAMESPACE)?;
        if live.as_ref().map(NamespaceObject::decides_company) == cached.as_ref().map(NamespaceObject::decides_company)
        {
            return Ok((view, live));
        }
        let view = self
            .database
            .ask(question(live.as_ref()))
            .await
            .at(EnvironmentQuery::NAME)?;
        Ok((view, live))
    }

    /// Writes a complete status with the version that was decided upon; equal to what is shown: no request.
    pub(super) async fn write_environment_status(
        &self,
        environment: &EnvironmentObject,
        status: EnvironmentStatus,
    ) -> Result<(), ReconcileError> {
        if environment.status.as_ref() == Some(&status) && !environment.status_unreadable {
            return Ok(());
        }
        let patch = StatusPatch::between(&json!(environment.status), environment.status_unreadable, json!(status));
        match self.cluster.patch_environment_status(&environment.meta, patch).await {
            Ok(written) => {
                let own = Key::Environment(environment.meta.uid);
                self.context.learn(|cache| cache.read_environment(written).without(own));
                // A lease that was granted before the row was shown has found no object that counts it.
                let shown = environment.status.as_ref().and_then(|status| status.environment_id);
                if let Some(row) = status.environment_id.filter(|row| Some(*row) != shown) {
                    self.context.count_again(row);
                }
            }
            Err(ClusterError::NotFound) => return Ok(()), // its deletion is on its way through the watch
            Err(ClusterError::Conflict) => return self.read_environment_again(environment).await,
            Err(error) => return Err(error).at("patch the status of an Environment"),
        }
        self.explain_environment(environment, &status).await;
        Ok(())
    }

    /// The object is not what was decided upon: what stands under its name now is looked at next.
    pub(super) async fn read_environment_again(&self, environment: &EnvironmentObject) -> Result<(), ReconcileError> {
        let (namespace, name) = (&environment.meta.namespace, &environment.meta.name);
        let read = self
            .cluster
            .read_environment(namespace, name)
            .await
            .at("read an Environment again")?;
        let (key, version) = (
            Key::Environment(environment.meta.uid),
            &environment.meta.resource_version,
        );
        self.context.decide_anew(key, version, |cache| {
            read.map_or(Wakes::none(), |read| cache.read_environment(read))
        });
        Ok(())
    }

    /// An Event and a log line for each transition.
    async fn explain_environment(&self, environment: &EnvironmentObject, status: &EnvironmentStatus) {
        let said = |status: &EnvironmentStatus| {
            let ready = status.conditions.first().map(|ready| (ready.status, ready.reason));
            (status.phase, ready)
        };
        let before = environment.status.as_ref().map(said);
        if before == Some(said(status)) {
            return;
        }
        let (Some(phase), Some(ready)) = (status.phase, status.conditions.first()) else {
            return;
        };
        let was = before.and_then(|(phase, _)| phase);
        let told = local::change_of_part(was, status).unwrap_or(ready);
        let (namespace, name) = (&environment.meta.namespace, &environment.meta.name);
        let (reason, message) = (told.reason, told.message.clone());
        tracing::info!(
            namespace,
            name,
            phase = phase.into_str(),
            reason = reason.into_str(),
            why = message,
            "environment changed"
        );
        let warning = ready.status != ConditionStatus::True;
        let regarding = environment.meta.clone();
        self.cluster
            .notify(Notice {
                kind: "Environment",
                regarding,
                warning,
                reason: reason.into_str(),
                message,
            })
            .await;
    }
}

/// What is told of an Environment whose row has got another driver or company.
fn of_another() -> (Reason, String) {
    let message = "another driver or company stands in the row in the database, and neither is ever written again: restore the \
                   row, or delete this Environment and create another one";
    (Reason::ChangedInDatabase, message.to_owned())
}
