//! Objects that are remembered and that a complete list does not hold (I5).
//!
//! Only what is of the list's own cluster, installation, incarnation and namespace counts, and only what is not newer than it.

use uuid::Uuid;

use super::{Leader, Store, StoreError};
use crate::lifecycle::ResourceVersion;

/// Selects from one of the two tables of objects; versions compare as the numbers that they are.
macro_rules! missing_from {
    ($table:literal) => {
        concat!(
            "SELECT o.id FROM environment_operator.",
            $table,
            " AS o
         LEFT JOIN unnest($6::uuid[]) AS known(id) ON known.id = o.id
         WHERE o.cluster = $1 AND o.installation = $2 AND o.incarnation = $3 AND ($4::text IS NULL OR o.namespace = $4)
           AND o.deleted_at IS NULL AND known.id IS NULL
           AND (length(o.rv), o.rv COLLATE \"C\") <= (length($5), $5 COLLATE \"C\")"
        )
    };
}

/// Environments that are remembered as existing and are not among `known`, in one namespace or in all.
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn missing_environments(
    store: &Store,
    leader: &Leader,
    list: &List<'_>,
    known: &[Uuid],
) -> Result<Vec<Uuid>, StoreError> {
    missing(store, leader, list, known, missing_from!("environment_object")).await
}

/// Leases that are remembered as existing and are not among `known`, in one namespace or in all.
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn missing_leases(
    store: &Store,
    leader: &Leader,
    list: &List<'_>,
    known: &[Uuid],
) -> Result<Vec<Uuid>, StoreError> {
    missing(store, leader, list, known, missing_from!("lease_object")).await
}

/// A complete list of objects.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The namespace that was listed; none: all.
    pub namespace: Option<&'a str>,
    /// The version that all its pages had.
    pub version: &'a ResourceVersion,
}

async fn missing(
    store: &Store,
    leader: &Leader,
    list: &List<'_>,
    known: &[Uuid],
    statement: &'static str,
) -> Result<Vec<Uuid>, StoreError> {
    let missing = sqlx::query_scalar(statement)
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(leader.incarnation)
        .bind(list.namespace)
        .bind(list.version.as_str())
        .bind(known)
        .fetch_all(&store.pool)
        .await?;
    Ok(missing)
}
