//! What people see of an environment: its status, its Events, its log lines.

use serde_json::json;

use super::{Committed, EnvironmentReconciler, FAULT_PAUSE, local};
use crate::api::{ConditionStatus, EnvironmentStatus, Reason, Timestamp};
use crate::cache::object::EnvironmentObject;
use crate::cache::{Key, Wakes};
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::{Cluster, StatusPatch};
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::controller::outside::event::Notice;
use crate::controller::work::requeue::Requeue;
use crate::lifecycle::environment_status::{LocalRole, MirroredEnvironment, StatusUpdate, environment_status};
use crate::store::environment_object::EnvironmentSnapshot;

impl<D: Database, C: Cluster> EnvironmentReconciler<D, C> {
    /// Shows what has been committed, if the object does not show it already; what is at fault is looked at again.
    pub(super) async fn report(
        &self,
        environment: &EnvironmentObject,
        view: &EnvironmentSnapshot,
        role: Option<LocalRole>,
        committed: Committed,
    ) -> Result<(), ReconcileError> {
        let Committed { row, fault, .. } = committed;
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
        self.write_environment_status(environment, status).await
    }

    /// Writes a complete status with the version that was decided upon; equal to what is shown: no request.
    pub(in crate::controller) async fn write_environment_status(
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
