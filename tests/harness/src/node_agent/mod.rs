//! A node without a kubelet: Pods become processes of this machine, with real exit codes.
//!
//! The agent registers a Node, binds Pods to it (there is no scheduler), runs their containers as local processes and
//! writes the Pods' status; the real controllers do all the rest. Images are looked up in a table ([`Images`]). A container
//! has a mount namespace of its own with its volumes at their paths, the ServiceAccount's token among them, and its probes,
//! user, groups, capabilities and read-only root are kept. It shares the network and the process ids of the machine: a Pod's
//! address is a loopback address that nobody else has, and a program has to be told to listen there. Not known here:
//! seccomp, limits, Services' addresses, `kubectl logs --follow` and `exec`.

mod address;
mod container;
mod environment;
mod images;
mod pod;
mod probe;
mod running;
mod server;
mod source;
mod status;
mod user;
mod volumes;

pub use address::listening;
pub use images::{Image, Images};

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::control_plane::{ControlPlane, kubeconfig};
use crate::guard;
use address::PodAddress;
use pod::Life;
use server::Server;

/// The user that the agent speaks as, so that the audit log tells it from others.
pub const USER: &str = "harness:node-agent";

/// How long after a broken watch the next list follows.
const RETRY: Duration = Duration::from_millis(200);

/// A running node. Its Pods' processes are killed when it is dropped; it belongs to the runtime that it was started in.
#[derive(Debug)]
pub struct NodeAgent {
    directory: PathBuf,
    _server: Server,
    task: JoinHandle<()>,
}

impl NodeAgent {
    /// Registers a node that takes every Pod of `namespace` (`None`: of all namespaces), and starts working.
    ///
    /// Tests that share a control plane give each agent a namespace of its own.
    ///
    /// # Errors
    /// When the Node cannot be made.
    pub async fn start(cluster: &ControlPlane, namespace: Option<&str>, images: Images) -> Result<Self> {
        Self::start_renewing(cluster, namespace, images, Duration::MAX).await
    }

    /// The same, with tokens that are replaced after `token_age`, where their own time would not have them replaced earlier.
    ///
    /// # Errors
    /// As [`NodeAgent::start`].
    pub async fn start_renewing(
        cluster: &ControlPlane,
        namespace: Option<&str>,
        images: Images,
        token_age: Duration,
    ) -> Result<Self> {
        let directory = guard::fresh_directory("node")?;
        let client = kubeconfig::client(&cluster.kubeconfig(USER, &["system:masters"])?).await?;
        let name = format!("node-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let server = Server::start(&directory).await?;
        register(&client, &name, server.port()).await?;
        let pods = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let work = Work {
            client,
            name,
            images,
            directory: directory.clone(),
            api_server_port: cluster.port(),
            token_age,
            pods: HashMap::new(),
            lives: JoinSet::new(),
        };
        Ok(Self {
            directory,
            _server: server,
            task: tokio::spawn(work.run(pods)),
        })
    }

    /// What the containers of all Pods with this name have printed, each under its own heading.
    pub fn logs(&self, namespace: &str, pod: &str) -> String {
        let mut text = String::new();
        let folders = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for folder in folders.filter(|folder| {
            folder
                .file_name()
                .to_string_lossy()
                .starts_with(&prefix(namespace, pod))
        }) {
            for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if file.path().extension().is_some_and(|extension| extension == "log") {
                    let content = std::fs::read(file.path()).unwrap_or_default();
                    text += &format!(
                        "== {}\n{}",
                        file.file_name().display(),
                        String::from_utf8_lossy(&content)
                    );
                }
            }
        }
        text
    }
}

impl Drop for NodeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn prefix(namespace: &str, pod: &str) -> String {
    format!("{namespace}_{pod}_")
}

/// The agent's own state: which Pods it runs.
struct Work {
    client: kube::Client,
    name: String,
    images: Images,
    directory: PathBuf,
    api_server_port: u16,
    token_age: Duration,
    /// By uid: how to tell a Pod's task that it is to end.
    pods: HashMap<String, watch::Sender<Option<Duration>>>,
    lives: JoinSet<()>,
}

