//! A real Postgres: the system's server on a throw-away cluster, and a database per test.
//!
//! [`Postgres::shared`] is for tests that harm nothing: they take a database of their own from it. It is the server that
//! `TEST_DATABASE_URL` names, where that is set (its user must be allowed to make databases), else one of this process's
//! own. A test that stops or kills the server starts one with [`Postgres::start`]. `DATABASE_URL` is never read.

mod backup;
mod binaries;
pub mod pooler;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::{Mutex, OnceCell};

use crate::guard;
use server::Server;

/// A Postgres server. One that was started here ends with this value, or with this process.
#[derive(Debug)]
pub struct Postgres {
    /// Absent where the server is somebody else's.
    server: Option<Mutex<Server>>,
    /// The URL of a database to make others from.
    administration: String,
    socket_directory: Option<PathBuf>,
}

impl Postgres {
    /// The one that all harmless tests of this process share; the first caller starts it.
    ///
    /// # Panics
    /// When it does not start: no test of this process can go on then.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        let start = async || match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => Ok(Self {
                server: None,
                administration: url,
                socket_directory: None,
            }),
            Err(_) => Self::start(&guard::fresh_directory("postgres")?).await,
        };
        SHARED
            .get_or_try_init(start)
            .await
            .unwrap_or_else(|error: anyhow::Error| panic!("the shared Postgres did not start: {error:?}"))
    }

    /// Starts a server on a fresh cluster in `directory`, on a free port of 127.0.0.1 and a Unix socket in `directory`.
    ///
    /// Committed data outlives [`Postgres::kill`]; it would not outlive a power cut (`fsync` is off).
    ///
    /// # Errors
    /// When Postgres is not installed or does not start; the end of its log is part of the message.
    pub async fn start(directory: &Path) -> Result<Self> {
        let server = Server::start(directory).await?;
        let administration = server.url("postgres");
        let socket_directory = Some(server.socket_directory().to_owned());
        Ok(Self {
            server: Some(Mutex::new(server)),
            administration,
            socket_directory,
        })
    }

    /// Makes a fresh, empty database; it is dropped with the value.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn database(&self) -> Result<Database> {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&self.administration)
            .await
            .context("connect to make a database")?;
        let statement = format!("CREATE DATABASE {name}");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .context("make a database")?;
        connection.close().await?;
        let url = with_database(&self.administration, &name)?;
        Ok(Database {
            name,
            url,
            administration: self.administration.clone(),
        })
    }

    /// The folder of the Unix socket (for `host=` of a connection); `None` where the server is somebody else's.
    pub fn socket_directory(&self) -> Option<&Path> {
        self.socket_directory.as_deref()
    }

    /// Stops the server in good order; every connection is cut.
    ///
    /// # Errors
    /// When it does not run, or is somebody else's.
    pub async fn stop(&self) -> Result<()> {
        self.own()?.lock().await.stop().await
    }

    /// Kills the server (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// When it is somebody else's.
    pub async fn kill(&self) -> Result<()> {
        self.own()?.lock().await.kill()
    }

    /// Starts a stopped or killed server again, on the same port and data; returns once it takes connections.
    ///
    /// # Errors
    /// When it runs, does not start, or is somebody else's.
    pub async fn run_again(&self) -> Result<()> {
        self.own()?.lock().await.run().await
    }

    /// Stops and starts the server.
    ///
    /// # Errors
    /// As [`Postgres::stop`] and [`Postgres::run_again`].
    pub async fn restart(&self) -> Result<()> {
        let mut server = self.own()?.lock().await;
        server.stop().await?;
        server.run().await
    }

    fn own(&self) -> Result<&Mutex<Server>> {
        self.server
            .as_ref()
            .context("this Postgres was not started here: a test that harms it starts its own")
    }
}

/// A database of a test's own, dropped (connections cut) when the value is.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    administration: String,
}

impl Database {
    /// Its URL, with user and, where there is one, password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Options to connect with, for a pool or a single connection.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn options(&self) -> Result<PgConnectOptions> {
        self.url.parse().context("read the database's URL")
    }

    /// One connection.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url)
            .await
            .with_context(|| format!("connect to database {}", self.name))
    }

    /// What `pg_dump` says of a schema without its rows: two texts are equal if nothing in it was altered.
    ///
    /// # Errors
    /// When `pg_dump` is not installed or fails; what it said is part of the message.
    pub async fn schema_dump(&self, schema: &str) -> Result<String> {
        let output = tokio::process::Command::new(binaries::find()?.join("pg_dump"))
            .args(["--schema-only", "--schema", schema, "--dbname", &self.url])
            .output()
            .await
            .context("run pg_dump")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "pg_dump failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Each dump is guarded against injection by a random word of its own.
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (statement, administration) = (
            format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            self.administration.clone(),
        );
        // A destructor cannot wait, and its runtime may be ending: so a thread with a runtime of its own. If the server is
        // gone, so is the database, or it goes with its cluster.
        let drop_it = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&administration).await.ok()?;
                sqlx::query(sqlx::AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await
                    .ok()
            })
        };
        let _ = std::thread::spawn(drop_it).join();
    }
}

/// The URL with another database's name in the place of its own.
fn with_database(url: &str, name: &str) -> Result<String> {
    let (address, query) = url
        .split_once('?')
        .map_or((url, None), |(address, query)| (address, Some(query)));
    let (_, rest) = address
        .split_once("://")
        .context("a database URL begins with postgres://")?;
    let server = match rest.rsplit_once('/') {
        Some((server, _)) => &address[..address.len() - rest.len() + server.len()],
        None => address,
    };
    Ok(match query {
        Some(query) => format!("{server}/{name}?{query}"),
        None => format!("{server}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_name_in_a_url_is_exchanged_and_all_else_stays() {
        let exchanged = |url| with_database(url, "new").unwrap();
        assert_eq!(
            exchanged("postgres://u:p@host:5432/old?sslmode=disable"),
            "postgres://u:p@host:5432/new?sslmode=disable"
        );
        assert_eq!(exchanged("postgres://u@host/old"), "postgres://u@host/new");
        assert_eq!(exchanged("postgres://host"), "postgres://host/new");
    }
}
