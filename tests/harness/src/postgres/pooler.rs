//! PgBouncer before a database: the real program, a process of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::{Connection, PgConnection};

use super::Database;
use super::binaries::Owner;
use crate::guard;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A pooler. It ends with this value.
#[derive(Debug)]
pub struct Pooler {
    url: String,
    _process: Process,
}

impl Pooler {
    /// Starts one before the database's server, with these lines in its configuration beside what it needs.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start(database: &Database, settings: &[&str]) -> Result<Self> {
        ensure!(
            Path::new(PROGRAM).is_file(),
            "PgBouncer is not installed: `make setup` installs it as root, else ask an administrator for the Debian package \
             `pgbouncer`"
        );
        let server = database.options()?;
        let (folder, port, owner) = (guard::fresh_directory("pgbouncer")?, Port::free()?, Owner::find()?);
        let configuration = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = any\nmax_client_conn = 100\n{}\n",
            server.get_host(),
            server.get_port(),
            server.get_username(),
            port.number(),
            settings.join("\n")
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, configuration)?;
        let mut command = Process::command(PROGRAM);
        command.arg(&file).current_dir("/");
        if let Some(owner) = owner {
            owner.give(&folder)?;
            owner.give(&file)?;
            owner.apply(&mut command);
        }
        let process = Process::start("PgBouncer", command, &folder.join("log"))?;
        let url = format!(
            "postgres://{}@127.0.0.1:{}/{}",
            server.get_username(),
            port.number(),
            database.name()
        );
        // The bare driver's own start-up parameter is one that it refuses.
        let options = url
            .parse::<sqlx::postgres::PgConnectOptions>()?
            .extra_float_digits(None);
        until(START_LIMIT, async || {
            let connection = PgConnection::connect_with(&options)
                .await
                .map_err(|error| error.to_string())?;
            connection.close().await.map_err(|error| error.to_string())
        })
        .await
        .map_err(|seen| anyhow::anyhow!("{seen}\n{}", process.last_lines(20)))
        .context("PgBouncer is not ready")?;
        Ok(Self { url, _process: process })
    }

    /// The database's URL by this way.
    pub fn url(&self) -> &str {
        &self.url
    }
}
