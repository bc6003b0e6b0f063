//! `environment_operator.cluster`: which clusters this database knows, and in which incarnation each is.
//!
//! A cluster is known once its first leader was let in, and a backup takes that along. A database that does not know a cluster
//! whose leases are held is most likely another one than was meant: to lead from it would end them all, for it has no row of
//! any. So the row here is made by [`admit`] and [`accept`] alone, and nobody leads without it.

use uuid::Uuid;

use super::session::Session;
use super::{Store, StoreError};

/// Makes the cluster known, unless objects show leases that are held (`held`, the uids of all such objects) and this database has
/// a row of none.
///
/// # Errors
/// `Unfit` in that case; nothing is recorded then.
pub async fn admit(store: &Store, cluster: &str, held: &[Uuid]) -> Result<(), StoreError> {
    let known: bool = sqlx::query_scalar(
        "WITH proof AS MATERIALIZED (
           SELECT cardinality($2::uuid[]) = 0
             OR EXISTS (SELECT FROM public.environment_leases WHERE id = ANY ($2))
             OR EXISTS (SELECT FROM environment_operator.lease_object WHERE id = ANY ($2)) AS proven
         ),
         known AS MATERIALIZED (SELECT FROM environment_operator.cluster WHERE cluster = $1),
         made AS (
           INSERT INTO environment_operator.cluster (cluster)
           SELECT $1 FROM proof WHERE proven AND NOT EXISTS (SELECT FROM known)
           ON CONFLICT DO NOTHING
         )
         SELECT proven OR EXISTS (SELECT FROM known) FROM proof",
    )
    .bind(cluster)
    .bind(held)
    .fetch_one(&store.pool)
    .await?;
    if known {
        return Ok(());
    }
    Err(StoreError::Unfit(format!(
        "this database ({}) has never known cluster {cluster:?}, where {} leases are held: mend DATABASE_URL or --cluster-id, or, \
         if it is meant and these leases are to end, run `environment-operator accept-database`",
        store.id(),
        held.len()
    )))
}

/// Refuses a database that does not know the cluster, for whoever reads it for that cluster: an empty answer would be none.
///
/// # Errors
/// `Unfit` for a cluster that is not known.
pub async fn require(store: &Store, cluster: &str) -> Result<(), StoreError> {
    if is_known(store, cluster).await? {
        return Ok(());
    }
    Err(unknown(cluster))
}

/// Whether the cluster is known.
///
/// # Errors
/// When the database cannot be asked.
pub async fn is_known(store: &Store, cluster: &str) -> Result<bool, StoreError> {
    let mut connection = store.pool.session().await?;
    Ok(incarnation(&mut connection, cluster).await?.is_some())
}

/// Makes the cluster known because a person says so. Whether that is news.
///
/// # Errors
/// When the database cannot be asked.
pub async fn accept(store: &Store, cluster: &str) -> Result<bool, StoreError> {
    let made = sqlx::query("INSERT INTO environment_operator.cluster (cluster) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(cluster)
        .execute(&store.pool)
        .await?;
    Ok(made.rows_affected() == 1)
}

/// The incarnation of a cluster that is known.
pub(crate) async fn incarnation(connection: &mut Session, cluster: &str) -> Result<Option<i64>, StoreError> {
    let incarnation = sqlx::query_scalar("SELECT incarnation FROM environment_operator.cluster WHERE cluster = $1")
        .bind(cluster)
        .fetch_optional(connection)
        .await?;
    Ok(incarnation)
}

/// Says that nothing may be done for a cluster that is not known.
pub(crate) fn unknown(cluster: &str) -> StoreError {
    StoreError::Unfit(format!(
        "this database does not know cluster {cluster:?}: mend DATABASE_URL or --cluster-id, or let the operator lead from it first"
    ))
}

/// Begins a new incarnation after an etcd restore: from now on every version of an object is newer than all before.
///
/// The next leader reads it; the present one has to be restarted.
///
/// # Errors
/// `Unfit` for a cluster that is not known.
pub async fn raise_incarnation(store: &Store, cluster: &str) -> Result<i64, StoreError> {
    let incarnation: Option<i64> = sqlx::query_scalar(
        "UPDATE environment_operator.cluster SET incarnation = incarnation + 1 WHERE cluster = $1 RETURNING incarnation",
    )
    .bind(cluster)
    .fetch_optional(&store.pool)
    .await?;
    incarnation.ok_or_else(|| unknown(cluster))
}
