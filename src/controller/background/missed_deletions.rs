//! What was deleted while no operator watched: rows whose objects a complete list does not hold (I5).
//!
//! A list that failed, or that was broken off, never comes here: only a complete one at one resourceVersion does. A row is
//! taken only if it is of this cluster, incarnation and scope, and not newer than the list.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::cache::Key;
use crate::controller::context::Context;
use crate::mirror::Mirror;
use crate::runtime::configuration::NoticeSource;
use crate::store::missed_deletions::{List, missing_environments, missing_leases};
use crate::store::{Leader, StoreError};

/// Pause before another try after the database did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// The search for what was deleted unseen.
pub struct MissedDeletions {
    pub context: Arc<Context>,
    /// The way to the database.
    pub mirror: Arc<Mirror>,
    /// The term of this replica, while it leads.
    pub leader: watch::Receiver<Option<Leader>>,
    /// Hears of each complete list.
    pub listed: Arc<Notify>,
    /// Told the epoch in which was last looked, or could not be for a failure.
    pub looked: watch::Sender<Option<i64>>,
}

impl MissedDeletions {
    /// Looks after each complete list, and when this replica begins to lead.
    pub async fn watch(mut self, stop: CancellationToken) {
        let mut adopted = None;
        loop {
            let now = self.leader.borrow_and_update().clone();
            let again = match now {
                Some(now) => self.search(&now, &mut adopted).await,
                None => None,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.leader.changed() => if changed.is_err() { return },
                () = self.listed.notified() => {}
                () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    }

    /// Looks once, and says after which pause to try again, if it failed. What others have left is taken over once a term:
    /// `adopted` is the epoch of the last that it was.
    async fn search(&self, leader: &Leader, adopted: &mut Option<i64>) -> Option<Duration> {
        let (context, mirror) = (&self.context, &self.mirror);
        let found = async {
            if *adopted != Some(leader.epoch) {
                adopt(context, mirror, leader).await?;
                *adopted = Some(leader.epoch);
            }
            look(context, mirror, leader).await
        };
        let found = found.await;
        let again = mirror.examined(found).await.err().map(|error| {
            tracing::warn!(%error, "deleted objects could not be looked for, trying again");
            PAUSE
        });
        self.looked.send_replace(Some(leader.epoch));
        again
    }
}

/// Takes over what is remembered of objects that another installation has looked after.
async fn adopt(context: &Context, mirror: &Mirror, leader: &Leader) -> Result<(), StoreError> {
    let adopted = mirror.adopt(leader, &context.settings.namespaces).await?;
    if adopted > 0 {
        tracing::info!(records = adopted, "taken over from other installations of this cluster");
    }
    Ok(())
}

async fn look(context: &Context, mirror: &Mirror, leader: &Leader) -> Result<(), StoreError> {
    let store = mirror.store();
    // The environments first: their leases then end with the reason that the environment gives.
    let (lists, known) = context.cache().known_environments();
    for (namespace, version) in &lists {
        let list = List {
            namespace: namespace.as_deref(),
            version,
        };
        let missing = missing_environments(store, leader, &list, &known).await?;
        note_missed_deletion(context, missing.into_iter().map(Key::Environment));
    }
    let (lists, known) = context.cache().known_leases();
    for (namespace, version) in &lists {
        let list = List {
            namespace: namespace.as_deref(),
            version,
        };
        let missing = missing_leases(store, leader, &list, &known).await?;
        note_missed_deletion(context, missing.into_iter().map(Key::Lease));
    }
    Ok(())
}

fn note_missed_deletion(context: &Context, keys: impl Iterator<Item = Key>) {
    let keys: Vec<Key> = keys.collect();
    for key in keys {
        tracing::info!(?key, "deleted while nobody looked");
        context.learn_from(NoticeSource::Watches, |cache| cache.note_missed_deletion(key));
    }
}
