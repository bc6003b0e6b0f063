//! One throw-away Postgres: its folder, its process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::binaries::{self, Owner};
use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;

/// How long a start may take, recovery after a kill included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A cluster of databases in a folder, and the server on it.
#[derive(Debug)]
pub(super) struct Server {
    binaries: PathBuf,
    owner: Option<Owner>,
    directory: PathBuf,
    port: Port,
    process: Option<Process>,
}

impl Server {
    /// Makes a fresh cluster in `directory` and starts the server on it.
    pub(super) async fn start(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let (binaries, owner) = (binaries::find()?, Owner::find()?);
        if let Some(owner) = owner {
            owner.give(directory)?;
        }
        let mut server = Self {
            binaries,
            owner,
            directory: directory.to_owned(),
            port: Port::free()?,
            process: None,
        };
        server.initialise().await?;
        server.run().await?;
        Ok(server)
    }

    async fn initialise(&self) -> Result<()> {
        let mut command = Command::new(self.binaries.join("initdb"));
        command
            .arg("--pgdata")
            .arg(self.data())
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            // A relative path in the caller's folder may be closed to the server's user.
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(owner) = self.owner {
            owner.apply(&mut command);
        }
        let output = tokio::task::spawn_blocking(move || command.output())
            .await?
            .context("run initdb")?;
        ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts the server; returns once it takes connections.
    pub(super) async fn run(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "Postgres runs already");
        let log = self.directory.join("postgres.log");
        let seen = until(START_LIMIT, async || {
            // After a kill its children need a moment to go; until then a new server refuses to start.
            if !self.is_running() {
                let process = self.spawn(&log).map_err(|error| format!("{error:#}"))?;
                self.process = Some(process);
            }
            self.ping().await.map_err(|error| format!("{error:#}"))
        });
        seen.await.map_err(|seen| {
            let last = self
                .process
                .as_ref()
                .map(|process| process.last_lines(20))
                .unwrap_or_default();
            anyhow::anyhow!("Postgres is not ready: {seen}\n{last}")
        })
    }

    fn spawn(&self, log: &Path) -> Result<Process> {
        let mut command = Process::command(self.binaries.join("postgres"));
        command.arg("-D").arg(self.data()).current_dir("/");
        let settings = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.number().to_string()),
            ("unix_socket_directories", self.directory.display().to_string()),
            ("max_connections", "300".to_owned()),
            ("timezone", "UTC".to_owned()),
            // What is committed outlives a killed server all the same (the kernel has it); it would not outlive a power
            // cut. `synchronous_commit` stays on: without it a kill would lose commits.
            ("fsync", "off".to_owned()),
            ("full_page_writes", "off".to_owned()),
        ];
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if let Some(owner) = self.owner {
            owner.apply(&mut command);
        }
        Process::start("postgres", command, log)
    }

    async fn ping(&self) -> Result<()> {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.url("postgres")).await?;
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Ends the server, its connections cut off and its data in order (SIGINT, "fast").
    pub(super) async fn stop(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("Postgres was never started")?;
        process.signal(Signal::SIGINT)?;
        process.wait(START_LIMIT).await.context("Postgres did not stop")?;
        Ok(())
    }

    /// Kills the server and all its children (SIGKILL). Left alone, a child would answer one more statement before it
    /// notices.
    pub(super) fn kill(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("Postgres was never started")?;
        // A halted server makes no new children while these are looked for.
        process.signal(Signal::SIGSTOP)?;
        let children = children_of(process.id())?;
        process.kill()?;
        for child in children {
            // It may have noticed by itself meanwhile.
            let _ = kill(child, Signal::SIGKILL);
        }
        Ok(())
    }

    /// Whether the server's process is there.
    pub(super) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// The URL of a database on the loopback address.
    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port.number())
    }

    /// The folder of the Unix socket.
    pub(super) fn socket_directory(&self) -> &Path {
        &self.directory
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end at once it takes its children with it and leaves no shared memory behind; a kill would not.
        if let Some(process) = &mut self.process
            && process.signal(Signal::SIGQUIT).is_ok()
        {
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while process.is_running() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The processes whose parent this is, from `/proc`.
fn children_of(parent: u32) -> Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").context("read /proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `id (name) state parent …`, and a name may hold anything, brackets too.
        let after_name = status.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1) == Some(&parent.to_string()) {
            children.push(Pid::from_raw(id));
        }
    }
    Ok(children)
}
