//! The default Local: one row per company, made when first needed, untouched ever after by the making.

use jiff_sqlx::ToSqlx;
use sqlx::types::Json;
use uuid::Uuid;

use super::{EnvironmentOutcome, EnvironmentRow, EnvironmentSync};
use crate::store::environment_object::EnvironmentObjectRow;
use crate::store::local_intent::ClaimedLocal;
use crate::store::session::Session;
use crate::store::{Leader, StoreError, encoding, local, local_intent};

/// Rounds of insert and read, enough for any number of concurrent makers and deleters that was seen (6).
const ROUNDS: u32 = 50;

/// How long to wait for another transaction that makes the same Local.
const MAKERS_TIME: &str = "SET LOCAL lock_timeout = '200ms'";

/// The company's Local, made as row `id` if there is none; the flag says whether it was made.
///
/// Insert and read are separate statements, for one statement would read what was there before it began to wait. An existing
/// row comes back untouched, archived or renamed as it may be.
///
/// # Errors
/// Any category but `Deposed`.
pub async fn ensure_local(
    connection: &mut Session,
    company_id: Uuid,
    id: Uuid,
) -> Result<(EnvironmentRow, bool), StoreError> {
    for _ in 0..ROUNDS {
        let made: Option<Json<EnvironmentRow>> = sqlx::query_scalar(
            r#"WITH moment AS MATERIALIZED (SELECT date_trunc('milliseconds', clock_timestamp()) AS now)
            INSERT INTO public.environments AS e (
              id, company_id, name, description, driver, status, config, metadata, created_at, updated_at
            )
            SELECT $1, $2, 'Local', 'Default execution environment for Paperclip runs on this machine.', 'local',
              'active', '{}', '{"managedByPaperclip": true, "defaultForCompany": true}', now, now
            FROM moment
            ON CONFLICT DO NOTHING
            RETURNING to_jsonb(e)"#,
        )
        .bind(id)
        .bind(company_id)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(Json(row)) = made {
            return Ok((row, true));
        }
        let found: Option<Json<EnvironmentRow>> = sqlx::query_scalar(
            "SELECT to_jsonb(e) FROM public.environments AS e WHERE e.company_id = $1 AND e.driver = 'local'",
        )
        .bind(company_id)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(Json(row)) = found {
            return Ok((row, false));
        }
        // It was deleted between the two statements: again.
    }
    Err(StoreError::Bug(format!(
        "the Local of company {company_id} was deleted {ROUNDS} times while it was being made"
    )))
}

/// As [`sync_local`], but who makes the same company's Local meanwhile, and has not committed, is waited for a moment only: the
/// rest of the transaction must not stand still for it.
pub(super) async fn sync_local_or_busy(
    connection: &mut Session,
    leader: &Leader,
    sync: &EnvironmentSync,
) -> Result<EnvironmentOutcome, StoreError> {
    connection.run("SAVEPOINT maker").await?;
    connection.run(MAKERS_TIME).await?;
    match sync_local(connection, leader, sync).await {
        Err(StoreError::Conflict(_)) => {
            connection.run("ROLLBACK TO SAVEPOINT maker").await?;
            Ok(EnvironmentOutcome::Busy)
        }
        Ok(outcome) => {
            connection.run("RELEASE SAVEPOINT maker").await?;
            Ok(outcome)
        }
        Err(error) => Err(error),
    }
}

/// Remembers a Local object, chooses the company's canonical one, and writes what it sets if it is that and its generation is
/// new. Absence writes nothing, and `config` is never written.
async fn sync_local(
    connection: &mut Session,
    leader: &Leader,
    sync: &EnvironmentSync,
) -> Result<EnvironmentOutcome, StoreError> {
    let object: Option<Json<EnvironmentObjectRow>> =
        sqlx::query_scalar("SELECT to_jsonb(o) FROM environment_operator.environment_object AS o WHERE o.id = $1")
            .bind(sync.id)
            .fetch_optional(&mut *connection)
            .await?;
    let object = object.map(|Json(object)| object);
    if object.as_ref().is_some_and(|object| is_older(leader, sync, object)) {
        return Ok(EnvironmentOutcome::Older);
    }
    // A row that another writer has deleted comes back under the same id.
    let id = object.as_ref().map_or(sync.id, |object| object.environment_id);
    if is_taken(connection, id, sync.company_id).await? {
        return Ok(EnvironmentOutcome::OfAnother);
    }
    let (row, made) = ensure_local(connection, sync.company_id, id).await?;
    // Locked before anything is remembered, for what is remembered stays if the row turns out to be busy.
    if sync.sets_fields() && !lock(connection, row.id).await? {
        return Ok(EnvironmentOutcome::Busy);
    }
    let operator_made = match (&object, sync.local_intent) {
        (None, Some(nonce)) => {
            let claimed = ClaimedLocal {
                id: sync.id,
                namespace: &sync.version.namespace,
                company_id: sync.company_id,
                nonce,
            };
            local_intent::fulfil(connection, leader, claimed).await?
        }
        (object, _) => object.as_ref().is_some_and(|object| object.operator_made),
    };
    remember(connection, leader, sync, row.id, operator_made).await?;
    if made {
        local::forget_written(connection, sync.company_id).await?;
    }
    local::choose(connection, leader, &[sync.company_id]).await?;
    let anew = object
        .as_ref()
        .is_some_and(|object| object.incarnation < leader.incarnation);
    let version = (sync.id, sync.version.generation);
    let (row, changed) = if local::take_up(connection, leader, sync.company_id, version, anew).await? {
        write_fields(connection, sync, row).await?
    } else {
        (row, false)
    };
    Ok(match (made, object) {
        (true, _) => EnvironmentOutcome::Inserted(row),
        (false, None) => EnvironmentOutcome::Adopted(row),
        (false, Some(_)) if changed => EnvironmentOutcome::Updated(row),
        (false, Some(_)) => EnvironmentOutcome::AlreadySo(row),
    })
}

