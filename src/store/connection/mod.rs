//! The one way to a session: through the hosts in order, past those that cannot be written to, set and checked.

use std::io;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Acquire as _, Connection as _, PgConnection};
use tokio::time::timeout;

use crate::random;
use crate::store::address::{Address, Host};
use crate::store::cause::{cause, of_host};

mod explained;
mod manager;
mod settings;

use explained::explained;
pub(super) use manager::Manager;
pub(crate) use settings::Purpose;
#[cfg(test)]
pub(crate) use settings::{SETTINGS, Setting, Wanted};

/// Oldest major version of Postgres that is supported.
const OLDEST_POSTGRES: i32 = 15;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server or the way to it does not fit; one sentence says what to do.
    #[error("{0}")]
    Refused(String),
    /// The host can only be read.
    #[error("{host} can only be read: {why}")]
    ReadOnly {
        /// Host and port.
        host: String,
        /// What makes it so.
        why: &'static str,
    },
    /// The host takes connections and says nothing, or does not even take them.
    #[error("{host} did not answer within {seconds} s")]
    Silent {
        /// Host and port.
        host: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Its certificate is not one that can be trusted; one sentence says why and what to do.
    #[error("{0}")]
    Certificate(String),
    /// None of several hosts can be used.
    #[error("none of the hosts can be used: {0}")]
    NoHost(String),
    /// The server or the network, as the driver says.
    #[error("{}", cause(.0))]
    Driver(#[from] sqlx::Error),
}

impl From<ConnectError> for sqlx::Error {
    /// For those who know the driver's errors alone: as one of the way to the database.
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Driver(error) => error,
            error => Self::Io(io::Error::other(error)),
        }
    }
}

/// Opens a session on the first host that can be written to, sets it, and reads back what it is set to.
///
/// # Errors
/// One host's own; of several hosts a sentence about each.
pub(crate) async fn open(address: &Address, purpose: Purpose) -> Result<PgConnection, ConnectError> {
    on_first(address, |host| async move {
        let mut connection = connect(&host).await?;
        refuse_read_only(&mut connection, &host).await?;
        settings::apply(&mut connection, purpose).await?;
        Ok(connection)
    })
    .await
}

/// A listener on the first host that can be written to, set as any session. It has heard nothing yet and listens to nothing.
///
/// # Errors
/// As [`open`].
pub(crate) async fn open_listener(address: &Address) -> Result<PgListener, ConnectError> {
    on_first(address, |host| async move {
        // The driver makes listeners out of pools alone, so it gets one for its connection and nothing else.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options_of(&host));
        let mut listener = PgListener::connect_with(&pool)
            .await
            .map_err(|error| explained(&host, error))?;
        // Reconnecting in silence would lose what was said meanwhile, and would pass by the settings.
        listener.eager_reconnect(false);
        let connection = (&mut listener).acquire().await?;
        refuse_read_only(connection, &host).await?;
        settings::apply(connection, Purpose::Work).await?;
        Ok(listener)
    })
    .await
}

/// Remembers, where it is dropped, that a round over the hosts was given up: whoever asked had no more time.
struct Trying<'a> {
    address: &'a Address,
    /// The host that the round has begun with.
    first: usize,
    /// The host that is being tried.
    at: usize,
    is_over: bool,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.address.given_up(self.first, self.at);
        }
    }
}

/// Does something with the first host with which it can be done. Each has its time. It may be dropped at any moment: the next
/// round goes on from there.
async fn on_first<T, Work>(address: &Address, work: impl Fn(Host) -> Work) -> Result<T, ConnectError>
where
    Work: Future<Output = Result<T, ConnectError>>,
{
    let (limit, mut failures) = (address.connect_timeout(), Vec::new());
    let mut first = None;
    for (index, host) in address.hosts() {
        let mut trying = Trying {
            address,
            first: *first.get_or_insert(index),
            at: index,
            is_over: false,
        };
        let outcome = timeout(limit, work(host.clone())).await.unwrap_or_else(|_| {
            Err(ConnectError::Silent {
                host: host.name.clone(),
                seconds: limit.as_secs(),
            })
        });
        trying.is_over = true;
        match outcome {
            Ok(done) => {
                address.answered(index);
                return Ok(done);
            }
            Err(error) => failures.push(named(host, error)),
        }
    }
    if failures.len() > 1 {
        let sentences: Vec<String> = failures.iter().map(ToString::to_string).collect();
        return Err(ConnectError::NoHost(sentences.join("; ")));
    }
    Err(failures
        .pop()
        .unwrap_or_else(|| ConnectError::NoHost("there is none".to_owned())))
}

/// The same with the host's name in it, where it is not there yet.
fn named(host: &Host, error: ConnectError) -> ConnectError {
    match error {
        ConnectError::Driver(error) => ConnectError::Driver(of_host(&host.name, error)),
        ConnectError::Refused(sentence) => ConnectError::Refused(format!("{}: {sentence}", host.name)),
        named @ (ConnectError::ReadOnly { .. }
        | ConnectError::Silent { .. }
        | ConnectError::Certificate(_)
        | ConnectError::NoHost(_)) => named,
    }
}

async fn connect(host: &Host) -> Result<PgConnection, ConnectError> {
    PgConnection::connect_with(&options_of(host))
        .await
        .map_err(|error| explained(host, error))
}

/// What the driver is told: without its own start-up parameter of this name, which poolers refuse.
fn options_of(host: &Host) -> PgConnectOptions {
    host.options.clone().extra_float_digits(None)
}

/// A standby is passed over, and so is a server that is configured to be read only, as one whose disk is full may be. The
/// same setting of a role or a database is no state of the server: it is set off.
async fn refuse_read_only(connection: &mut PgConnection, host: &Host) -> Result<(), ConnectError> {
    let (is_standby, is_configured): (bool, bool) = sqlx::query_as(
        "SELECT pg_is_in_recovery(), coalesce((
           SELECT setting = 'on' AND source NOT IN ('database', 'user', 'database user', 'client', 'session')
           FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'
         ), false)",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    let why = match (is_standby, is_configured) {
        (true, _) => "it is a standby",
        (false, true) => "default_transaction_read_only is on in its configuration",
        (false, false) => return Ok(()),
    };
    Err(ConnectError::ReadOnly {
        host: host.name.clone(),
        why,
    })
}

/// Refuses a transaction pooler and an old server, each with a sentence; finds the host that is to be used.
///
/// Behind a transaction pooler prepared statements get mixed up between clients, and LISTEN hears nothing. It shows by two
/// connections that share one session: what one has set, the other reads.
pub(crate) async fn check_server(address: &Address) -> Result<(), ConnectError> {
    on_first(address, |host| async move { probe(&host).await }).await
}

async fn probe(host: &Host) -> Result<(), ConnectError> {
    let mut first = connect(host).await?;
    let mut second = connect(host).await?;
    refuse_read_only(&mut first, host).await?;
    let nonce = random::unique().to_string();
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
        return Err(ConnectError::Refused(
            "the database is reached through a transaction pooler, which mixes up sessions: give the operator a direct \
             or session-pooled address"
                .to_owned(),
        ));
    }
    if version / 10_000 < OLDEST_POSTGRES {
        return Err(ConnectError::Refused(format!(
            "the server is PostgreSQL {}: version {OLDEST_POSTGRES} or newer is needed",
            version / 10_000
        )));
    }
    Ok(())
}
