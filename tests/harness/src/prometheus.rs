//! A Prometheus: its checks of rules and queries (`promtool`), and a server of its own that scrapes what a test runs.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::guard;
use crate::http;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;

/// The script that fetches the programs once, and prints their folder.
const FETCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/prometheus.sh");

/// How long the server may take to start.
const START: Duration = Duration::from_secs(30);

static FETCHED: OnceCell<PathBuf> = OnceCell::const_new();

/// The path of `prometheus` or `promtool`; they are fetched now if they are missing.
///
/// # Errors
/// When that fails; the reason stands on standard error.
async fn find(name: &str) -> Result<PathBuf> {
    let folder = FETCHED.get_or_try_init(async || {
        let output = tokio::task::spawn_blocking(|| Command::new(FETCH).stderr(Stdio::inherit()).output())
            .await
            .context("wait for Prometheus")?
            .with_context(|| format!("run {FETCH}"))?;
        ensure!(output.status.success(), "no Prometheus: {}", output.status);
        let folder = String::from_utf8(output.stdout).context("read the folder of Prometheus")?;
        Ok(PathBuf::from(folder.trim_end()))
    });
    Ok(folder.await?.join(name))
}

/// Runs `promtool` to its end; what it says, all of it.
///
/// # Errors
/// What it says, where it is not content.
pub async fn promtool(arguments: &[&str]) -> Result<String> {
    let mut command = tokio::process::Command::new(find("promtool").await?);
    let output = command.args(arguments).kill_on_drop(true).output().await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if !output.status.success() {
        bail!("promtool {}:\n{said}", arguments.join(" "));
    }
    Ok(said)
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    port: Port,
    #[expect(dead_code, reason = "it is there to live as long as this value")]
    process: Process,
}

impl Prometheus {
    /// Starts a server that scrapes these ports of the loopback address every second as one job, evaluates the rules of these
    /// files every second, and is ready.
    ///
    /// # Errors
    /// When it does not start; with the last lines of its log.
    pub async fn start(job: &str, targets: &[u16], rules: &[&Path]) -> Result<Self> {
        let directory = guard::fresh_directory("prometheus")?;
        let targets: Vec<String> = targets.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        // JSON is YAML.
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": rules,
            "scrape_configs": [{ "job_name": job, "static_configs": [{ "targets": targets }] }],
        });
        let file = directory.join("prometheus.json");
        std::fs::write(&file, configuration.to_string())?;
        let port = Port::free()?;
        let mut command = Process::command(find("prometheus").await?);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .current_dir(&directory);
        let process = Process::start("prometheus", command, &directory.join("log"))?;
        let ready = until(START, async || {
            match http::get((Ipv4Addr::LOCALHOST, port.number()), "/-/ready").await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        if let Err(seen) = ready.await {
            bail!("Prometheus is not ready: {seen}\n{}", process.last_lines(20));
        }
        Ok(Self { port, process })
    }

    /// The series that a query gives now, as the API answers them: each with `metric` and `value`.
    ///
    /// # Errors
    /// When the server does not take the query, with its words.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded(query))).await?;
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => bail!("{query}: {answer}"),
        }
    }

    /// What the API answers to a path.
    ///
    /// # Errors
    /// When it does not answer, or not with JSON.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        let answer = http::get((Ipv4Addr::LOCALHOST, self.port.number()), path).await?;
        serde_json::from_str(&answer.body).with_context(|| format!("{path}: {} {}", answer.status, answer.body))
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

/// A text as a part of a URL.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}
