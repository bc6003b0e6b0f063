//! The operator under test: the real binary, a process of its own with a port of its own.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::guard;
use crate::http::{self, Answer};
use crate::ports::Port;
use crate::process::Process;
use crate::wait::eventually;

/// What to start: program, arguments and environment.
///
/// ```no_run
/// # async fn example(kubeconfig: &std::path::Path, url: &str) -> anyhow::Result<()> {
/// use harness::operator::Operator;
///
/// // In a test of the operator's own package: env!("CARGO_BIN_EXE_environment-operator").
/// let operator = Operator::of("target/debug/environment-operator".as_ref())
///     .kubeconfig(kubeconfig)
///     .database_url(url)
///     .arg("--sweep-interval=1s")
///     .start()?;
/// operator.wait_ready().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Options {
    /// Adds an argument after `run`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable; nothing of the test's own environment is handed on.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Whom it speaks to Kubernetes as.
    #[must_use]
    pub fn kubeconfig(self, path: &Path) -> Self {
        self.env("KUBECONFIG", path)
    }

    /// Its database.
    #[must_use]
    pub fn database_url(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// Starts it; returns at once.
    ///
    /// # Errors
    /// When no port is free or the process cannot be made; a program that is missing is seen in the log.
    pub fn start(self) -> Result<Operator> {
        let log = guard::fresh_directory("operator")?.join("log");
        let port = Port::free()?;
        let process = self.spawn(&port, &log)?;
        Ok(Operator {
            options: self,
            port,
            process,
        })
    }

    fn spawn(&self, port: &Port, log: &Path) -> Result<Process> {
        let mut command = Process::command(&self.program);
        command
            .arg("run")
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUST_BACKTRACE", "1")
            .env("ENVIRONMENT_OPERATOR_LISTEN", format!("127.0.0.1:{}", port.number()))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start("the operator", command, log)
    }
}

/// A started operator. Killed when dropped; its log is printed then if a test is failing.
#[derive(Debug)]
pub struct Operator {
    options: Options,
    port: Port,
    process: Process,
}

impl Operator {
    /// What to start, without arguments yet.
    pub fn of(program: &Path) -> Options {
        Options {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Panics
    /// When it has not within a minute, with the last answer.
    pub async fn wait_ready(&self) {
        eventually("the operator is ready", Duration::from_secs(60), async || {
            match self.get("/readyz").await {
                Ok(Answer { status: 200, .. }) => Ok(()),
                Ok(Answer { status, body }) => Err(format!("{status} {body}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
    }

    /// The port that it listens on, for whoever else asks it.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Asks one of its HTTP paths: `/readyz`, `/healthz`, `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        http::get((Ipv4Addr::LOCALHOST, self.port.number()), path).await
    }

    /// The sum of a metric over all its series whose labels contain `labels` (as printed: `reason="RunFinished"`; empty:
    /// all); zero where there is none.
    ///
    /// # Errors
    /// When it does not answer or a value is no number.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let answer = self.get("/metrics").await?;
        ensure!(answer.status == 200, "/metrics answered {}", answer.status);
        sum(&answer.body, name, labels)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All that it has logged since its first start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.process.log()).unwrap_or_default()).into_owned()
    }

    /// Asks it to end (SIGTERM) and waits, at most for `grace`, then kills it; the exit status says which it was.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.process.stop(grace).await
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Halts it (SIGSTOP): its connections stay open, its clock goes on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Waits, at most for `limit`, for an end that it comes to by itself.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process.wait(limit).await
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Starts one that has ended again: same port, arguments, environment and log.
    ///
    /// # Errors
    /// When it has not ended, or the process cannot be made.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.process.is_running(), "the operator has not ended");
        let log = self.process.log().to_owned();
        self.process = self
            .options
            .spawn(&self.port, &log)
            .context("start the operator again")?;
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of the operator on port {} ---\n{}--- end of its log ---",
                self.port.number(),
                self.log()
            );
        }
    }
}

/// The sum of a metric over all its series whose labels contain `labels`, from the text format; zero where there is none.
///
/// # Errors
/// When a value is no number.
pub fn sum(text: &str, name: &str, labels: &str) -> Result<f64> {
    let mut total = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let (found, value) = match rest.strip_prefix('{').and_then(|rest| rest.rsplit_once("} ")) {
            Some(parts) => parts,
            None => ("", rest.strip_prefix(' ').unwrap_or_default()),
        };
        // A longer name that begins with this one leaves no value here.
        let Some(value) = value.split_whitespace().next() else {
            continue;
        };
        if found.contains(labels) {
            total += value
                .parse::<f64>()
                .with_context(|| format!("read the metric {line}"))?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::sum;

    const TEXT: &str = "# TYPE ends counter\nends_total{reason=\"RunGone\"} 2\nends_total{reason=\"RunFailed\"} 3\n\
                        ends_total_bytes 7\nqueue 4\n";

    #[test]
    fn a_metric_is_the_sum_of_its_series() {
        assert_eq!(sum(TEXT, "ends_total", "").unwrap(), 5.0);
        assert_eq!(sum(TEXT, "ends_total", "reason=\"RunGone\"").unwrap(), 2.0);
        assert_eq!(sum(TEXT, "queue", "").unwrap(), 4.0);
        assert_eq!(sum(TEXT, "absent", "").unwrap(), 0.0);
    }
}