/// Whether the company has no Local and can't get one under this id, for another writer has given its row another driver or
/// company.
async fn is_taken(connection: &mut Session, id: Uuid, company_id: Uuid) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM public.environments WHERE id = $1 AND (driver <> 'local' OR company_id <> $2))
           AND NOT EXISTS (SELECT FROM public.environments WHERE company_id = $2 AND driver = 'local')",
    )
    .bind(id)
    .bind(company_id)
    .fetch_one(connection)
    .await?)
}

fn is_older(leader: &Leader, sync: &EnvironmentSync, object: &EnvironmentObjectRow) -> bool {
    let version = |rv: &str| (rv.len(), rv.to_owned());
    let behind = object.incarnation == leader.incarnation
        && version(sync.version.resource_version.as_str()) < version(&object.rv);
    object.deleted_at.is_some() || object.incarnation > leader.incarnation || behind
}

/// Whether the row could be locked; if not, another transaction holds it.
async fn lock(connection: &mut Session, id: Uuid) -> Result<bool, StoreError> {
    let free: Option<Uuid> =
        sqlx::query_scalar("SELECT id FROM public.environments WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED")
            .bind(id)
            .fetch_optional(connection)
            .await?;
    Ok(free.is_some())
}

/// Writes what the object sets to the row, which is locked if that is anything; the flag says whether anything differed. What
/// it does not set stays as it is in the row that was locked.
async fn write_fields(
    connection: &mut Session,
    sync: &EnvironmentSync,
    row: EnvironmentRow,
) -> Result<(EnvironmentRow, bool), StoreError> {
    if !sync.sets_fields() {
        return Ok((row, false));
    }
    let written: Option<Json<EnvironmentRow>> = sqlx::query_scalar(
        "WITH wanted AS MATERIALIZED (
           SELECT id, coalesce($2, name) AS name, coalesce($3, description) AS description,
             coalesce($4, status) AS status,
             CASE WHEN $5::jsonb IS NULL THEN metadata
                  WHEN jsonb_typeof(metadata) = 'object' THEN metadata || $5
                  ELSE $5 END AS metadata
           FROM public.environments WHERE id = $1 FOR NO KEY UPDATE
         )
         UPDATE public.environments AS e
         SET name = wanted.name, description = wanted.description, status = wanted.status, metadata = wanted.metadata,
           updated_at = date_trunc('milliseconds', clock_timestamp())
         FROM wanted
         WHERE e.id = wanted.id AND (e.name, e.description, e.status, e.metadata)
           IS DISTINCT FROM (wanted.name, wanted.description, wanted.status, wanted.metadata)
         RETURNING to_jsonb(e)",
    )
    .bind(row.id)
    .bind(sync.name.as_deref())
    .bind(sync.description.as_deref())
    .bind(sync.status.map(|status| status.into_str()))
    .bind(sync.metadata.as_ref().map(Json))
    .fetch_optional(connection)
    .await?;
    Ok(match written {
        Some(Json(row)) => (row, true),
        None => (row, false),
    })
}

async fn remember(
    connection: &mut Session,
    leader: &Leader,
    sync: &EnvironmentSync,
    environment_id: Uuid,
    operator_made: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO environment_operator.environment_object (
           id, environment_id, company_id, cluster, installation, incarnation, namespace, name, rv, generation, epoch,
           driver, max_active_leases, operator_made, created_at
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (id) DO UPDATE SET environment_id = EXCLUDED.environment_id, installation = EXCLUDED.installation,
           incarnation = EXCLUDED.incarnation, namespace = EXCLUDED.namespace, name = EXCLUDED.name, rv = EXCLUDED.rv,
           generation = EXCLUDED.generation, epoch = EXCLUDED.epoch, max_active_leases = EXCLUDED.max_active_leases,
           created_at = EXCLUDED.created_at",
    )
    .bind(sync.id)
    .bind(environment_id)
    .bind(sync.company_id)
    .bind(&leader.cluster)
    .bind(&leader.installation)
    .bind(leader.incarnation)
    .bind(&sync.version.namespace)
    .bind(&sync.version.name)
    .bind(sync.version.resource_version.as_str())
    .bind(sync.version.generation)
    .bind(leader.epoch)
    .bind(encoding::driver(sync.driver))
    .bind(sync.max_active_leases)
    .bind(operator_made)
    .bind(sync.created_at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}
