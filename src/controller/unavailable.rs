//! What a status may show while the database can't be reached: that it can't (I7's one exception). Nothing is granted or ended,
//! and nothing that another replica may have written in the meantime is overwritten.

use uuid::Uuid;

use super::error::ReconcileError;
use super::lease::unseen::is_or_was_claim;
use super::reconcile::Reconcilers;
use crate::api::{EnvironmentLeaseStatus, EnvironmentPhase, EnvironmentStatus, Reason, Timestamp};
use crate::cache::Key;
use crate::clock;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::event::Notice;
use crate::lifecycle::EnvironmentState;
use crate::lifecycle::environment_status::{self, LocalRole, MirroredEnvironment, environment_status};
use crate::lifecycle::lease_status::{self, lease_status};

const MESSAGE: &str = "the database can't be reached: nothing is granted until it is back";

/// What is said on objects: why the database does not fit, where it answers.
fn message(refusal: Option<&str>) -> String {
    match refusal {
        Some(sentence) => {
            format!("the database can't be used as it is, and nothing is granted until it is mended: {sentence}")
        }
        None => MESSAGE.to_owned(),
    }
}

impl<D: Database, C: Cluster> Reconcilers<D, C> {
    /// Says so on a claim that waits, and on an environment whose latest spec has not been mirrored; once each, until it is for
    /// another reason. `refusal` tells why a database that answers does not fit.
    pub(super) async fn report_store_unavailable(&self, key: Key, refusal: Option<&str>) -> Result<(), ReconcileError> {
        match key {
            Key::Lease(id) => self.report_on_claim(id, refusal).await,
            Key::Environment(id) => self.report_on_environment(id, refusal).await,
        }
    }

    async fn report_on_claim(&self, id: Uuid, refusal: Option<&str>) -> Result<(), ReconcileError> {
        let Some(lease) = self.context.cache().leases.get(id).cloned() else {
            return Ok(());
        };
        let before = lease.status.as_ref();
        if !lease.shows_that_it_waits() || lease.meta.deleting {
            return Ok(());
        }
        if self.context.may_be_anothers_word(&lease) {
            tracing::debug!(lease = %id, "left to who leads now");
            return Ok(());
        }
        let update = lease_status::StatusUpdate::Pending(Reason::StoreUnavailable, message(refusal));
        let (generation, run) = (lease.meta.generation, lease.spec.run.as_ref());
        let status = lease_status(before, generation, run, &update, now());
        let said = |status: &EnvironmentLeaseStatus| (status.reason, status.message.clone());
        if before.map(said) == Some(said(&status)) {
            return Ok(());
        }
        let sentence = status.message.clone().unwrap_or_default();
        if self.leases.write_lease_status(&lease, status).await? {
            self.context.troubles.note_said(Key::Lease(id), &sentence);
        }
        Ok(())
    }

    async fn report_on_environment(&self, id: Uuid, refusal: Option<&str>) -> Result<(), ReconcileError> {
        let Some(environment) = self.context.cache().environments.get(id).cloned() else {
            return Ok(());
        };
        let before = environment.status.as_ref();
        let update = environment_status::StatusUpdate {
            row: before.and_then(last_row),
            role: before.and_then(LocalRole::shown),
            fault: Some((Reason::StoreUnavailable, message(refusal))),
        };
        let status = environment_status(before, environment.meta.generation, &update, now());
        let sentence = said_of_store(&status).unwrap_or_default().to_owned();
        if before.and_then(|status| status.observed_generation) == Some(environment.meta.generation) {
            // What is mirrored stays so; and what another replica may have said by now is not contradicted.
            let key = Key::Environment(id);
            let may_be_rewritten = |said: &str| !self.context.has_lapsed() || self.context.troubles.has_said(key, said);
            match before.and_then(said_of_store) {
                Some(said) if said != sentence && may_be_rewritten(said) => {}
                _ => return Ok(()),
            }
        }
        self.environments.write_environment_status(&environment, status).await?;
        self.context.troubles.note_said(Key::Environment(id), &sentence);
        Ok(())
    }
}

/// The moment by this process's clock, which only dates conditions: the database's can't be asked.
fn now() -> Timestamp {
    Timestamp::cut(clock::wall())
}

/// Why the database could not be used for an environment, as its status says.
fn said_of_store(status: &EnvironmentStatus) -> Option<&str> {
    let ready = status.conditions.first()?;
    (ready.reason == Reason::StoreUnavailable).then_some(ready.message.as_str())
}

impl<D: Database, C: Cluster> Reconcilers<D, C> {
    /// Says why this one object can't be brought further, for instance what the database answered about it: on a claim and on an environment in the status, of a lease that is
    /// held, which goes on, in an Event, once until it is another answer.
    pub(super) async fn report_refused(&self, key: Key, reason: Reason, sentence: &str) -> Result<(), ReconcileError> {
        match key {
            Key::Lease(id) => {
                let Some(lease) = self.context.cache().leases.get(id).cloned() else {
                    return Ok(());
                };
                if is_or_was_claim(&lease) {
                    return self.leases.report_unseen_claim(&lease, reason, sentence).await;
                }
                if self.context.troubles.is_news(key, sentence) {
                    let notice = Notice {
                        kind: "EnvironmentLease",
                        regarding: lease.meta.clone(),
                        warning: true,
                        reason: reason.into_str(),
                        message: sentence.to_owned(),
                    };
                    self.cluster.notify(notice).await;
                }
                Ok(())
            }
            Key::Environment(id) => {
                let Some(environment) = self.context.cache().environments.get(id).cloned() else {
                    return Ok(());
                };
                let status = environment.status.as_ref();
                let update = environment_status::StatusUpdate {
                    row: status.and_then(last_row),
                    role: status.and_then(LocalRole::shown),
                    fault: Some((reason, sentence.to_owned())),
                };
                let status = environment_status(status, environment.meta.generation, &update, now());
                self.environments.write_environment_status(&environment, status).await
            }
        }
    }
}

/// The row as it was last shown; none where it was shown to be gone, or not there yet. Which state a duplicate's has, a condition
/// tells.
fn last_row(status: &EnvironmentStatus) -> Option<MirroredEnvironment> {
    let is_archived = status
        .conditions
        .iter()
        .any(|condition| condition.reason == Reason::Archived);
    Some(MirroredEnvironment {
        environment_id: status.environment_id?,
        company_id: status.company_id?,
        name: status.name.clone()?,
        state: match status.phase? {
            EnvironmentPhase::Pending => return None,
            EnvironmentPhase::Archived => EnvironmentState::Archived,
            EnvironmentPhase::Duplicate if is_archived => EnvironmentState::Archived,
            EnvironmentPhase::Active | EnvironmentPhase::Duplicate => EnvironmentState::Active,
        },
        active_leases: status.active_leases?,
    })
}

#[cfg(test)]
mod tests;
