//! Rows of leases that ended long ago and whose objects are gone: removed, where a retention is set.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::session::Session;
use super::{Leader, Store, StoreError};

/// How many leases one transaction removes at most: it takes some twenty milliseconds then.
const BATCH: i64 = 1_000;

/// What one transaction has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromRow)]
pub struct Removed {
    /// Whether the asking leader leads.
    led: bool,
    /// Rows of `environment_leases`.
    pub leases: i64,
    /// Rows of `environment_operator.lease_object`: more than leases, where another writer has removed those already.
    pub records: i64,
    /// The database's clock, in seconds since 1970.
    pub now: f64,
}

impl Removed {
    /// Counts what another transaction has removed as well.
    pub fn add(&mut self, other: Self) {
        self.led = other.led;
        self.leases += other.leases;
        self.records += other.records;
        self.now = other.now;
    }
}

/// The leases that one transaction would try to remove, the longest ended first, without those of `but`.
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn candidates(store: &Store, leader: &Leader, kept: Duration, but: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let candidates = sqlx::query_scalar(
        "SELECT o.id FROM environment_operator.lease_object AS o
         WHERE o.cluster = $1 AND o.installation = $2 AND o.deleted_at IS NOT NULL
           AND o.ended_at < now() - make_interval(secs => $3) AND o.ended_status <> 'retained'
           AND NOT o.id = ANY ($4)
           AND NOT EXISTS (
             SELECT FROM public.environment_leases AS l
             WHERE l.id = o.id AND l.status NOT IN ('released', 'expired', 'failed')
           )
         ORDER BY o.ended_at LIMIT $5",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(kept.as_secs_f64())
    .bind(but)
    .bind(BATCH)
    .fetch_all(&store.pool)
    .await?;
    Ok(candidates)
}

/// Removes a batch of leases of this installation's objects that ended longer ago than `kept` and whose objects are gone; the
/// longest ended first, none that another transaction holds. Rows that never had an object are nobody's to remove, and are
/// not among those that are looked through. What the activity log tells stays.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn remove_ended(store: &Store, leader: &Leader, kept: Duration) -> Result<Removed, StoreError> {
    let ids = candidates(store, leader, kept, &[]).await?;
    remove_ended_of(&mut store.pool.session().await?, leader, kept, &ids).await
}

/// As [`remove_ended`], of these leases alone.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn remove_ended_of(
    connection: &mut Session,
    leader: &Leader,
    kept: Duration,
    ids: &[Uuid],
) -> Result<Removed, StoreError> {
    // `now()`, for a volatile clock could not bound the search in the index.
    let removed: Removed = sqlx::query_as(
        "WITH leader AS MATERIALIZED (
           SELECT epoch FROM environment_operator.lead
           WHERE cluster = $1 AND installation = $2 AND epoch = $3
           FOR KEY SHARE
         ),
         own AS MATERIALIZED (
           SELECT o.id FROM leader CROSS JOIN environment_operator.lease_object AS o
           WHERE o.id = ANY ($5) AND o.cluster = $1 AND o.installation = $2 AND o.deleted_at IS NOT NULL
             AND o.ended_at < now() - make_interval(secs => $4) AND o.ended_status <> 'retained'
             AND NOT EXISTS (
               SELECT FROM public.environment_leases AS l
               WHERE l.id = o.id AND l.status NOT IN ('released', 'expired', 'failed')
             )
           ORDER BY o.id FOR UPDATE OF o SKIP LOCKED
         ),
         ended AS MATERIALIZED (
           SELECT l.id FROM public.environment_leases AS l
           WHERE l.id = ANY (ARRAY (SELECT id FROM own))
           ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
         ),
         leases AS (
           DELETE FROM public.environment_leases AS l
           WHERE l.id = ANY (ARRAY (SELECT id FROM ended)) AND l.status IN ('released', 'expired', 'failed')
           RETURNING l.id
         ),
         records AS (
           DELETE FROM environment_operator.lease_object AS o
           WHERE o.id = ANY (ARRAY (SELECT id FROM own)) AND (
             o.id = ANY (ARRAY (SELECT id FROM leases))
             OR NOT EXISTS (SELECT FROM public.environment_leases AS l WHERE l.id = o.id)
           )
           RETURNING o.id
         )
         SELECT EXISTS (SELECT FROM leader) AS led, (SELECT count(*) FROM leases) AS leases,
           (SELECT count(*) FROM records) AS records, extract(epoch FROM now())::float8 AS now",
    )
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(leader.epoch)
    .bind(kept.as_secs_f64())
    .bind(ids)
    .fetch_one(connection)
    .await?;
    if removed.led {
        Ok(removed)
    } else {
        Err(StoreError::Deposed)
    }
}
