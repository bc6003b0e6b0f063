//! What may be said while the database can't be reached: that it can't (I7's one exception). Nothing is granted or ended, and
//! nothing that another replica may have said in the meantime is contradicted.

use super::error::ReconcileError;
use super::lease::unseen::is_or_was_claim;
use super::reconcile::Reconcilers;
use crate::api::{EnvironmentPhase, EnvironmentStatus, LeasePhase, Reason, Timestamp};
use crate::cache::Key;
use crate::clock;
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::outside::event::Notice;
use crate::lifecycle::EnvironmentState;
use crate::lifecycle::environment_status::{self, MirroredEnvironment, Standing, environment_status};
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
    /// Says so on a claim that waits, and on an environment whose latest spec has not been mirrored; once each. `refusal` tells why
    /// a database that answers does not fit.
    pub(super) async fn report_store_unavailable(&self, key: Key, refusal: Option<&str>) -> Result<(), ReconcileError> {
        // The database's clock can't be asked; this one only dates the conditions.
        let now = Timestamp::cut(clock::wall());
        match key {
            Key::Lease(id) => {
                let Some(lease) = self.context.index().leases.get(id).cloned() else {
                    return Ok(());
                };
                let phase = lease.status.as_ref().and_then(|status| status.phase);
                let said = lease.status.as_ref().and_then(|status| status.reason) == Some(Reason::StoreUnavailable);
                if said || !matches!(phase, None | Some(LeasePhase::Pending)) || lease.meta.deleting {
                    return Ok(());
                }
                if self.context.may_be_anothers_word(&lease) {
                    tracing::debug!(lease = %id, "left to who leads now");
                    return Ok(());
                }
                let verdict = lease_status::Verdict::Pending(Reason::StoreUnavailable, message(refusal));
                let status = lease_status(
                    lease.status.as_ref(),
                    lease.meta.generation,
                    lease.spec.run.as_ref(),
                    &verdict,
                    now,
                );
                self.leases.write_lease_status(&lease, status).await.map(drop)
            }
            Key::Environment(id) => {
                let Some(environment) = self.context.index().environments.get(id).cloned() else {
                    return Ok(());
                };
                let status = environment.status.as_ref();
                if status.and_then(|status| status.observed_generation) == Some(environment.meta.generation) {
                    return Ok(());
                }
                let verdict = environment_status::Verdict {
                    row: status.and_then(last_row),
                    standing: status.and_then(Standing::shown),
                    fault: Some((Reason::StoreUnavailable, message(refusal))),
                };
                let status = environment_status(status, environment.meta.generation, &verdict, now);
                self.environments.write_environment_status(&environment, status).await
            }
        }
    }
}

impl<D: Database, C: Cluster> Reconcilers<D, C> {
    /// Says why this one object can't be brought further, for instance what the database answered about it: on a claim and on an environment in the status, of a lease that is
    /// held, which goes on, in an Event, once until it is another answer.
    pub(super) async fn report_refused(&self, key: Key, reason: Reason, sentence: &str) -> Result<(), ReconcileError> {
        // The row could not be looked at, so neither could the database's clock; this one only dates the conditions.
        let now = Timestamp::cut(clock::wall());
        match key {
            Key::Lease(id) => {
                let Some(lease) = self.context.index().leases.get(id).cloned() else {
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
                        reason: reason.as_str(),
                        message: sentence.to_owned(),
                    };
                    self.cluster.notify(notice).await;
                }
                Ok(())
            }
            Key::Environment(id) => {
                let Some(environment) = self.context.index().environments.get(id).cloned() else {
                    return Ok(());
                };
                let status = environment.status.as_ref();
                let verdict = environment_status::Verdict {
                    row: status.and_then(last_row),
                    standing: status.and_then(Standing::shown),
                    fault: Some((reason, sentence.to_owned())),
                };
                let status = environment_status(status, environment.meta.generation, &verdict, now);
                self.environments.write_environment_status(&environment, status).await
            }
        }
    }
}

/// The row as it was last shown.
fn last_row(status: &EnvironmentStatus) -> Option<MirroredEnvironment> {
    Some(MirroredEnvironment {
        environment_id: status.environment_id?,
        company_id: status.company_id?,
        name: status.name.clone()?,
        state: match status.phase? {
            EnvironmentPhase::Archived => EnvironmentState::Archived,
            EnvironmentPhase::Pending | EnvironmentPhase::Active | EnvironmentPhase::Duplicate => {
                EnvironmentState::Active
            }
        },
        active_leases: status.active_leases?,
    })
}
