//! The sweep: at an interval, SQL selects what run rows, deadlines and other writers have made due, whatever source missed it.
//!
//! It ends nothing of an object's itself: what it selects is reconciled like everything else. Unmanaged leases, of which there is
//! nothing to reconcile, are its own to judge.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::unmanaged_leases::sweep_unmanaged;
use crate::cache::Key;
use crate::clock;
use crate::controller::context::Context;
use crate::mirror::Mirror;
use crate::runtime::configuration::NoticeSource;
use crate::runtime::metrics::LeaseOwner;
use crate::store::{StoreError, heartbeat_runs, sweep};

/// Sweeps at the interval, while this replica leads.
pub async fn watch(context: Arc<Context>, mirror: Arc<Mirror>, interval: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let swept = run(&context, &mirror).instrument(tracing::info_span!("sweep")).await;
        let swept = mirror.examined(swept).await;
        // Measured also where the sweep failed: that is when it matters.
        let measured = measure(&context, &mirror).await;
        let measured = mirror.examined(measured).await;
        if let Err(error) = swept.and(measured) {
            context.metrics.database.failed(error.category());
            tracing::warn!(%error, "sweep failed, trying again at the next interval");
        }
    }
}

async fn run(context: &Context, mirror: &Mirror) -> Result<(), StoreError> {
    let Some(leader) = mirror.leader() else {
        return Ok(());
    };
    let begun = Instant::now();
    if context.settings.notice_by.contains(&NoticeSource::Sweep) {
        let store = mirror.store();
        let mut candidates = sweep::candidates(store, &leader, &context.settings.namespaces).await?;
        // Heartbeats are known to this process alone.
        candidates.extend(context.cache().silent_leases(Instant::now()));
        context.metrics.sweep.found(candidates.len());
        context.wake(candidates.into_iter().map(Key::Lease));
        sweep_unmanaged(context, mirror).await?;
    }
    let now = clock::wall().as_duration().as_secs_f64();
    context.metrics.sweep.done(begun.elapsed(), now);
    Ok(())
}

/// Sets the gauges that tell of all rows, while this replica leads; a follower's would tell of long ago.
async fn measure(context: &Context, mirror: &Mirror) -> Result<(), StoreError> {
    if mirror.leader().is_none() {
        context.metrics.sweep.forget();
        return Ok(());
    }
    let store = mirror.store();
    // Whatever may end leases: the watches go on, and the gauge is there to tell of what is not ended.
    let of_run_objects = context.cache().leases_that_outlive_their_run_object();
    let leaked = sweep::leaked(store, &of_run_objects).await?;
    let counted = &context.metrics.sweep;
    counted.set_leaked(LeaseOwner::Operator, leaked.operator);
    counted.set_leaked(LeaseOwner::Unmanaged, leaked.unmanaged);
    let usage = heartbeat_runs::notification_queue_usage(store).await?;
    context.metrics.database.set_notification_queue_usage(usage);
    Ok(())
}
