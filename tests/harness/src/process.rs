//! A child process: started so that it cannot outlive its parent, signalled, waited for, its output in a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::guard;

/// Waits for a line before it becomes the program: until the guard knows of it, it does nothing, and if its parent dies
/// before that, it ends.
const GATE: &str = r#"read -r _ || exit 125; exec "$0" "$@" </dev/null"#;

/// How often a waiting function looks again.
const POLL: Duration = Duration::from_millis(10);

/// A running (or ended) child, leader of a process group of its own. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// The command to start `program` (an absolute path, or a name in PATH) with: add arguments and environment, then
    /// give it to [`Process::start`].
    pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(GATE).arg(program);
        command
    }

    /// Starts a command made by [`Process::command`]; what it prints is appended to `log`.
    ///
    /// A program that cannot be executed is seen as exit code 126 or 127, with the reason in the log.
    ///
    /// # Errors
    /// When the log cannot be opened or the shell not be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let gate = child.stdin.take();
        let process = Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            status: None,
        };
        guard::watch(process.id()).context("tell the guard")?;
        if let Some(mut gate) = gate {
            gate.write_all(b"\n")
                .with_context(|| format!("open the gate of {name}"))?;
        }
        Ok(process)
    }

    /// The process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its standard output and standard error go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status, once it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            // An error says that there is no such child any more, and then nothing is left to learn about it.
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                // What it has started ends with it, as the processes of a container do with its first; most have nothing left.
                let _ = killpg(self.pid(), Signal::SIGKILL);
                guard::forget(self.child.id());
            }
        }
        self.status
    }

    /// Whether it has not ended yet (a stopped process has not).
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Waits for its end, at most for `limit`; `None` when it has not ended by then.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.try_wait();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal to the process itself (not to its group).
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        anyhow::ensure!(self.is_running(), "{} has ended", self.name);
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Asks it to end (SIGTERM), waits at most for `grace`, then kills it; its exit status says which of both it was.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match self.wait(grace).await {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Kills the whole group (SIGKILL) and waits for the process's end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait() {
            return Ok(status);
        }
        // It can only have ended by itself since, and then the wait says so.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let status = self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        self.status = Some(status);
        guard::forget(self.child.id());
        Ok(status)
    }

    /// The last `lines` lines that it printed.
    pub fn last_lines(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn pid(&self) -> Pid {
        // Process ids of Linux end far below 2^31.
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to hand an error to, and the guard ends what is left over.
        let _ = self.kill();
    }
}
