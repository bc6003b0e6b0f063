//! The reconciler of environments: observe ([`observation`]), decide ([`plan`]), commit, report ([`report`]).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::context::Context;
use crate::api::{Driver, Reason};
use crate::cache::object::EnvironmentObject;
use crate::cache::{Key, Wakes};
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::controller::work::trouble::HELD;
use crate::projection::environment_plan::{Plan, plan};
use crate::store::Request as _;
use crate::store::environment_object::EnvironmentSnapshot;
use crate::store::environments::{Archive, ArchiveOutcome, EnvironmentOutcome, EnvironmentRow, EnvironmentSync};

mod local;
mod observation;
mod report;

use observation::Observation;

/// Pause before a company that could not be told is looked for again.
const FAULT_PAUSE: Duration = Duration::from_secs(15);

/// What has come of a plan.
struct Committed {
    /// The row as it stands now; while the spec is at fault, the last good one.
    row: Option<EnvironmentRow>,
    /// Why the row does not say what the spec says, where it does not.
    fault: Option<(Reason, String)>,
    /// Whether the row was asked to be written: what was seen of the object before is out of date.
    asked: bool,
}

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

    /// The object is there: the row is to say what the spec says, and the status what the row says.
    async fn mirror_environment(&self, environment: &Arc<EnvironmentObject>) -> Result<(), ReconcileError> {
        let observation = self.observe(environment).await?; // the database; a live read of the Namespace
        let Observation { mut view, namespace } = observation;
        let plan = plan(environment, &view, namespace.as_ref(), self.context.settings.mode); // pure
        let Some(committed) = self.commit(environment, &view, plan).await? else {
            return Ok(()); // the database; it is looked at again
        };
        if let Some(row) = &committed.row {
            self.context.serve(row.id, 1); // its limit may be another one
        }
        let mut role = None;
        if committed.row.is_some() && environment.spec.driver == Driver::Local {
            if committed.asked {
                view = self.observe(environment).await?.view; // the database: which one has been chosen
            }
            role = local::role(&view);
            self.tell_other_locals(environment, &view, role.as_ref()).await?; // the database
            if self.delete_spare_local(environment, &view, role.as_ref()).await? {
                return Ok(()); // the API server; its deletion is on its way through the watch
            }
        }
        self.report(environment, &view, role, committed).await // the API server
    }

    /// Carries a plan out. None: there is nothing to report, and the environment is looked at again.
    async fn commit(
        &self,
        environment: &Arc<EnvironmentObject>,
        view: &EnvironmentSnapshot,
        plan: Plan,
    ) -> Result<Option<Committed>, ReconcileError> {
        // The row of a Local that is not mirrored is its company's, not its own.
        let last_good = view.row.clone().filter(|_| view.object.is_some());
        let as_before = |fault| Committed {
            row: last_good.clone(),
            fault,
            asked: false,
        };
        Ok(match plan {
            Plan::Fault(reason, message) => Some(as_before(Some((reason, message)))),
            Plan::InStep => Some(as_before(None)),
            Plan::Sync(sync) => self.sync(environment, *sync, last_good).await?,
        })
    }

    /// Has the row written. None: it was not, and is tried again.
    async fn sync(
        &self,
        environment: &Arc<EnvironmentObject>,
        sync: EnvironmentSync,
        last_good: Option<EnvironmentRow>,
    ) -> Result<Option<Committed>, ReconcileError> {
        let key = Key::Environment(environment.meta.uid);
        let (row, fault) = match self.database.ask(sync).await.at(EnvironmentSync::NAME)? {
            EnvironmentOutcome::Inserted(row) | EnvironmentOutcome::Adopted(row) | EnvironmentOutcome::Updated(row) => {
                self.context.committed::<EnvironmentSync>(key);
                self.context.learn(|cache| Wakes::of(cache.claims_for(environment)));
                (Some(row), None)
            }
            EnvironmentOutcome::AlreadySo(row) => (Some(row), None),
            // The row of another company is none of its own to show.
            EnvironmentOutcome::OfAnother => (last_good, Some(of_another())),
            EnvironmentOutcome::Refused(refusal) => (last_good, Some((refusal.reason, refusal.message))),
            EnvironmentOutcome::Busy => {
                self.context.later(key, self.context.troubles.busy(key));
                if !self.context.troubles.is_lasting(key) {
                    return Ok(None);
                }
                (last_good, Some((Reason::StoreUnavailable, HELD.to_owned())))
            }
            EnvironmentOutcome::Older => {
                // The newer version is on its way through the watch; were it not, trying in haste would not bring it.
                self.context.later(key, Requeue::look(FAULT_PAUSE));
                return Ok(None);
            }
        };
        let asked = true;
        Ok(Some(Committed { row, fault, asked }))
    }
}

/// What is told of an Environment whose row has got another driver or company.
fn of_another() -> (Reason, String) {
    let message = "another driver or company stands in the row in the database, and neither is ever written again: restore the \
                   row, or delete this Environment and create another one";
    (Reason::ChangedInDatabase, message.to_owned())
}
