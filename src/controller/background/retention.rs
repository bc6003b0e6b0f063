//! The retention of rows: when this replica begins to lead and every hour from then on, in small batches, until nothing is left
//! that is too old.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::controller::context::Context;
use crate::mirror::{Aside, Mirror};
use crate::runtime::metrics::Place;
use crate::store::{Leader, StoreError};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// Pause before another try after the database did not answer.
const PAUSE: Duration = Duration::from_secs(60);

/// Rows that are passed over in one round at most: a trigger that lets go of none must not be asked for each of very many.
const MOST_ASIDE: usize = 1_000;

/// Removes the rows of leases that ended longer ago than `kept` and whose objects are gone.
pub async fn watch(
    context: Arc<Context>,
    mirror: Arc<Mirror>,
    kept: Duration,
    mut leader: tokio::sync::watch::Receiver<Option<Leader>>,
    stop: CancellationToken,
) {
    loop {
        let leads = leader.borrow_and_update().is_some();
        let mut pause = INTERVAL;
        if leads && let Err(error) = remove(&context, &mirror, kept, &stop).await {
            context.metrics.database.failed(error.category());
            tracing::warn!(%error, "old rows could not be removed, trying again");
            pause = PAUSE;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = leader.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn remove(
    context: &Context,
    mirror: &Mirror,
    kept: Duration,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    // What can't be removed is passed over in this round, and tried again in the next.
    let mut aside = Aside::default();
    while !stop.is_cancelled() {
        let known = aside.leases.len();
        let removed = mirror.remove_ended(kept, &mut aside).await?;
        for lease in aside.leases.iter().skip(known) {
            context.metrics.database.set_aside(Place::Retention);
            tracing::warn!(lease = %lease.id, error = %lease.error, "the old row cannot be removed, passed over until the next round");
        }
        context.metrics.sweep.rows_removed(removed.leases);
        if aside.is_too_slow() {
            tracing::warn!("old rows are removed too slowly, the rest is left for the next round");
            return Ok(());
        }
        if removed.records == 0 && (aside.leases.len() == known || aside.leases.len() >= MOST_ASIDE) {
            // Nothing is left but what others hold, for the next round.
            if removed.now == 0.0 {
                return Ok(()); // nothing could be asked of the database's clock
            }
            context.metrics.sweep.retention_succeeded(removed.now);
            return Ok(());
        }
        tracing::info!(leases = removed.leases, "rows of long ended leases removed");
    }
    Ok(())
}
