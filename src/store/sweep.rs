//! What is due by run rows, deadlines and other writers' doing, selected by SQL alone: for the sweep and the leak gauge.

use sqlx::FromRow;
use uuid::Uuid;

use super::{Leader, Store, StoreError};

/// Selects the leases of this installation's objects (`$1` cluster, `$2` installation) in the namespaces `$3` (none: in all)
/// that have to be looked at: held ones whose run is over or gone or whose time has passed, those that another writer has
/// ended, retained or deleted unrecorded, those whose cleanup is over unrecorded, and ended or retained ones that another
/// writer has set back.
///
/// `OFFSET 0` has each held row look up its object: a join would read all objects that ever were.
pub const CANDIDATES: &str = "
SELECT o.id
FROM environment_operator.lease_object AS o
LEFT JOIN public.environment_leases AS l ON l.id = o.id
LEFT JOIN public.heartbeat_runs AS r ON r.id = o.run_id
WHERE o.cluster = $1 AND o.installation = $2 AND ($3 = '{}' OR o.namespace = ANY ($3))
  AND (o.ended_status IS NULL OR o.ended_status = 'retained')
  AND (
    l.id IS NULL
    OR l.status <> coalesce(o.ended_status, 'active')
    OR l.expires_at <= clock_timestamp()
    OR (
      l.status = 'active' AND o.run_id IS NOT NULL
      AND coalesce(r.status, 'gone') NOT IN ('queued', 'scheduled_retry', 'running')
    )
  )
UNION
SELECT o.id
FROM environment_operator.lease_object AS o
LEFT JOIN public.environment_leases AS l ON l.id = o.id
WHERE o.cluster = $1 AND o.installation = $2 AND ($3 = '{}' OR o.namespace = ANY ($3))
  AND o.ended_status = 'pending_cleanup' AND l.status IS DISTINCT FROM 'pending_cleanup'
UNION
SELECT l.id
FROM public.environment_leases AS l
CROSS JOIN LATERAL (
  SELECT FROM environment_operator.lease_object AS o
  WHERE o.id = l.id AND o.ended_status <> 'retained' AND o.cluster = $1 AND o.installation = $2
    AND ($3 = '{}' OR o.namespace = ANY ($3))
  OFFSET 0
) AS ended
WHERE l.status = 'active'";

/// The leases of this installation's objects in `namespaces` (none: in all) that have to be looked at, see [`CANDIDATES`].
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn candidates(store: &Store, leader: &Leader, namespaces: &[String]) -> Result<Vec<Uuid>, StoreError> {
    let candidates = sqlx::query_scalar(CANDIDATES)
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(namespaces)
        .fetch_all(&store.pool)
        .await?;
    Ok(candidates)
}

/// Active leases whose run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Leaked {
    /// Leases of objects, whichever installation's.
    pub operator: i64,
    /// Leases that never had an object.
    pub unmanaged: i64,
}

/// Counts active leases whose run's row is terminal, or gone where the operator has recorded that there was one: by the rows
/// alone, whatever the operator believes.
pub const LEAKED: &str = r#"
SELECT count(*) FILTER (WHERE o.id IS NOT NULL) AS operator, count(*) FILTER (WHERE o.id IS NULL) AS "unmanaged"
FROM public.environment_leases AS l
LEFT JOIN environment_operator.lease_object AS o ON o.id = l.id
LEFT JOIN public.heartbeat_runs AS r ON r.id = coalesce(l.heartbeat_run_id, o.run_id)
WHERE l.status = 'active' AND coalesce(l.heartbeat_run_id, o.run_id) IS NOT NULL
  AND coalesce(r.status, 'gone') NOT IN ('queued', 'scheduled_retry', 'running')"#;

/// Counts the active ones among leases of run objects (`$1`), which no row tells of. One that has a run's row is counted by
/// [`LEAKED`].
const LEAKED_OF_RUN_OBJECTS: &str = "
SELECT count(*)
FROM public.environment_leases AS l
LEFT JOIN environment_operator.lease_object AS o ON o.id = l.id
WHERE l.id = ANY ($1) AND l.status = 'active' AND coalesce(l.heartbeat_run_id, o.run_id) IS NULL";

/// Counts what has leaked: by run rows, see [`LEAKED`], and of the leases `of_run_objects`, whose run objects are known to be
/// over or gone, those that are active.
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn leaked(store: &Store, of_run_objects: &[Uuid]) -> Result<Leaked, StoreError> {
    let mut leaked: Leaked = sqlx::query_as(LEAKED).fetch_one(&store.pool).await?;
    if !of_run_objects.is_empty() {
        let active: i64 = sqlx::query_scalar(LEAKED_OF_RUN_OBJECTS)
            .bind(of_run_objects)
            .fetch_one(&store.pool)
            .await?;
        leaked.operator += active;
    }
    Ok(leaked)
}
