//! A held lease follows the newer spec of its object, as far as a spec may change.

use std::collections::HashMap;

use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::LeaseRow;
use crate::api::FreeObject;
use crate::store::columns::json_rows;
use crate::store::{Access, Leader, ObjectVersion, Request, Store, StoreError, validation};

/// A newer version of a granted lease's object.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSync {
    /// uid of the object.
    pub id: Uuid,
    pub version: ObjectVersion,
    /// Seconds from the grant to `expires_at`.
    pub ttl_seconds: i32,
    /// `spec.metadata`: its keys are set, keys that the spec had before and has no more are removed, all others stay. `None`:
    /// it cannot be stored, and what was written before stays.
    pub metadata: Option<FreeObject>,
    pub ttl_seconds_after_finished: i32,
}

/// What became of a [`LeaseSync`].
#[derive(Clone, Debug, PartialEq)]
pub enum SyncOutcome {
    /// The row was changed.
    Updated(Box<LeaseRow>),
    /// Nothing of the row had to be changed.
    AlreadySo,
    /// A newer version was written before.
    Older,
    /// The row has ended, or is gone, or never was: look again.
    NotHeld,
    /// Another transaction holds the row: retry alone.
    Busy,
}

/// Writes what may change of a held lease. The outcomes stand in the order of `syncs`.
impl Request for LeaseSync {
    type Outcome = SyncOutcome;

    const NAME: &'static str = "sync_lease";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Result<(), StoreError> {
        let metadata = self.metadata.as_ref();
        metadata.map_or(Ok(()), |metadata| validation::object("spec.metadata", metadata))
    }

    async fn carry_out(store: &Store, leader: &Leader, syncs: &[Self]) -> Result<Vec<SyncOutcome>, StoreError> {
        let rows = json_rows!(SYNC, syncs, |sync| {
            id: sync.id,
            namespace: sync.version.namespace,
            name: sync.version.name,
            rv: sync.version.resource_version.as_str(),
            generation: sync.version.generation,
            ttl_seconds: sync.ttl_seconds,
            metadata: sync.metadata,
            ttl_seconds_after_finished: sync.ttl_seconds_after_finished,
        });
        let rows: Vec<Tagged> = sqlx::query_as(SYNC)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch)
            .bind(leader.incarnation)
            .bind(rows)
            .fetch_all(&store.pool)
            .await?;
        if !rows.iter().any(|row| row.what == "leader") {
            return Err(StoreError::Deposed);
        }
        let mut outcomes = HashMap::new();
        for row in rows {
            if let Some(id) = row.id {
                let outcome = match (row.what.as_str(), row.lease) {
                    ("updated", Some(Json(lease))) => SyncOutcome::Updated(Box::new(lease)),
                    ("same", _) => SyncOutcome::AlreadySo,
                    ("older", _) => SyncOutcome::Older,
                    ("not_held", _) => SyncOutcome::NotHeld,
                    (what, _) => return Err(StoreError::Bug(format!("a sync came back as {what:?}"))),
                };
                outcomes.insert(id, outcome);
            }
        }
        // An id that does not come back has its row locked by another transaction.
        Ok(syncs
            .iter()
            .map(|sync| outcomes.remove(&sync.id).unwrap_or(SyncOutcome::Busy))
            .collect())
    }
}

#[derive(FromRow)]
struct Tagged {
    id: Option<Uuid>,
    what: String,
    lease: Option<Json<LeaseRow>>,
}

