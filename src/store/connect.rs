//! Session connections that are safe to lead from.
//!
//! A leader that hangs inside a transaction would block its successor for as long as it likes; so the server ends statements,
//! idle transactions and dead peers well before a term of [`super::lead::TERM_SECONDS`] is over.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::StoreError;
use super::references::References;

/// Oldest major version of Postgres that is supported.
const OLDEST_POSTGRES: i32 = 15;

/// Longest wait for a free connection of a pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Limits that the server holds each session to, all below the leadership's term. Compiling (`jit`) takes longer than any
/// statement here runs.
const SESSION_SETTINGS: [(&str, &str); 7] = [
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("lock_timeout", "5s"),
    ("tcp_user_timeout", "10s"),
    // What is counted under a lock is counted by a statement that begins after the lock.
    ("default_transaction_isolation", "read committed"),
    ("TimeZone", "UTC"),
    ("jit", "off"),
];

/// Who owns the origin's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The operator makes and migrates them.
    Standalone,
    /// The origin's server does; the operator alters none.
    Attached,
}

/// Why the operator does not start on a database.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database, its server or the way to it does not fit; one sentence says what to do.
    #[error("{0}")]
    Refused(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for StartError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// How a pool of connections stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that are open, used or not.
    pub open: u32,
    /// Those of them that nobody uses.
    pub idle: u32,
    /// How many there may be.
    pub max: u32,
}

/// The database, connected and known.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) mode: Mode,
    pub(crate) references: References,
}

impl Store {
    /// Connects to a database that [`super::migrate::migrate`] has made ready.
    ///
    /// # Errors
    /// `Refused` for an address that can't be read, a transaction pooler and a server that is too old.
    pub async fn open(url: &str, mode: Mode, connections: u32) -> Result<Self, StartError> {
        let options = options(url)?;
        check_server(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(with_limits(options))
            .await?;
        let references = References::find(&pool).await?;
        Ok(Self { pool, mode, references })
    }

    /// Who owns the origin's tables.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How the pool stands. Asks nobody.
    pub fn pool_use(&self) -> PoolUse {
        PoolUse {
            open: self.pool.size(),
            idle: u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX),
            max: self.pool.options().get_max_connections(),
        }
    }

    /// The pool, for reads of the caller's own.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// Reads a database's address, with TLS as in libpq.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, StartError> {
    // The error's own text may quote the password.
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        StartError::Refused("DATABASE_URL cannot be read: write postgres://user:password@host:port/database".to_owned())
    })?;
    Ok(options.application_name("environment-operator"))
}

fn with_limits(options: PgConnectOptions) -> PgConnectOptions {
    options.options(SESSION_SETTINGS)
}

/// Refuses a transaction pooler and an old server, each with a sentence.
///
/// Behind a transaction pooler prepared statements get mixed up between clients, and LISTEN hears nothing. It shows by two
/// connections that share one session: what one has set, the other reads.
pub(crate) async fn check_server(options: &PgConnectOptions) -> Result<(), StartError> {
    let mut first = PgConnection::connect_with(options).await?;
    let mut second = PgConnection::connect_with(options).await?;
    let nonce = Uuid::new_v4().to_string();
    // `persistent(false)`: an unnamed statement is safe even where named ones get mixed up.
    let version: i32 = sqlx::query_scalar(
        "SELECT current_setting('server_version_num')::int4
         FROM set_config('environment_operator.probe', $1, false)",
    )
    .bind(&nonce)
    .persistent(false)
    .fetch_one(&mut first)
    .await?;
    let seen: Option<String> = sqlx::query_scalar("SELECT current_setting('environment_operator.probe', true)")
        .persistent(false)
        .fetch_one(&mut second)
        .await?;
    first.close().await?;
    second.close().await?;
    if seen.as_deref() == Some(nonce.as_str()) {
        return Err(StartError::Refused(
            "the database is reached through a transaction pooler, which mixes up sessions: give the operator a direct \
             or session-pooled address"
                .to_owned(),
        ));
    }
    if version / 10_000 < OLDEST_POSTGRES {
        return Err(StartError::Refused(format!(
            "the server is PostgreSQL {}: version {OLDEST_POSTGRES} or newer is needed",
            version / 10_000
        )));
    }
    Ok(())
}
