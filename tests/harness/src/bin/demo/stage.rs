//! The stage: the parts of the demo, and how the story speaks, acts and looks.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::node_agent::{Images, NodeAgent, listening};
use harness::postgres::{Database, Postgres};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectList;
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long the story waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the release, and of its namespace.
const RELEASE: &str = "environment-operator";

/// The name of the Secret with the database's URL.
const SECRET: &str = "environment-operator-database";

/// The parts, running. They end with this value, or with the process.
pub struct Stage {
    // Fields end in this order: the node first, for it asks the cluster for Pods.
    node: NodeAgent,
    cluster: ControlPlane,
    _postgres: Postgres,
    database: Database,
    /// Rows, as an auditor would read them.
    pub pool: PgPool,
    root: PathBuf,
}

impl Stage {
    /// Starts control plane, Postgres and node, and installs the operator by its chart.
    pub async fn set(operator: &Path) -> Result<Self> {
        say("Setting the stage: a control plane (etcd, kube-apiserver, kube-controller-manager), a node, Postgres.");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let (cluster, postgres) = (guard::fresh_directory("cluster")?, guard::fresh_directory("postgres")?);
        let (cluster, postgres) = tokio::try_join!(ControlPlane::start(&cluster), Postgres::start(&postgres))?;
        let database = postgres.database().await?;
        let pool = PgPool::connect(database.url()).await?;
        let images = Images::usual().await?.with_operator(operator);
        let node = NodeAgent::start(&cluster, None, images).await?;
        let stage = Self {
            cluster,
            _postgres: postgres,
            database,
            pool,
            node,
            root,
        };
        stage.install().await?;
        Ok(stage)
    }

    /// Installs the operator as docs/installation.md says.
    async fn install(&self) -> Result<()> {
        say("\nThe operator is installed by its chart; its database is named by a Secret.");
        self.kubectl(&["create", "namespace", RELEASE]).await?;
        // The URL is nobody's business on a screen.
        let url = format!("--from-literal=url={}", self.database.url());
        let secret = ["--namespace", RELEASE, "create", "secret", "generic", SECRET, &url];
        println!("\n  $ kubectl {} --from-literal=url=...", secret[..6].join(" "));
        println!("  {}", self.quietly(&secret).await?.trim_end());
        let value = format!("database.secretName={SECRET}");
        let chart = "charts/environment-operator";
        let arguments = [
            "install",
            RELEASE,
            chart,
            "--namespace",
            RELEASE,
            "--set",
            &value,
            "--wait",
        ];
        println!("\n  $ helm {}", arguments.join(" "));
        let mut helm = self.cluster.helm().await?;
        helm.current_dir(&self.root).args(arguments);
        let shown = text(helm, "").await?;
        // The first lines; the notes are for whoever has no story to follow.
        shown
            .lines()
            .take_while(|line| !line.starts_with("NOTES"))
            .for_each(|line| println!("  {line}"));
        self.kubectl(&["--namespace", RELEASE, "get", "pods"]).await
    }

    /// What the operator's Pods have logged.
    pub async fn logs(&self) -> Result<String> {
        let names = [
            "--namespace",
            RELEASE,
            "get",
            "pods",
            "--output=jsonpath={.items[*].metadata.name}",
        ];
        let names = self.quietly(&names).await?;
        Ok(names
            .split_whitespace()
            .map(|name| self.node.logs(RELEASE, name))
            .collect())
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
        let (kubectl, helm) = (self.cluster.kubectl().await?, self.cluster.helm().await?);
        println!("\nEverything stays until Ctrl-C. In another terminal:");
        println!("  export KUBECONFIG={}", self.cluster.admin_kubeconfig().display());
        println!("  {} get penv,envlease", kubectl.as_std().get_program().display());
        println!(
            "  {} --namespace {RELEASE} get values {RELEASE}",
            helm.as_std().get_program().display()
        );
        println!("  psql '{}'", self.database.url());
        println!(
            "  {} --namespace {RELEASE} logs --selector=app.kubernetes.io/component=operator --prefix --tail=-1",
            kubectl.as_std().get_program().display()
        );
        // There is no port-forward to this node: its Pods listen on loopback addresses of this machine.
        let pods = [
            "--namespace",
            RELEASE,
            "get",
            "pods",
            "--selector=app.kubernetes.io/component=operator",
            "--output=json",
        ];
        let pods: ObjectList<Pod> = serde_json::from_str(&self.quietly(&pods).await?)?;
        for address in pods.iter().filter_map(listening) {
            println!("  curl http://{address}:8080/metrics");
        }
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