/// Only a newer generation (or the first look in a new incarnation) can bring a change: a mere newer resourceVersion, such as
/// that of the operator's own status write, is no reason to write. `driver` is the operator's key and never the spec's.
/// Leadership is locked only where something is to be written, for the lock itself is a write.
///
/// What is written is computed from what `own` and `held` return, the rows as they were locked: the table itself would show them
/// as they were when the statement began, without what another writer has committed since.
const SYNC: &str = r#"
WITH asked AS MATERIALIZED (
  SELECT t.*, CASE
    WHEN object.id IS NULL OR object.deleted_at IS NOT NULL OR lease.id IS NULL
      OR lease.status NOT IN ('active', 'retained') THEN 'not_held'
    WHEN object.incarnation > $4 OR (object.incarnation = $4
      AND (length(t.rv), t.rv COLLATE "C") < (length(object.rv), object.rv)) THEN 'older'
    WHEN object.incarnation = $4 AND object.generation = t.generation THEN 'same'
  END AS answer
  FROM json_to_recordset($5::json) AS t(
    id uuid, namespace text, name text, rv text, generation int8, ttl_seconds int4, metadata jsonb,
    ttl_seconds_after_finished int4
  )
  LEFT JOIN environment_operator.lease_object AS object ON object.id = t.id
  LEFT JOIN public.environment_leases AS lease ON lease.id = t.id
),
leader AS MATERIALIZED (
  SELECT epoch FROM environment_operator.lead
  WHERE cluster = $1 AND installation = $2 AND epoch = $3 AND EXISTS (SELECT FROM asked WHERE answer IS NULL)
  FOR KEY SHARE
),
own AS MATERIALIZED (
  SELECT o.id, o.metadata_keys FROM leader CROSS JOIN environment_operator.lease_object AS o
  WHERE o.id = ANY (ARRAY (SELECT id FROM asked WHERE answer IS NULL))
  ORDER BY o.id FOR NO KEY UPDATE OF o
),
held AS MATERIALIZED (
  SELECT l.id, l.acquired_at, l.metadata FROM (SELECT count(*) FROM own) AS after_own, public.environment_leases AS l
  WHERE l.id = ANY (ARRAY (SELECT id FROM own)) AND l.status IN ('active', 'retained')
  ORDER BY l.id FOR NO KEY UPDATE OF l SKIP LOCKED
),
remembered AS (
  UPDATE environment_operator.lease_object AS o
  SET rv = asked.rv, generation = asked.generation, epoch = $3, incarnation = $4,
    namespace = asked.namespace, name = asked.name, ttl_seconds_after_finished = asked.ttl_seconds_after_finished,
    metadata_keys = CASE WHEN asked.metadata IS NULL THEN o.metadata_keys
      ELSE ARRAY (SELECT jsonb_object_keys(asked.metadata)) END
  FROM asked
  WHERE o.id = asked.id AND asked.id = ANY (ARRAY (SELECT id FROM held)) AND o.deleted_at IS NULL
    AND (o.incarnation < $4 OR (o.incarnation = $4
      AND (length(asked.rv), asked.rv COLLATE "C") >= (length(o.rv), o.rv)))
  RETURNING o.id
),
wanted AS MATERIALIZED (
  SELECT held.id, held.acquired_at + make_interval(secs => asked.ttl_seconds) AS expires_at,
    CASE WHEN asked.metadata IS NULL THEN held.metadata
      ELSE CASE WHEN jsonb_typeof(held.metadata) = 'object' THEN held.metadata ELSE '{}' END
        - array_remove(own.metadata_keys, 'driver') || (asked.metadata - 'driver') END AS metadata
  FROM asked JOIN own USING (id) JOIN held USING (id)
  WHERE held.id = ANY (ARRAY (SELECT id FROM remembered))
),
updated AS (
  UPDATE public.environment_leases AS l
  SET expires_at = wanted.expires_at, metadata = wanted.metadata,
    updated_at = date_trunc('milliseconds', clock_timestamp())
  FROM wanted
  WHERE l.id = wanted.id AND l.status IN ('active', 'retained')
    AND (l.expires_at, l.metadata) IS DISTINCT FROM (wanted.expires_at, wanted.metadata)
  RETURNING l.*
)
SELECT NULL::uuid AS id, 'leader' AS what, NULL::jsonb AS lease FROM leader
UNION ALL
SELECT NULL, 'leader', NULL FROM environment_operator.lead
WHERE cluster = $1 AND installation = $2 AND epoch = $3 AND NOT EXISTS (SELECT FROM asked WHERE answer IS NULL)
UNION ALL
SELECT id, answer, NULL FROM asked WHERE answer IS NOT NULL
UNION ALL
SELECT id, 'same', NULL FROM remembered WHERE NOT id = ANY (ARRAY (SELECT id FROM updated))
UNION ALL
SELECT id, 'updated', to_jsonb(updated) FROM updated
"#;
