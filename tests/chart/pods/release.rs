//! A release of the chart on a cluster with a node.

use std::path::Path;

use environment_operator::api::{EnvironmentLease, EnvironmentLeaseStatus, LeasePhase};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::http::{self, Answer};
use harness::node_agent::{Images, NodeAgent, listening};
use harness::objects;
use harness::operator::sum;
use harness::postgres::{Database, Postgres};
use harness::wait::eventually;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::installed::{LIMIT, helm};
use crate::operator::PROGRAM;
use crate::support::{NAMESPACE, RELEASE, chart};

/// How long helm waits. Far more than is needed: a test that reaches it fails.
const PATIENCE: &str = "120s";

/// A cluster with a node, for one release at a time: definitions, rights and policies are the whole cluster's.
pub struct Site {
    pub control_plane: &'static ControlPlane,
    pub client: Client,
    pub node: NodeAgent,
    pub database: Database,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    /// Without a release, with a database of its own, whose URL the Secret `database` has.
    pub async fn prepare() -> Self {
        static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let start = async || ControlPlane::start(&guard::fresh_directory("pods").unwrap()).await;
        let control_plane = PLANE.get_or_try_init(start).await.unwrap();
        let client = control_plane.client().await.unwrap();
        let images = Images::usual().await.unwrap().with_operator(Path::new(PROGRAM));
        let site = Self {
            control_plane,
            node: NodeAgent::start(control_plane, None, images).await.unwrap(),
            database: Postgres::shared().await.database().await.unwrap(),
            client,
            _alone: alone,
        };
        site.clear().await;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": NAMESPACE,
            "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
        } });
        site.apply(&namespace.to_string()).await;
        site.secret("database", site.database.url()).await;
        site
    }

    /// Removes what a test before this one has left: its node is gone, so nobody but us confirms the end of its Pods.
    async fn clear(&self) {
        self.helm(&["uninstall", RELEASE, "--ignore-not-found"]).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let at_once = DeleteParams::default().grace_period(0);
        eventually("nothing is left of the release", LIMIT, async || {
            if namespaces
                .get_opt(NAMESPACE)
                .await
                .map_err(|error| error.to_string())?
                .is_none()
            {
                return Ok(());
            }
            // Either may be gone meanwhile.
            let _ = namespaces.delete(NAMESPACE, &DeleteParams::default()).await;
            let _ = pods.delete_collection(&at_once, &ListParams::default()).await;
            Err("the namespace is still there".to_owned())
        })
        .await;
    }

    /// Uninstalls the release; returns once its Pods are gone.
    pub async fn uninstall(&self) {
        let answer = self.helm(&["uninstall", RELEASE, "--wait", "--timeout", "60s"]).await;
        self.expect(answer).await;
    }

    /// Makes or changes a Secret with the URL of a database.
    pub async fn secret(&self, name: &str, url: &str) {
        let secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "url": url } });
        self.apply(&secret.to_string()).await;
    }

    /// Applies manifests in the release's namespace.
    pub async fn apply(&self, manifests: &str) {
        eventually("the manifests are applied", LIMIT, async || {
            let applied = objects::apply(&self.client, NAMESPACE, manifests).await;
            applied.map_err(|error| format!("{error:#}"))
        })
        .await;
    }

    /// Runs helm on the release's namespace. `Err` is what it says on standard error.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        helm(self.control_plane, arguments).await
    }

    /// `helm install` or `helm upgrade` with `--wait` and values.
    pub async fn helm_waits(&self, command: &str, patience: &str, values: &[&str]) -> Result<String, String> {
        let chart = chart();
        let mut arguments = vec![
            command,
            RELEASE,
            chart.to_str().unwrap(),
            "--wait",
            "--timeout",
            patience,
        ];
        arguments.extend(["--set", "database.secretName=database"]);
        arguments.extend(values.iter().flat_map(|value| ["--set", *value]));
        self.helm(&arguments).await
    }

    /// Installs the chart; returns once helm says that it works.
    pub async fn install(&self, values: &[&str]) {
        let answer = self.helm_waits("install", PATIENCE, values).await;
        self.expect(answer).await;
    }

    /// Upgrades the release; returns once helm says that it works.
    pub async fn upgrade(&self, values: &[&str]) {
        let answer = self.helm_waits("upgrade", PATIENCE, values).await;
        self.expect(answer).await;
    }

    /// Fails the test where helm failed, with what the Pods have printed.
    pub async fn expect(&self, answer: Result<String, String>) {
        if let Err(said) = answer {
            panic!("{said}\n{}", self.logs().await);
        }
    }

    /// What the operator's Pods have printed.
    pub async fn logs(&self) -> String {
        let names = self.operators().await.into_iter().filter_map(|pod| pod.metadata.name);
        names.map(|name| self.node.logs(NAMESPACE, &name)).collect()
    }

    /// The operator's Pods that are not being deleted, by name.
    pub async fn operators(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let of_it = ListParams::default().labels("app.kubernetes.io/component=operator");
        let mut found = pods.list(&of_it).await.unwrap().items;
        found.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        found.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        found
    }

    /// The names of the operator's Pods.
    pub async fn names(&self) -> Vec<String> {
        let names = self.operators().await.into_iter().filter_map(|pod| pod.metadata.name);
        names.collect()
    }

    /// What the operator's Pods say to a path, in the order of their names.
    pub async fn ask(&self, path: &str) -> Vec<Answer> {
        self.try_ask(path).await.unwrap()
    }

    /// The same, where a Pod may not answer yet.
    pub async fn try_ask(&self, path: &str) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        for pod in self.operators().await {
            let address = listening(&pod).ok_or("a Pod has no address")?;
            let answer = http::get((address, 8080), path).await;
            answers.push(answer.map_err(|error| format!("{error:#}"))?);
        }
        Ok(answers)
    }

    /// The sum of a metric over all Pods.
    pub async fn metric(&self, name: &str) -> f64 {
        let answers = self.ask("/metrics").await;
        answers.iter().map(|answer| sum(&answer.body, name, "").unwrap()).sum()
    }

    /// Waits until a lease is in a phase, or, where that is an end, in any other end.
    pub async fn lease_in(&self, namespace: &str, name: &str, phase: LeasePhase) -> EnvironmentLeaseStatus {
        let leases: Api<EnvironmentLease> = Api::namespaced(self.client.clone(), namespace);
        eventually(&format!("lease {name} is {phase:?}"), LIMIT, async || {
            let status = leases.get(name).await.map_err(|error| error.to_string())?.status;
            match status {
                Some(status) if status.phase == Some(phase) => Ok(status),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }
}
