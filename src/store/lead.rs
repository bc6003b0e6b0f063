//! `environment_operator.lead`: which replica may write, by the database's own clock.
//!
//! Each writing transaction locks its leader's row `FOR KEY SHARE`. A takeover changes the epoch, which is part of a unique
//! key, so it waits for the batches in flight; a renewal does not change the key and waits for nothing. Therefore each batch
//! of a term commits before the takeover to the next one commits, or changes nothing.

use super::session::Session;
use super::term::term;
pub use super::term::{TERM_SECONDS, Term, running};
use super::{Store, StoreError, cluster, fencing_token, installation};

/// Proof of leadership: what a batch shows inside its own transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Id of the cluster.
    pub cluster: String,
    /// Name of the installation within the cluster.
    pub installation: String,
    /// Number of the term; rises with each takeover, and no two replicas ever have the same.
    pub epoch: i64,
    /// Incarnation of the cluster: raised by hand after its etcd was restored.
    pub incarnation: i64,
}

/// Makes the key of a takeover's advisory lock out of a cluster's name.
const TAKEOVER: i64 = i64::from_be_bytes(*b"takeover");

/// Tries to become leader: `Some` if nobody leads or the term of the one who did has passed. One transaction: a takeover of which
/// a part fails has not begun.
///
/// The epoch is the present in microseconds since 1970, and above the last one: so the epochs of two replicas differ even where
/// one of them began its term in a state of the database that a fail-over has lost.
///
/// # Errors
/// When the database cannot be asked, or (`Conflict`) batches of the former leader or another takeover are still in flight. `Unfit` for a cluster that
/// is not known, and while another installation lives that looks after some of the same namespaces.
pub async fn acquire(
    store: &Store,
    cluster: &str,
    installation: &str,
    holder: &str,
) -> Result<Option<Leader>, StoreError> {
    let mut transaction = store.pool.begin().await?;
    let incarnation = cluster::incarnation(&mut transaction, cluster).await?;
    let incarnation = incarnation.ok_or_else(|| cluster::unknown(cluster))?;
    if term(&mut transaction, cluster, installation).await?.is_some() {
        return Ok(None);
    }
    exclude_others(&mut transaction, cluster).await?;
    installation::stand_alone(&mut transaction, cluster, installation).await?;
    let epoch = match begin(&mut transaction, cluster, installation, holder).await? {
        Some(epoch) => epoch,
        None => return Ok(None),
    };
    fencing_token::raise(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Some(Leader {
        cluster: cluster.to_owned(),
        installation: installation.to_owned(),
        epoch,
        incarnation,
    }))
}

/// Lets one takeover of a cluster run at a time, until it is committed: else two installations that share namespaces would each
/// find the other one's term past, and both begin one of their own. Waits at most for the session's `lock_timeout`.
async fn exclude_others(connection: &mut Session, cluster: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))")
        .bind(cluster)
        .bind(TAKEOVER)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the row of a new term.
async fn begin(
    connection: &mut Session,
    cluster: &str,
    installation: &str,
    holder: &str,
) -> Result<Option<i64>, StoreError> {
    let first: Option<i64> = sqlx::query_scalar(
        "INSERT INTO environment_operator.lead (cluster, installation, epoch, holder, expires_at)
         VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::int8, $3,
           clock_timestamp() + make_interval(secs => $4))
         ON CONFLICT DO NOTHING
         RETURNING epoch",
    )
    .bind(cluster)
    .bind(installation)
    .bind(holder)
    .bind(f64::from(TERM_SECONDS))
    .fetch_optional(&mut *connection)
    .await?;
    if first.is_some() {
        return Ok(first);
    }
    // Waits for batches in flight, at most for the session's lock_timeout; the expiry is judged again after the wait.
    let next = sqlx::query_scalar(
        "UPDATE environment_operator.lead
         SET epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::int8), holder = $3,
           expires_at = clock_timestamp() + make_interval(secs => $4)
         WHERE cluster = $1 AND installation = $2 AND expires_at <= clock_timestamp()
         RETURNING epoch",
    )
    .bind(cluster)
    .bind(installation)
    .bind(holder)
    .bind(f64::from(TERM_SECONDS))
    .fetch_optional(connection)
    .await?;
    Ok(next)
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
/// The epoch alone is compared, and not the holder as well: [`acquire`] gives an epoch to one replica in its life, for it is the
/// present in microseconds, above every epoch of the row, and written under the row's lock. So a row with this epoch has this
/// holder; and every statement that proves the leadership within itself would have to carry the name along, for nothing.
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
