//! Leases that never had an object: rows of a Paperclip server or made by hand, of whatever company.
//!
//! Every installation on a database may sweep them: an ending leaves a status, so the second one finds nothing to end.

use std::fmt::Display;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::FromRow;
use uuid::Uuid;

use super::environment_leases::LeaseRow;
use super::environments::EnvironmentRow;
use super::{Store, StoreError, encoding};
use crate::lifecycle::RunStatus;
use crate::lifecycle::lease_status::display_of_row;
use crate::lifecycle::unmanaged::{Facts, Run};

/// Selects held leases without an object for which a cause is visible: their run is over, gone or was never named, or their
/// time has passed. Whether it has stood for long enough is not asked here.
///
/// Each environment's held leases are found by the Paperclip server's own index (company_id, environment_id, status); `OFFSET 0` keeps
/// the planner to that, and has each of them look up its object, for there may be very many that ended long ago.
pub const CANDIDATES: &str = "
SELECT l.id
FROM public.environments AS e
CROSS JOIN LATERAL (
  SELECT l.id, l.status, l.heartbeat_run_id, l.expires_at
  FROM public.environment_leases AS l
  WHERE l.company_id = e.company_id AND l.environment_id = e.id AND l.status = ANY ('{active,retained}')
  OFFSET 0
) AS l
LEFT JOIN public.heartbeat_runs AS r ON r.id = l.heartbeat_run_id
WHERE (
    l.expires_at <= clock_timestamp()
    OR (l.status = 'active' AND coalesce(r.status, 'gone') NOT IN ('queued', 'scheduled_retry', 'running'))
  )
  AND NOT EXISTS (SELECT FROM environment_operator.lease_object AS o WHERE o.id = l.id OFFSET 0)";

/// The unmanaged leases that have to be looked at, see [`CANDIDATES`].
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn candidates(store: &Store) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar(CANDIDATES).fetch_all(&store.pool).await?)
}

/// An unmanaged lease, and what the decision has to know of it.
#[derive(Clone, Debug)]
pub struct UnmanagedLease {
    pub row: LeaseRow,
    /// What is known.
    pub facts: Facts,
}

/// One of the rows as it was found.
#[derive(FromRow)]
struct Found {
    id: Uuid,
    lease: String,
    environment: String,
    driver: String,
    run_status: Option<String>,
    over_for: Option<f64>,
    unused_for: Option<f64>,
    expired_for: Option<f64>,
}

/// How many seconds ago a moment was, in SQL: of `-infinity` for ever, of `infinity` and of null null.
macro_rules! seconds_since {
    ($moment:literal) => {
        concat!(
            "CASE WHEN isfinite(",
            $moment,
            ") THEN extract(epoch FROM clock_timestamp() - ",
            $moment,
            ")::float8 WHEN ",
            $moment,
            " < clock_timestamp() THEN 'Infinity'::float8 END"
        )
    };
}

/// Looks at unmanaged leases by their ids, without locks. One that holds a value which this version does not know is an error
/// of its own (`Data`), named in the log once, and no obstacle to the others.
///
/// # Errors
/// Any category but `Deposed`: nothing is written.
pub async fn look(store: &Store, ids: &[Uuid]) -> Result<Vec<Result<UnmanagedLease, StoreError>>, StoreError> {
    let found: Vec<Found> = sqlx::query_as(
        // As text, for there is JSON that only the database can hold; and from a moment that is not finite nothing is subtracted.
        concat!(
            "SELECT l.id, to_jsonb(l)::text AS lease, to_jsonb(e)::text AS environment, r.status AS run_status,
               coalesce(l.metadata ->> 'driver', e.driver) AS driver, ",
            seconds_since!("coalesce(r.finished_at, r.updated_at)"),
            " AS over_for, ",
            seconds_since!("l.last_used_at"),
            " AS unused_for, ",
            seconds_since!("l.expires_at"),
            " AS expired_for
         FROM public.environment_leases AS l
         JOIN public.environments AS e ON e.id = l.environment_id
         LEFT JOIN public.heartbeat_runs AS r ON r.id = l.heartbeat_run_id
         WHERE l.id = ANY ($1) AND NOT EXISTS (SELECT FROM environment_operator.lease_object AS o WHERE o.id = l.id)"
        ),
    )
    .bind(ids)
    .fetch_all(&store.pool)
    .await?;
    let judged = found.into_iter().map(|found| {
        let id = found.id;
        let read = read(found);
        match &read {
            Ok(_) => store.unreadable.is_readable(id),
            Err(error) => store.pass_over(id, error),
        }
        read
    });
    Ok(judged.collect())
}

fn read(found: Found) -> Result<UnmanagedLease, StoreError> {
    let row: LeaseRow = decode(&found.id, &found.lease)?;
    let environment: EnvironmentRow = decode(&found.id, &found.environment)?;
    let Policy { lease_policy } = decode(&found.id, &found.lease)?;
    if !encoding::is_policy(&lease_policy) {
        return Err(unreadable(&found.id, format!("{lease_policy:?} is no lease policy")));
    }
    // What its maker says that it holds: the environment's driver is only what stands there now.
    let driver = encoding::parse_driver(&found.driver)
        .ok_or_else(|| unreadable(&row.id, format!("{:?} is no driver", found.driver)))?;
    let run = match found.run_status {
        None => Run::Missing,
        Some(text) => {
            let status: Result<RunStatus, _> = text.parse();
            let status = status.map_err(|_| unreadable(&row.id, format!("{text:?} is no run status")))?;
            match status.outcome() {
                None => Run::Live,
                Some(outcome) => Run::Over(outcome, found.over_for.map_or(Duration::ZERO, duration)),
            }
        }
    };
    let facts = Facts {
        state: row.status,
        run,
        unused_for: found.unused_for.map_or(Duration::ZERO, duration),
        expired_for: found.expired_for.filter(|seconds| *seconds >= 0.0).map(duration),
        driver,
        policy: row.lease_policy,
        run_display: row.heartbeat_run_id.map(display_of_row),
        environment_display: environment.name,
    };
    Ok(UnmanagedLease { row, facts })
}

/// The policy by which an unmanaged lease ends, which is nothing to guess.
#[derive(Deserialize)]
struct Policy {
    lease_policy: String,
}

fn decode<T: DeserializeOwned>(id: &impl Display, row: &str) -> Result<T, StoreError> {
    serde_json::from_str(row).map_err(|error| unreadable(id, error))
}

fn unreadable(id: &impl Display, error: impl Display) -> StoreError {
    StoreError::Data {
        message: format!("unmanaged lease {id} cannot be judged: {error}"),
    }
}

/// What has not begun yet has lasted for no time, and what never began for ever.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
