//! Run rows that come to an end: heard of through LISTEN, the moment the run's transaction commits.
//!
//! After each (re)connect LISTEN comes first, then a look at every run that leases name: what ended in between is seen by
//! the one or the other.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::reconcile::Reconciler;
use crate::mirror::Mirror;
use crate::runtime::configuration::NoticeSource;
use crate::store::{StoreError, heartbeat_runs};

/// Listens until `stop`.
pub async fn listen<C>(reconciler: Arc<Reconciler<Mirror, C>>, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = hear(&reconciler, &mut backoff) => {
                if let Err(error) = outcome {
                    reconciler.metrics.store_failed(error.category().as_str());
                    tracing::warn!(%error, "lost the ear for run ends, connecting again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }
}

async fn hear<C>(reconciler: &Reconciler<Mirror, C>, backoff: &mut Backoff) -> Result<(), StoreError> {
    let mut ends = heartbeat_runs::listen(reconciler.database.store()).await?;
    let all = reconciler.index().unfinished_of_heartbeat_runs();
    reconciler.admit(NoticeSource::Runs, all);
    loop {
        let run = ends.next().await?;
        backoff.reset();
        let leases = reconciler.index().leases_of_heartbeat_run(run);
        reconciler.admit(NoticeSource::Runs, leases);
    }
}
