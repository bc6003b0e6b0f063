//! Migrations of two owners: the Paperclip server's tables (standalone only) and the operator's own schema.
//!
//! Which versions are applied is read first, so that nothing more than reading is needed where nothing is missing, and an
//! older binary runs on a newer schema. The lock is tried, never waited for inside the server, on a connection of its own.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};

use super::address::Address;
use super::catalog::Found;
use super::connection::{Purpose, check_server, open};
use super::session::{Session, lost};
use super::{Mode, StartError, StoreError};

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

/// Brings a database up to what this version needs, and says how many migrations that took. All of them or none: they are one
/// transaction, so that a try that fails or dies leaves no trace that would brand the database.
///
/// # Errors
/// `Refused` where the database does not fit, or another process has been migrating for a minute.
pub async fn migrate(address: &Address, mode: Mode) -> Result<usize, StartError> {
    check_server(address).await?;
    let mut connection = Session::own(open(address, Purpose::Migration).await?);
    let mut count = check(&mut connection, mode).await?;
    if count > 0 {
        lock(&mut connection).await?;
        count = check(&mut connection, mode).await?; // another process may have done it meanwhile
    }
    if count > 0 {
        let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await?;
        tokio::select! {
            applied = apply(&mut connection, mode) => applied?,
            error = lost(address, process) => return Err(error.into()),
        }
    }
    connection.close().await; // gives up the lock as well
    Ok(count)
}

/// Refuses what may not be migrated; the number of migrations that are missing.
async fn check(connection: &mut Session, mode: Mode) -> Result<usize, StartError> {
    let found = Found::read(connection).await?;
    found.check_encoding()?;
    found.check_mode(connection, mode).await?;
    Ok(pending(connection, &found, mode).await?)
}

/// Number of migrations that are missing.
pub(super) async fn pending(connection: &mut Session, found: &Found, mode: Mode) -> Result<usize, StoreError> {
    let (operator, origin) = found.records();
    let mut count = missing(
        connection,
        &OPERATOR,
        operator.then_some("SELECT version FROM environment_operator.operator_migrations WHERE success"),
    )
    .await?;
    if mode == Mode::Standalone {
        count += missing(
            connection,
            &ORIGIN,
            origin.then_some("SELECT version FROM environment_operator.origin_migrations WHERE success"),
        )
        .await?;
    }
    Ok(count)
}

async fn missing(
    connection: &mut Session,
    migrator: &Migrator,
    versions: Option<&'static str>,
) -> Result<usize, StoreError> {
    let applied: Vec<i64> = match versions {
        Some(versions) => {
            sqlx::query_scalar(versions)
                .persistent(false)
                .fetch_all(connection)
                .await?
        }
        None => Vec::new(),
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

/// Applies what is missing, as one transaction.
async fn apply(connection: &mut Session, mode: Mode) -> Result<(), StartError> {
    // The driver's own: it makes savepoints of the transactions that the migrator begins.
    let mut transaction = connection.unbounded()?.begin().await?;
    if mode == Mode::Standalone {
        let made = migrator(&ORIGIN, ORIGIN_TABLE).run(&mut *transaction).await;
        made.map_err(failed)?;
    }
    let made = migrator(&OPERATOR, OPERATOR_TABLE).run(&mut *transaction).await;
    made.map_err(failed)?;
    transaction.commit().await?;
    Ok(())
}

fn migrator(embedded: &Migrator, table: &'static str) -> Migrator {
    let mut migrator = Migrator::with_migrations(embedded.iter().cloned().collect());
    migrator.dangerous_set_table_name(table);
    migrator.create_schema("environment_operator");
    migrator.set_locking(false); // sqlx's own lock blocks in the server and stays held after a failure
    migrator.set_ignore_missing(true); // a newer version's migrations do not keep an older one from running
    migrator
}

fn failed(error: MigrateError) -> StartError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        error => StartError::Refused(format!("the database cannot be migrated: {error}")),
    }
}
