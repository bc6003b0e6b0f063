//! What people see of a lease: its status, its Events, its log lines.

use serde_json::json;
use tokio::time::Instant;

use super::LeaseReconciler;
use super::observation::Observation;
use crate::api::{Driver, EnvironmentLeaseStatus, LeasePhase, LeasedEnvironment, LeasedRun, Reason, Timestamp};
use crate::cache::object::LeaseObject;
use crate::cache::{Cache, Key, LOCAL_NAME, Wakes};
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::{Cluster, StatusPatch};
use crate::controller::outside::database::Database;
use crate::controller::outside::error::ClusterError;
use crate::controller::outside::event::Notice;
use crate::lifecycle::Ending;
use crate::lifecycle::event_type::{self, Wait};
use crate::lifecycle::lease::Row;
use crate::lifecycle::lease_status::{Grant, StatusUpdate, lease_status, shown_ending, shown_fault};
use crate::projection::agreement::is_granted_row;
use crate::projection::observed::ObservedLease;
use crate::store::environments::EnvironmentRow;

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Shows a update in the object's status, if it does not show it already.
    pub(super) async fn report(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        update: &StatusUpdate,
    ) -> Result<(), ReconcileError> {
        let Some(lease) = observed.present() else { return Ok(()) };
        let now = Timestamp::cut(observation.view.now);
        let status = lease_status(
            lease.status.as_ref(),
            lease.meta.generation,
            lease.spec.run.as_ref(),
            update,
            now,
        );
        let reason = status.reason;
        let written = self.write_lease_status(lease, status).await?;
        // Nothing in the database tells that it ended: it has once the object shows it, and is no lost one from then on.
        if written && observation.facts.row == Row::Lost {
            tracing::warn!(lease = %observed.id, "the row of a lease that was granted is not in the database");
            if let Some(reason) = reason {
                self.context.metrics.leases.ended(reason);
            }
        }
        Ok(())
    }

    /// Writes a complete status with the version that was decided upon, and says whether that was done; equal to what is shown:
    /// no request.
    pub(in crate::controller) async fn write_lease_status(
        &self,
        lease: &LeaseObject,
        status: EnvironmentLeaseStatus,
    ) -> Result<bool, ReconcileError> {
        let ended = lease.status.as_ref().is_some_and(|shown| shown_ending(shown).is_some());
        let same = lease.status.as_ref() == Some(&status);
        // An end that another version has shown in words of its own stays in its words.
        if if lease.status_unreadable { ended } else { same } {
            self.warn_of_long_wait(lease, &status).await;
            return Ok(false);
        }
        let patch = StatusPatch::between(&json!(lease.status), lease.status_unreadable, json!(status));
        match self.cluster.patch_lease_status(&lease.meta, patch).await {
            Ok(written) => {
                let own = Key::Lease(lease.meta.uid);
                self.context.learn(|cache| cache.read_lease(written).without(own));
            }
            Err(ClusterError::NotFound) => return Ok(false), // its deletion is on its way through the watch
            Err(ClusterError::Conflict) => {
                self.read_again(lease).await?;
                return Ok(false);
            }
            Err(error) => return Err(error).at("patch the status of a lease"),
        }
        self.explain(lease, &status).await;
        Ok(true)
    }

    /// The object is not what was decided upon: what stands under its name now is decided upon next.
    pub(super) async fn read_again(&self, lease: &LeaseObject) -> Result<(), ReconcileError> {
        let read = self
            .cluster
            .read_lease(&lease.meta.namespace, &lease.meta.name)
            .await
            .at("read a lease again")?;
        let (key, version) = (Key::Lease(lease.meta.uid), &lease.meta.resource_version);
        self.context.decide_anew(key, version, |cache| {
            read.map_or(Wakes::none(), |read| cache.read_lease(read))
        });
        Ok(())
    }

    /// An Event and a log line for each transition.
    async fn explain(&self, lease: &LeaseObject, status: &EnvironmentLeaseStatus) {
        if let Some((reason, message)) = shown_fault(status)
            && lease.status.as_ref().and_then(shown_fault).as_ref() != Some(&(reason, message.clone()))
        {
            let (namespace, name) = (&lease.meta.namespace, &lease.meta.name);
            tracing::warn!(
                namespace,
                name,
                reason = reason.into_str(),
                why = message,
                "lease is not mirrored"
            );
            self.cluster.notify(notice(lease, true, reason, message)).await;
        }
        let before = lease.status.as_ref().map(|status| (status.phase, status.reason));
        let (Some(phase), Some(reason)) = (status.phase, status.reason) else {
            return;
        };
        if before == Some((Some(phase), Some(reason))) {
            self.warn_of_long_wait(lease, status).await;
            return;
        }
        let message = status.message.clone().unwrap_or_default();
        let (namespace, name) = (&lease.meta.namespace, &lease.meta.name);
        tracing::info!(
            namespace,
            name,
            phase = phase.into_str(),
            reason = reason.into_str(),
            why = message,
            "lease changed"
        );
        if phase == LeasePhase::Failed && status.lease_id.is_none() {
            self.context.metrics.leases.refused(reason);
        }
        if phase == LeasePhase::Pending && event_type::wait(reason) == Wait::Passing {
            let id = lease.meta.uid;
            self.context
                .cache
                .note(|cache| cache.wait_queue.note_wait(id, reason, Instant::now()));
        }
        let warning = event_type::is_warning(phase, reason);
        self.cluster.notify(notice(lease, warning, reason, message)).await;
    }

    /// A claim that still waits for what passes soon as a rule: a person should look, once.
    async fn warn_of_long_wait(&self, lease: &LeaseObject, status: &EnvironmentLeaseStatus) {
        let Some(reason) = status.reason.filter(|_| status.phase == Some(LeasePhase::Pending)) else {
            return;
        };
        let id = lease.meta.uid;
        let long = |cache: &mut Cache| cache.wait_queue.has_waited_long(id, reason, Instant::now());
        if self.context.cache.note(long) {
            let message = status.message.clone().unwrap_or_default();
            self.cluster.notify(notice(lease, true, reason, message)).await;
        }
    }

    /// A row that another writer rewrites after its end is left as written; somebody should know.
    pub(super) async fn warn_of_rewritten_end(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
        ending: &Ending,
    ) {
        let (Some(lease), Some(row)) = (observed.present(), &observation.view.row) else {
            return;
        };
        let rewritten = lease.status.as_ref().and_then(shown_ending).is_some() && row.status != ending.state;
        let first = rewritten && self.context.cache.note(|cache| cache.note_rewritten(observed.id));
        if first {
            self.context.metrics.leases.ending_rewritten();
            let message = format!(
                "the ended lease was rewritten in the database from {} to {}: it is left as written, and this object as it is",
                ending.state.into_str(),
                row.status.into_str()
            );
            tracing::warn!(lease = %observed.id, why = message, "an ended lease was rewritten");
            self.cluster
                .notify(notice(lease, true, Reason::EndedInDatabase, message))
                .await;
        }
    }

    /// What row and record tell of the grant.
    pub(super) fn granted(&self, observed: &ObservedLease, observation: &Observation) -> Option<Box<Grant>> {
        let (row, object, environment) = (
            observation.view.row.as_ref()?,
            observation.view.object.as_ref()?,
            observation.view.environment.as_ref()?,
        );
        if !is_granted_row(row, object) {
            return None;
        }
        let run = observation.facts.run_display.clone().map(|display| LeasedRun {
            display,
            kind: object.run_kind.clone(),
            name: object.run_name.clone(),
            uid: object.run_uid.clone().or(object.run_id.map(|id| id.to_string())),
        });
        // The name as it was at the grant: a later renaming does not rewrite every lease.
        let shown = observed
            .present()
            .and_then(|lease| lease.status.as_ref()?.environment.clone());
        let leased = shown
            .filter(|shown| shown.id == environment.id)
            .unwrap_or_else(|| LeasedEnvironment {
                name: self.name_of_environment(&object.namespace, environment),
                id: environment.id,
                driver: environment.driver,
            });
        Some(Box::new(Grant {
            lease_id: row.id,
            company_id: row.company_id,
            environment: leased,
            run,
            acquired_at: Timestamp::cut(row.acquired_at),
            expires_at: row.expires_at.map(Timestamp::cut),
            fencing_token: Some(object.fencing_token),
            context: Some(object.context.clone()),
        }))
    }

    /// What a user of the Namespace knows the environment by: its object's name, else, where none is here, the row's.
    fn name_of_environment(&self, namespace: &str, row: &EnvironmentRow) -> String {
        let cache = self.context.cache();
        let shown = cache.environments_of_row(row.id);
        let mut of_row = [row.id].into_iter().chain(shown);
        let here = of_row.find_map(|uid| {
            cache
                .environments
                .get(uid)
                .filter(|object| object.meta.namespace == namespace)
        });
        // A Local that stands for the company's row may not show so yet.
        let local = || {
            cache
                .environments
                .named(namespace, LOCAL_NAME)
                .filter(|_| row.driver == Driver::Local)
        };
        here.or_else(local)
            .map_or_else(|| row.name.clone(), |object| object.meta.name.clone())
    }
}

fn notice(lease: &LeaseObject, warning: bool, reason: Reason, message: String) -> Notice {
    Notice {
        kind: "EnvironmentLease",
        regarding: lease.meta.clone(),
        warning,
        reason: reason.into_str(),
        message,
    }
}
