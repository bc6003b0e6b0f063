//! Heartbeats: a silence is proven before it ends a lease, and a lease that beats shows in its row when it was last used.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::LeaseReconciler;
use super::observation::Observation;
use crate::cache::Key;
use crate::cache::object::LeaseObject;
use crate::controller::error::{At as _, ReconcileError};
use crate::controller::outside::cluster::Cluster;
use crate::controller::outside::database::Database;
use crate::controller::work::requeue::Requeue;
use crate::projection::observed::ObservedLease;
use crate::runtime::configuration::NoticeSource;
use crate::runtime::metrics::Cause;
use crate::store::Request as _;
use crate::store::environment_leases::{TOUCH_INTERVAL, Touch, is_worth_a_touch};

/// How quickly the API server has to answer for the answer to prove a silence: whoever wanted to beat meanwhile may have had
/// to wait as long as the operator.
const PROMPT: Duration = Duration::from_secs(1);

impl<D: Database, C: Cluster> LeaseReconciler<D, C> {
    /// Whether the lease has been silent for too long, as far as the watch tells.
    pub(super) fn seems_silent(&self, observed: &ObservedLease) -> bool {
        let silence = self.context.cache().silence(observed.id, Instant::now());
        silence.is_some_and(|silence| silence.is_too_long())
    }

    /// Whether the lease still is as the watch has shown it: the watch may have stalled without a sign, so only a live read
    /// that is answered promptly proves that no heartbeat came.
    pub(super) async fn is_silent(&self, lease: &LeaseObject) -> bool {
        let asked = Instant::now();
        let read = self.cluster.read_lease(&lease.meta.namespace, &lease.meta.name).await;
        match read {
            Ok(live) if asked.elapsed() <= PROMPT => {
                let Some(live) = live else {
                    return false; // its deletion is on its way through the watch
                };
                let same = live.meta.uid == lease.meta.uid
                    && live.meta.renew_time == lease.meta.renew_time
                    && live.spec == lease.spec;
                self.context.learn(|cache| cache.read_lease(live));
                same
            }
            slow => {
                let (namespace, name) = (&lease.meta.namespace, &lease.meta.name);
                match slow {
                    Ok(_) => {
                        tracing::warn!(namespace, name, took = ?asked.elapsed(), "the API server is slow: heartbeats may be late")
                    }
                    Err(error) => tracing::warn!(namespace, name, %error, "a lease that seems silent can't be read"),
                }
                self.context
                    .cache
                    .note(|cache| cache.doubt_leases(namespace, Instant::now()));
                false
            }
        }
    }

    /// The row of a lease that beats shows when it was last used, a minute behind at most.
    pub(super) async fn show_use(
        &self,
        observed: &ObservedLease,
        observation: &Observation,
    ) -> Result<(), ReconcileError> {
        let silence = self.context.cache().silence(observed.id, Instant::now());
        let (Some(ago), Some(row)) = (silence.and_then(|silence| silence.beaten), &observation.view.row) else {
            return Ok(());
        };
        if is_worth_a_touch(observation.view.now, row.last_used_at, ago) {
            self.database
                .ask(Touch { id: observed.id, ago })
                .await
                .at(Touch::NAME)?;
            self.context.committed::<Touch>(Key::Lease(observed.id));
        }
        Ok(())
    }

    /// When a lease of which heartbeats are expected has to be looked at again, if deadlines may end leases.
    pub(super) fn until_silence(&self, id: Uuid) -> Option<Requeue> {
        if !self.context.settings.notice_by.contains(&NoticeSource::Deadlines) {
            return None;
        }
        let silence = self.context.cache().silence(id, Instant::now())?;
        let pause = silence.patience().min(TOUCH_INTERVAL);
        Some(Requeue::new(Cause::Heartbeat, pause))
    }
}
