//! Migrations of two owners: the origin's tables (standalone only) and the operator's own schema.
//!
//! Which versions are applied is read first, so that nothing more than reading is needed where nothing is missing, and an
//! older binary runs on a newer schema. The lock is tried, never waited for inside the server, on a connection of its own.

use std::time::Duration;

use sqlx::migrate::Migrator;

use super::StoreError;
use super::address::Address;
use super::connect::{Mode, StartError};
use super::session::{Purpose, Session, check_server, lost, open};

/// Key of the advisory lock: the first eight letters of `environment-operator` as a number.
const LOCK: i64 = i64::from_be_bytes(*b"environm");

/// How long to wait for another process that migrates, in tries of [`LOCK_PAUSE`].
const LOCK_TRIES: u32 = 300;

/// Pause between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

static ORIGIN: Migrator = sqlx::migrate!("migrations/origin");
static OPERATOR: Migrator = sqlx::migrate!("migrations/operator");

const ORIGIN_TABLE: &str = "environment_operator.origin_migrations";
const OPERATOR_TABLE: &str = "environment_operator.operator_migrations";

/// What is known of a database before anything is done to it.
#[derive(sqlx::FromRow)]
struct Found {
    environments: bool,
    company_scoped: bool,
    made_by_operator: bool,
}

/// Brings a database up to what this version needs, and says how many migrations that took.
///
/// # Errors
/// `Refused` where the mode does not fit the database, or another process has been migrating for a minute.
pub async fn migrate(address: &Address, mode: Mode) -> Result<usize, StartError> {
    check_server(address).await?;
    let mut connection = Session::own(open(address, Purpose::Migration).await?);
    check_mode(&mut connection, mode).await?;
    let mut count = pending(&mut connection, mode).await?;
    if count > 0 {
        lock(&mut connection).await?;
        count = pending(&mut connection, mode).await?; // another process may have done it meanwhile
        if mode == Mode::Standalone {
            run(&mut connection, address, &ORIGIN, ORIGIN_TABLE).await?;
        }
        run(&mut connection, address, &OPERATOR, OPERATOR_TABLE).await?;
    }
    connection.close().await; // gives up the lock as well
    Ok(count)
}

async fn check_mode(connection: &mut Session, mode: Mode) -> Result<(), StartError> {
    let found: Found = sqlx::query_as(
        "SELECT to_regclass('public.environments') IS NOT NULL AS environments,
           EXISTS (
             SELECT FROM pg_attribute
             WHERE attrelid = to_regclass('public.environments') AND attname = 'company_id' AND NOT attisdropped
           ) AS company_scoped,
           to_regclass('environment_operator.origin_migrations') IS NOT NULL AS made_by_operator",
    )
    .fetch_one(connection)
    .await?;
    let sentence = match (mode, found.environments, found.made_by_operator) {
        _ if found.environments && !found.company_scoped => {
            "the database is instance-scoped (environments.company_id is gone), and this version knows company-scoped \
             ones only: use an older origin's database or a database of its own"
        }
        (Mode::Standalone, true, false) => {
            "the database belongs to an origin's server, and standalone mode would make its tables: use --mode attached"
        }
        (Mode::Attached, _, true) => {
            "the database's tables were made by this operator in standalone mode: use --mode standalone"
        }
        (Mode::Attached, false, false) => {
            "the database holds no environments of an origin's server: start that first, or use --mode standalone"
        }
        (Mode::Standalone, _, _) | (Mode::Attached, true, false) => return Ok(()),
    };
    Err(StartError::Refused(sentence.to_owned()))
}

/// Number of migrations that are missing.
async fn pending(connection: &mut Session, mode: Mode) -> Result<usize, StartError> {
    let mut count = missing(
        connection,
        &OPERATOR,
        OPERATOR_TABLE,
        "SELECT version FROM environment_operator.operator_migrations WHERE success",
    )
    .await?;
    if mode == Mode::Standalone {
        count += missing(
            connection,
            &ORIGIN,
            ORIGIN_TABLE,
            "SELECT version FROM environment_operator.origin_migrations WHERE success",
        )
        .await?;
    }
    Ok(count)
}

async fn missing(
    connection: &mut Session,
    migrator: &Migrator,
    table: &str,
    versions: &'static str,
) -> Result<usize, StartError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(&mut *connection)
        .await?;
    let applied: Vec<i64> = if exists {
        sqlx::query_scalar(versions).fetch_all(connection).await?
    } else {
        Vec::new()
    };
    Ok(migrator
        .iter()
        .filter(|migration| !applied.contains(&migration.version))
        .count())
}

pub(super) async fn lock(connection: &mut Session) -> Result<(), StartError> {
    for _ in 0..LOCK_TRIES {
        let held: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await?;
        if held {
            return Ok(());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Err(StartError::Refused(
        "another process has been migrating the database for a minute: wait for it or end it".to_owned(),
    ))
}

async fn run(
    connection: &mut Session,
    address: &Address,
    embedded: &Migrator,
    table: &'static str,
) -> Result<(), StartError> {
    let mut migrator = Migrator::with_migrations(embedded.iter().cloned().collect());
    migrator.dangerous_set_table_name(table);
    migrator.create_schema("environment_operator");
    migrator.set_locking(false); // sqlx's own lock blocks in the server and stays held after a failure
    migrator.set_ignore_missing(true); // a newer version's migrations do not keep an older one from running
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await?;
    let outcome = tokio::select! {
        outcome = migrator.run(connection.unbounded()?) => outcome,
        error = lost(address, process) => return Err(error.into()),
    };
    outcome.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        error => StartError::Store(StoreError::Bug(error.to_string())),
    })
}
