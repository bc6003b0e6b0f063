//! The stage: the parts of the demo, and how the story speaks, acts and looks.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::node_agent::{Images, NodeAgent};
use harness::operator::Operator;
use harness::postgres::{Database, Postgres};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long the story waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The parts, running. They end with this value, or with the process.
pub struct Stage {
    // Fields end in this order: the node first, for it asks the cluster for Pods.
    _node: NodeAgent,
    cluster: ControlPlane,
    _postgres: Postgres,
    database: Database,
    /// Rows, as an auditor would read them.
    pub pool: PgPool,
    /// The operator.
    pub operator: Operator,
    root: PathBuf,
}

impl Stage {
    /// Starts everything: control plane, Postgres, node, operator.
    pub async fn set(operator: &Path) -> Result<Self> {
        say("Setting the stage: a control plane (etcd, kube-apiserver, kube-controller-manager), a node, Postgres.");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let (cluster, postgres) = (guard::fresh_directory("cluster")?, guard::fresh_directory("postgres")?);
        let (cluster, postgres) = tokio::try_join!(ControlPlane::start(&cluster), Postgres::start(&postgres))?;
        let database = postgres.database().await?;
        let pool = PgPool::connect(database.url()).await?;
        let node = NodeAgent::start(&cluster, None, Images::usual().await?).await?;
        let operator = Operator::of(operator)
            .kubeconfig(&cluster.admin_kubeconfig())
            .database_url(database.url())
            .start()?;
        let stage = Self {
            cluster,
            _postgres: postgres,
            database,
            pool,
            operator,
            _node: node,
            root,
        };
        say("\nThe two kinds are applied, and the operator comes up on them.");
        stage.kubectl(&["apply", "--filename", "crds/"]).await?;
        stage
            .quietly(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])
            .await?;
        stage.operator.wait_ready().await;
        Ok(stage)
    }

    /// Runs kubectl before the reader's eyes.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        println!("\n  $ kubectl {}", arguments.join(" "));
        let shown = self.quietly(arguments).await?;
        shown.trim_end().lines().for_each(|line| println!("  {line}"));
        Ok(())
    }

    /// Runs kubectl unseen.
    pub async fn quietly(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.cluster.kubectl().await?;
        command.current_dir(&self.root).args(arguments);
        text(command, "").await
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let mut command = self.cluster.kubectl().await?;
        command.args(["apply", "--filename", "-"]);
        text(command, manifests).await.map(drop)
    }

    /// Waits until kubectl says that a condition holds.
    pub async fn wait_for(&self, condition: &str, objects: &[&str]) -> Result<()> {
        let (condition, timeout) = (
            format!("--for={condition}"),
            format!("--timeout={}s", PATIENCE.as_secs()),
        );
        let mut arguments = vec!["wait", &condition, &timeout];
        arguments.extend(objects);
        self.quietly(&arguments).await.map(drop)
    }

    /// Runs SQL before the reader's eyes.
    pub async fn psql(&self, statement: &str) -> Result<()> {
        println!("\n  $ psql");
        let mut command = Command::new("psql");
        command.args([
            self.database.url(),
            "--no-psqlrc",
            "--pset=footer=off",
            "--command",
            statement,
        ]);
        text(command, "")
            .await?
            .trim_end()
            .lines()
            .for_each(|line| println!("  {line}"));
        Ok(())
    }

    /// Says how to play on, and waits for Ctrl-C.
    pub async fn keep(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl().await?;
        println!("\nEverything stays until Ctrl-C. In another terminal:");
        println!("  export KUBECONFIG={}", self.cluster.admin_kubeconfig().display());
        println!("  {} get penv,envlease", kubectl.as_std().get_program().display());
        println!("  psql '{}'", self.database.url());
        tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")
    }
}

/// Tells the reader what comes next.
pub fn say(text: &str) {
    println!("{text}");
}

/// Begins a chapter.
pub fn chapter(title: &str) {
    println!("\n\u{1b}[1m== {title}\u{1b}[0m");
}

/// Runs a command with `input` and hands back what it prints; what it complains of becomes the error.
async fn text(mut command: Command, input: &str) -> Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let program = command.as_std().get_program().display().to_string();
    let mut child = command.spawn().with_context(|| format!("{program} can't be run"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
