//! `heartbeat_runs`: the Paperclip server's runs. The operator never makes one; it is notified when one ends.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::connection::open_listener;
use super::{Store, StoreError};
use crate::random;

/// Channel on which the trigger on `heartbeat_runs` tells the ids of runs that have ended or were deleted.
const RUN_END_CHANNEL: &str = "environment_operator_run_end";

/// Time between two notifications that a listener sends to itself.
const BEAT: Duration = Duration::from_secs(5);

/// Longest wait for the server's answer, and for a notification of one's own.
const ECHO_LIMIT: Duration = Duration::from_secs(5);

/// A listener for the ends of runs. It sends notifications to itself: on a way that has fallen silent it would otherwise wait
/// for ever, and nothing would tell.
#[derive(Debug)]
pub struct RunEnds {
    listener: PgListener,
    /// Channel of this listener alone.
    own_channel: String,
    /// When it heard its own notification last.
    heard: Instant,
    /// When it sent one that it has not heard yet.
    sent: Option<Instant>,
}

/// What a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This run has ended or was deleted.
    RunEnd(Uuid),
    /// Itself: the way is open.
    Itself,
}

/// Begins to listen, on a connection that is never in a transaction. What ended before has to be looked at afterwards.
///
/// # Errors
/// When the database cannot be reached.
pub async fn listen(store: &Store) -> Result<RunEnds, StoreError> {
    // A connection of its own: the listener keeps it, and would keep the writers from one of theirs.
    let mut listener = open_listener(store.pool.address()).await.map_err(sqlx::Error::from)?;
    let own_channel = format!("environment_operator_listener_{}", random::unique().simple());
    let listening = listener.listen_all([RUN_END_CHANNEL, own_channel.as_str()]);
    timeout(ECHO_LIMIT, listening).await.map_err(|_| silent())??;
    Ok(RunEnds {
        listener,
        own_channel,
        heard: Instant::now(),
        sent: None,
    })
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

/// How full the server's queue of notifications is, 0 to 1: at 1 the Paperclip server's own statements fail, and a session that listens
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
    /// The next run that has ended or was deleted, or a sign of life every few seconds.
    ///
    /// # Errors
    /// When the connection is lost or has fallen silent: listen anew, and look at all live runs after that.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        loop {
            let until = self.sent.map_or(self.heard + BEAT, |sent| sent + ECHO_LIMIT);
            match timeout_at(until, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) if notification.channel() == self.own_channel => {
                    (self.heard, self.sent) = (Instant::now(), None);
                    return Ok(Heard::Itself);
                }
                Ok(Ok(Some(notification))) => {
                    // Anybody may notify on a channel; what is no id is not for us.
                    if let Ok(run) = notification.payload().parse() {
                        return Ok(Heard::RunEnd(run));
                    }
                }
                Ok(Ok(None)) => return Err(sqlx::Error::WorkerCrashed.into()), // lost: of category Unavailable
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.sent.is_some() => return Err(silent().into()),
                Err(_) => self.notify_itself().await?,
            }
        }
    }

    async fn notify_itself(&mut self) -> Result<(), StoreError> {
        let sent = Instant::now();
        let notify = sqlx::query("SELECT pg_notify($1, '')")
            .bind(&self.own_channel)
            .execute(&mut self.listener);
        timeout(ECHO_LIMIT, notify).await.map_err(|_| silent())??;
        self.sent = Some(sent);
        Ok(())
    }
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "the listener does not hear itself",
    ))
}
