//! Reads of environments as the Paperclip server's service offers them.

use sqlx::types::Json;
use uuid::Uuid;

use super::EnvironmentRow;
use crate::lifecycle::EnvironmentState;
use crate::store::unreadable::Row;
use crate::store::{Store, StoreError};

/// A company's environments, of one status or of any, the oldest first.
///
/// # Errors
/// Any category but `Deposed`.
pub async fn list(
    store: &Store,
    company_id: Uuid,
    status: Option<EnvironmentState>,
) -> Result<Vec<EnvironmentRow>, StoreError> {
    let rows: Vec<Json<Row<EnvironmentRow>>> = sqlx::query_scalar(
        "SELECT to_jsonb(e) FROM public.environments AS e
         WHERE e.company_id = $1 AND ($2::text IS NULL OR e.status = $2)
         ORDER BY e.created_at, e.id",
    )
    .bind(company_id)
    .bind(status.map(|status| status.into_str()))
    .fetch_all(&store.pool)
    .await?;
    readable(store, rows)
}

/// The environments with these ids that are the company's, in no particular order; all others are left out alike.
///
/// # Errors
/// Any category but `Deposed`.
pub async fn read(store: &Store, company_id: Uuid, ids: &[Uuid]) -> Result<Vec<EnvironmentRow>, StoreError> {
    let rows: Vec<Json<Row<EnvironmentRow>>> = sqlx::query_scalar(
        "SELECT to_jsonb(e) FROM public.environments AS e WHERE e.company_id = $1 AND e.id = ANY ($2)",
    )
    .bind(company_id)
    .bind(ids)
    .fetch_all(&store.pool)
    .await?;
    readable(store, rows)
}

/// One that holds a value outside its closed set is named in the log and left out.
fn readable(store: &Store, rows: Vec<Json<Row<EnvironmentRow>>>) -> Result<Vec<EnvironmentRow>, StoreError> {
    rows.into_iter()
        .filter_map(|Json(row)| store.unreadable.pass_over(row).transpose())
        .collect()
}