impl Work {
    /// Lists and watches for ever; a broken watch begins anew with a list.
    async fn run(mut self, pods: Api<Pod>) {
        loop {
            if let Err(error) = self.follow(&pods).await {
                eprintln!("node agent {}: {error:#}", self.name);
            }
            while self.lives.try_join_next().is_some() {}
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&mut self, pods: &Api<Pod>) -> Result<()> {
        let list = pods.list(&ListParams::default()).await.context("list Pods")?;
        let version = list
            .metadata
            .resource_version
            .context("the list of Pods has no resourceVersion")?;
        for pod in list.items {
            self.see(pod).await?;
        }
        let parameters = WatchParams::default().timeout(60);
        let mut events = std::pin::pin!(pods.watch(&parameters, &version).await.context("watch Pods")?);
        while let Some(event) = events.try_next().await.context("watch Pods")? {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => self.see(pod).await?,
                // By our own word, or by force; only then a process is left to end.
                WatchEvent::Deleted(pod) => {
                    if let Some(sender) = self.pods.remove(pod.metadata.uid.as_deref().unwrap_or_default()) {
                        sender.send_replace(Some(Duration::ZERO));
                    }
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => anyhow::bail!("watch Pods: {status:?}"),
            }
        }
        Ok(())
    }

    async fn see(&mut self, pod: Pod) -> Result<()> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending");
        match node {
            None if pod.metadata.deletion_timestamp.is_none() => self.bind(&pod).await,
            Some(node) if node == self.name => {
                if pod.metadata.deletion_timestamp.is_some() {
                    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
                    self.end(&pod, Duration::from_secs(seconds.try_into().unwrap_or_default()));
                } else if phase == "Pending" && !self.pods.contains_key(&uid) {
                    self.begin(uid, pod)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn bind(&self, pod: &Pod) -> Result<()> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let target = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.name.clone()),
            ..ObjectReference::default()
        };
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        };
        let binding = Binding { metadata, target };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match pods
            .create_subresource::<Binding, Value>("binding", name, &PostParams::default(), &binding)
            .await
        {
            Ok(_) => Ok(()),
            // Another agent was faster, or it is gone.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("bind Pod {namespace}/{name}")),
        }
    }

    fn begin(&mut self, uid: String, pod: Pod) -> Result<()> {
        let (sender, grace) = watch::channel(None);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let life = Life {
            token_age: volumes::token_age(&pod).map(|age| age.min(self.token_age)),
            client: self.client.clone(),
            images: self.images.clone(),
            directory: self.directory.join(format!("{}{uid}", prefix(&namespace, &name))),
            pod,
            api_server_port: self.api_server_port,
            address: PodAddress::free()?,
            grace,
        };
        self.pods.insert(uid, sender);
        self.lives.spawn(async move {
            if let Err(error) = life.run().await {
                eprintln!("node agent: Pod {namespace}/{name}: {error:#}");
            }
        });
        Ok(())
    }

    /// Tells a Pod's task to end it; a Pod that never ran here is let go at once.
    fn end(&mut self, pod: &Pod, grace: Duration) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.pods.get(&uid) {
            // Told once: a change of the object meanwhile prolongs nothing.
            Some(sender) => {
                sender.send_if_modified(|told| {
                    told.is_none_or(|before| grace < before) && {
                        *told = Some(grace);
                        true
                    }
                });
            }
            None => {
                let (client, pod) = (self.client.clone(), pod.clone());
                self.lives.spawn(async move {
                    if let Err(error) = pod::confirm_deletion(&client, &pod).await {
                        eprintln!("node agent: {error:#}");
                    }
                });
            }
        }
    }
}

async fn register(client: &kube::Client, name: &str, port: u16) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    nodes
        .create(
            &PostParams::default(),
            &Node {
                metadata,
                ..Node::default()
            },
        )
        .await
        .context("register the node")?;
    let amounts = json!({ "cpu": "64", "memory": "256Gi", "pods": "1000" });
    let status = json!({ "status": {
        "capacity": amounts,
        "allocatable": amounts,
        "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        "addresses": [{ "type": "InternalIP", "address": source::NODE_ADDRESS }],
        "conditions": [{ "type": "Ready", "status": "True", "reason": "AgentReady", "message": "the agent is at work" }],
    } });
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .context("report the node ready")?;
    Ok(())
}
