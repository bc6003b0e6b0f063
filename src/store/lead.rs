//! `environment_operator.lead`: which replica may write, by the database's own clock.
//!
//! Each writing transaction locks its leader's row `FOR KEY SHARE`. A takeover changes the epoch, which is part of a unique
//! key, so it waits for the batches in flight; a renewal does not change the key and waits for nothing. Therefore each batch
//! of epoch n commits before the takeover to n + 1 commits, or changes nothing.

use super::session::Session;
use super::{Store, StoreError, cluster, fencing_token};

/// Proof of leadership: what a batch shows inside its own transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Id of the cluster.
    pub cluster: String,
    /// Name of the installation within the cluster.
    pub installation: String,
    /// Number of the term; rises with each takeover.
    pub epoch: i64,
    /// Incarnation of the cluster: raised by hand after its etcd was restored.
    pub incarnation: i64,
}

/// Seconds that a term lasts without renewal.
pub const TERM_SECONDS: u32 = 15;

/// Tries to become leader: `Some` if nobody leads or the term of the one who did has passed.
///
/// # Errors
/// When the database cannot be asked, or (`Conflict`) batches of the former leader are still in flight.
pub async fn acquire(
    store: &Store,
    cluster: &str,
    installation: &str,
    holder: &str,
) -> Result<Option<Leader>, StoreError> {
    cluster::ensure(store, cluster).await?;
    let first: Option<i64> = sqlx::query_scalar(
        "INSERT INTO environment_operator.lead (cluster, installation, epoch, holder, expires_at)
         VALUES ($1, $2, 1, $3, clock_timestamp() + make_interval(secs => $4))
         ON CONFLICT DO NOTHING
         RETURNING epoch",
    )
    .bind(cluster)
    .bind(installation)
    .bind(holder)
    .bind(f64::from(TERM_SECONDS))
    .fetch_optional(&store.pool)
    .await?;
    let epoch = match first {
        Some(epoch) => Some(epoch),
        // Waits for batches in flight, at most for the session's lock_timeout; the expiry is judged again after the wait.
        None => {
            sqlx::query_scalar(
                "UPDATE environment_operator.lead
                 SET epoch = epoch + 1, holder = $3, expires_at = clock_timestamp() + make_interval(secs => $4)
                 WHERE cluster = $1 AND installation = $2 AND expires_at <= clock_timestamp()
                 RETURNING epoch",
            )
            .bind(cluster)
            .bind(installation)
            .bind(holder)
            .bind(f64::from(TERM_SECONDS))
            .fetch_optional(&store.pool)
            .await?
        }
    };
    let Some(epoch) = epoch else { return Ok(None) };
    fencing_token::raise(store).await?;
    let incarnation = sqlx::query_scalar("SELECT incarnation FROM environment_operator.cluster WHERE cluster = $1")
        .bind(cluster)
        .fetch_one(&store.pool)
        .await?;
    Ok(Some(Leader {
        cluster: cluster.to_owned(),
        installation: installation.to_owned(),
        epoch,
        incarnation,
    }))
}

/// Prolongs the term by [`TERM_SECONDS`] from now. `false`: another one leads, or the term has passed: step down. A term that has
/// passed may be one that an older state of the database tells of; a new term begins with tokens above all that were given.
///
/// # Errors
/// When the database cannot be asked: the term goes on until it passes.
pub async fn renew(store: &Store, leader: &Leader, holder: &str) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE environment_operator.lead SET expires_at = clock_timestamp() + make_interval(secs => $5)
         WHERE cluster = $1 AND installation = $2 AND holder = $3 AND epoch = $4 AND expires_at > clock_timestamp()",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(holder)
    .bind(leader.epoch)
    .bind(f64::from(TERM_SECONDS))
    .execute(&store.pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the term at once, so that a follower need not wait for its expiry.
///
/// # Errors
/// When the database cannot be asked: the term passes by itself.
pub async fn release(store: &Store, leader: &Leader, holder: &str) -> Result<(), StoreError> {
    // No row is changed if another one leads already, and that is as good.
    sqlx::query(
        "UPDATE environment_operator.lead SET expires_at = clock_timestamp()
         WHERE cluster = $1 AND installation = $2 AND holder = $3 AND epoch = $4",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(holder)
    .bind(leader.epoch)
    .execute(&store.pool)
    .await?;
    Ok(())
}

/// Proves the leadership inside a transaction of several statements, which it keeps from being overtaken.
///
/// # Errors
/// [`StoreError::Deposed`] if another one leads.
pub(crate) async fn prove(connection: &mut Session, leader: &Leader) -> Result<(), StoreError> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "SELECT epoch FROM environment_operator.lead
         WHERE cluster = $1 AND installation = $2 AND epoch = $3
         FOR KEY SHARE",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(leader.epoch)
    .fetch_optional(connection)
    .await?;
    epoch.map(|_| ()).ok_or(StoreError::Deposed)
}
