//! `heartbeat_runs`: the origin's runs. The operator never makes one; it hears when one ends.

use sqlx::postgres::PgListener;
use uuid::Uuid;

use super::session::open_listener;
use super::{Store, StoreError};

/// Channel on which the trigger on `heartbeat_runs` tells the ids of runs that have ended or were deleted.
const RUN_END_CHANNEL: &str = "environment_operator_run_end";

/// An ear for the ends of runs.
#[derive(Debug)]
pub struct RunEnds(PgListener);

/// Begins to listen, on a connection that is never in a transaction. What ended before has to be looked at afterwards.
///
/// # Errors
/// When the database cannot be reached.
pub async fn listen(store: &Store) -> Result<RunEnds, StoreError> {
    // A pool of its own: the ear keeps its connection, and would keep the writers from one of theirs.
    let mut listener = open_listener(store.pool.address()).await.map_err(sqlx::Error::from)?;
    listener.listen(RUN_END_CHANNEL).await?;
    Ok(RunEnds(listener))
}

/// Of these runs, those that are over, with their status, and those that are gone, without one: what is asked where no
/// trigger may tell. Each is found by its primary key.
///
/// # Errors
/// When the database cannot be asked.
pub async fn not_live(store: &Store, runs: &[Uuid]) -> Result<Vec<(Uuid, Option<String>)>, StoreError> {
    let over = sqlx::query_as(
        "SELECT asked.id, r.status
         FROM unnest($1::uuid[]) AS asked(id)
         LEFT JOIN public.heartbeat_runs AS r ON r.id = asked.id
         WHERE coalesce(r.status, 'gone') NOT IN ('queued', 'scheduled_retry', 'running')",
    )
    .bind(runs)
    .fetch_all(&store.pool)
    .await?;
    Ok(over)
}

/// How full the server's queue of notifications is, 0 to 1: at 1 the origin's own statements fail, and a session that listens
/// and does not read keeps it from being emptied.
///
/// # Errors
/// When the database cannot be asked.
pub async fn notification_queue_usage(store: &Store) -> Result<f64, StoreError> {
    let usage = sqlx::query_scalar("SELECT pg_notification_queue_usage()")
        .fetch_one(&store.pool)
        .await?;
    Ok(usage)
}

impl RunEnds {
    /// The next run that has ended or was deleted.
    ///
    /// # Errors
    /// When the connection is lost: listen anew, and look at all live runs after that.
    pub async fn next(&mut self) -> Result<Uuid, StoreError> {
        loop {
            let Some(notification) = self.0.try_recv().await? else {
                return Err(sqlx::Error::WorkerCrashed.into()); // the connection was lost: of category Unavailable
            };
            // Anybody may notify on a channel; what is no id is not for us.
            if let Ok(run) = notification.payload().parse() {
                return Ok(run);
            }
        }
    }
}
