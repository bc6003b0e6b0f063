//! Runners at work: each takes a lease, ends it its own way, and takes the next, until it is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use environment_operator::api::{EnvironmentLease, LeasePhase};
use futures::future::join_all;
use harness::objects;
use harness::wait::eventually;
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// How long a lease may take to be granted, and to be seen ended; a claim's own time is the default, ten minutes.
const LIMIT: Duration = Duration::from_secs(60);

/// How a runner ends its leases.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// `spec.release`, on the company's Local.
    Release,
    /// `spec.release`, on an environment that one lease alone may hold.
    ReleaseExclusive,
    /// Deletion of the object.
    Delete,
    /// A Job that is let run once the lease is held, and succeeds.
    Job,
    /// A heartbeat run that is cancelled.
    Run,
}

impl Way {
    /// Each of them, the exclusive one twice, so that two runners contend.
    const RUNNERS: [Self; 6] = [
        Self::Release,
        Self::ReleaseExclusive,
        Self::ReleaseExclusive,
        Self::Delete,
        Self::Job,
        Self::Run,
    ];

    /// The reason of its leases' ends.
    fn reason(self) -> &'static str {
        match self {
            Self::Release | Self::ReleaseExclusive => "ReleaseRequested",
            Self::Delete => "LeaseDeleted",
            Self::Job => "RunFinished",
            Self::Run => "RunCancelled",
        }
    }
}

/// A lease that was held and was ended.
#[derive(Debug)]
pub struct Held {
    pub uid: Uuid,
    pub reason: &'static str,
    /// From its creation to the moment in which its runner saw that it is held.
    pub waited: Duration,
}

/// Has the runners work in a namespace until `stop` is set and each has finished the lease that it has; hands back all that were
/// held. Heartbeat runs belong to `agent`.
pub async fn work(client: &Client, namespace: &str, pool: &PgPool, agent: Uuid, stop: &AtomicBool) -> Vec<Held> {
    let exclusive = json!({
        "apiVersion": "paperclip.ing/v1alpha1",
        "kind": "Environment",
        "metadata": { "name": "exclusive" },
        "spec": { "driver": "SSH", "maxActiveLeases": 1, "ssh": {
            "host": "box.example", "username": "agent", "remoteWorkspacePath": "/work",
            "privateKeySecretRef": { "name": "key", "key": "id" },
        } },
    });
    objects::apply(client, namespace, &exclusive.to_string()).await.unwrap();
    let runners = Way::RUNNERS.into_iter().enumerate().map(|(number, way)| Runner {
        name: format!("runner-{number}"),
        way,
        client: client.clone(),
        namespace: namespace.to_owned(),
        pool: pool.clone(),
        agent,
        stop,
    });
    join_all(runners.map(Runner::work))
        .await
        .into_iter()
        .flatten()
        .collect()
}

struct Runner<'a> {
    name: String,
    way: Way,
    client: Client,
    namespace: String,
    pool: PgPool,
    agent: Uuid,
    stop: &'a AtomicBool,
}

impl Runner<'_> {
    async fn work(self) -> Vec<Held> {
        let mut held = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let name = format!("{}-{}", self.name, held.len());
            held.push(self.hold_one(&name).await);
        }
        held
    }

    /// Takes a lease, ends it, and waits until its end is shown.
    async fn hold_one(&self, name: &str) -> Held {
        let (spec, run) = self.spec(name).await;
        let begun = Instant::now();
        let lease = EnvironmentLease::new(name, serde_json::from_value(spec).unwrap());
        let made = self.leases().create(&PostParams::default(), &lease).await.unwrap();
        self.until(name, |phase| phase == LeasePhase::Active).await;
        let waited = begun.elapsed();
        self.end(name, run).await;
        match self.way {
            Way::Delete => self.until_gone(name).await,
            _ => {
                let ended = [LeasePhase::Released, LeasePhase::Expired, LeasePhase::Failed];
                self.until(name, |phase| ended.contains(&phase)).await;
            }
        }
        Held {
            uid: made.metadata.uid.unwrap().parse().unwrap(),
            reason: self.way.reason(),
            waited,
        }
    }

    /// The spec of the next lease; its run, where it has one, is there already, and goes on until it is ended.
    async fn spec(&self, name: &str) -> (Value, Option<Uuid>) {
        match self.way {
            Way::Release | Way::Delete => (json!({}), None),
            Way::ReleaseExclusive => (json!({ "environmentRef": { "name": "exclusive" } }), None),
            Way::Job => {
                let container = json!({ "name": "run", "image": "busybox", "command": ["true"] });
                let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": {
                    "suspend": true,
                    "backoffLimit": 0,
                    "template": { "spec": { "restartPolicy": "Never", "containers": [container] } },
                } });
                objects::apply(&self.client, &self.namespace, &job.to_string())
                    .await
                    .unwrap();
                let reference = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name });
                (json!({ "run": { "objectRef": reference } }), None)
            }
            Way::Run => {
                let run: Uuid = sqlx::query_scalar(
                    "INSERT INTO heartbeat_runs (company_id, agent_id, status, started_at)
                     SELECT company_id, id, 'running', now() FROM agents WHERE id = $1 RETURNING id",
                )
                .bind(self.agent)
                .fetch_one(&self.pool)
                .await
                .unwrap();
                (json!({ "run": { "heartbeatRunId": run } }), Some(run))
            }
        }
    }

    /// Does what ends the lease.
    async fn end(&self, name: &str, run: Option<Uuid>) {
        let parameters = PatchParams::default();
        match self.way {
            Way::Release | Way::ReleaseExclusive => {
                let release = Patch::Merge(json!({ "spec": { "release": true } }));
                self.leases().patch(name, &parameters, &release).await.unwrap();
            }
            Way::Delete => drop(self.leases().delete(name, &DeleteParams::default()).await.unwrap()),
            Way::Job => {
                let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
                let resume = Patch::Merge(json!({ "spec": { "suspend": false } }));
                jobs.patch(name, &parameters, &resume).await.unwrap();
            }
            Way::Run => {
                sqlx::query("UPDATE heartbeat_runs SET status = 'cancelled', finished_at = now() WHERE id = $1")
                    .bind(run)
                    .execute(&self.pool)
                    .await
                    .unwrap();
            }
        }
    }

    async fn until(&self, name: &str, holds: impl Fn(LeasePhase) -> bool) {
        let leases = self.leases();
        eventually(&format!("lease {name} goes on"), LIMIT, async || {
            let status = leases.get(name).await.map_err(|error| error.to_string())?.status;
            match status.as_ref().and_then(|status| status.phase) {
                Some(phase) if holds(phase) => Ok(()),
                _ => Err(format!("{status:?}")),
            }
        })
        .await;
    }

    async fn until_gone(&self, name: &str) {
        let leases = self.leases();
        eventually(&format!("lease {name} is gone"), LIMIT, async || {
            match leases.get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    fn leases(&self) -> Api<EnvironmentLease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
