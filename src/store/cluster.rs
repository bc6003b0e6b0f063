//! `environment_operator.cluster`: in which incarnation a cluster is.

use super::{Store, StoreError};

/// Makes the cluster known, if it is new.
pub(crate) async fn ensure(store: &Store, cluster: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO environment_operator.cluster (cluster) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(cluster)
        .execute(&store.pool)
        .await?;
    Ok(())
}

/// Begins a new incarnation after an etcd restore: from now on every version of an object is newer than all before.
///
/// The next leader reads it; the present one has to be restarted.
///
/// # Errors
/// When the database cannot be asked.
pub async fn raise_incarnation(store: &Store, cluster: &str) -> Result<i64, StoreError> {
    let incarnation = sqlx::query_scalar(
        "INSERT INTO environment_operator.cluster AS c (cluster, incarnation) VALUES ($1, 2)
         ON CONFLICT (cluster) DO UPDATE SET incarnation = c.incarnation + 1
         RETURNING incarnation",
    )
    .bind(cluster)
    .fetch_one(&store.pool)
    .await?;
    Ok(incarnation)
}
