//! Operations on leases as the Paperclip server's service offers them: by environment, by run, by id.

use std::collections::HashMap;

use sqlx::types::Json;
use uuid::Uuid;

use super::{End, EndOutcome, LeaseRow};
use crate::api::FreeObject;
use crate::lifecycle::{Ending, LeaseState};
use crate::store::unreadable::Row;
use crate::store::{Leader, Request, Store, StoreError, column};

/// An environment's leases, of one status or of any, the last used first.
///
/// # Errors
/// Any category but `Deposed`.
pub async fn list(
    store: &Store,
    company_id: Uuid,
    environment_id: Uuid,
    status: Option<LeaseState>,
) -> Result<Vec<LeaseRow>, StoreError> {
    let rows: Vec<Json<Row<LeaseRow>>> = sqlx::query_scalar(
        "SELECT to_jsonb(l) FROM public.environment_leases AS l
         WHERE l.company_id = $1 AND l.environment_id = $2 AND ($3::text IS NULL OR l.status = $3)
         ORDER BY l.last_used_at DESC, l.id",
    )
    .bind(company_id)
    .bind(environment_id)
    .bind(status.map(|status| status.into_str()))
    .fetch_all(&store.pool)
    .await?;
    // One that holds a value outside its closed set is named in the log and left out.
    rows.into_iter()
        .filter_map(|Json(row)| store.unreadable.pass_over(row).transpose())
        .collect()
}

/// Ends the active leases of runs, each run's in its own way, and returns exactly those that were ended by it.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn end_for_runs(
    store: &Store,
    leader: &Leader,
    endings: &HashMap<Uuid, Ending>,
) -> Result<Vec<LeaseRow>, StoreError> {
    let active: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT id, heartbeat_run_id FROM public.environment_leases
         WHERE heartbeat_run_id = ANY ($1) AND status = 'active'",
    )
    .bind(endings.keys().copied().collect::<Vec<Uuid>>())
    .fetch_all(&store.pool)
    .await?;
    let ends: Vec<End> = active
        .into_iter()
        .filter_map(|(id, run)| {
            let ending = endings.get(&run)?.clone();
            Some(End {
                id,
                leaves: LeaseState::Active,
                ending,
                only_if_expired: false,
                run_ended_at: None,
            })
        })
        .collect();
    let ended = End::carry_out(store, leader, &ends)
        .await?
        .into_iter()
        .filter_map(|outcome| match outcome {
            EndOutcome::Ended(row) => Some(*row),
            EndOutcome::AlreadyEnded(_)
            | EndOutcome::NotYetExpired(_)
            | EndOutcome::Moved(_)
            | EndOutcome::Busy
            | EndOutcome::RowMissing => None,
        });
    Ok(ended.collect())
}

/// Replaces the metadata of leases, which counts as a use of them, and returns the changed rows.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn update_metadata(
    store: &Store,
    leader: &Leader,
    updates: &[(Uuid, FreeObject)],
) -> Result<Vec<LeaseRow>, StoreError> {
    let rows: Vec<Option<Json<LeaseRow>>> = sqlx::query_scalar(
        "WITH leader AS MATERIALIZED (
           SELECT epoch FROM environment_operator.lead
           WHERE cluster = $1 AND installation = $2 AND epoch = $3
           FOR KEY SHARE
         ),
         updated AS (
           UPDATE public.environment_leases AS l
           SET metadata = t.metadata, last_used_at = moment.now, updated_at = moment.now
           FROM leader
           CROSS JOIN (SELECT date_trunc('milliseconds', clock_timestamp()) AS now) AS moment
           CROSS JOIN unnest($4::uuid[], $5::jsonb[]) AS t(id, metadata)
           WHERE l.id = t.id
           RETURNING l.*
         )
         SELECT NULL::jsonb FROM leader
         UNION ALL
         SELECT to_jsonb(updated) FROM updated",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(leader.epoch)
    .bind(column(updates, |(id, _)| *id))
    .bind(column(updates, |(_, metadata)| Json(metadata)))
    .fetch_all(&store.pool)
    .await?;
    if rows.is_empty() {
        return Err(StoreError::Deposed);
    }
    Ok(rows.into_iter().flatten().map(|Json(row)| row).collect())
}
