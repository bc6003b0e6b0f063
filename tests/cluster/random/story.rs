//! One lease and its fate, drawn: it is made, things happen to it, and what certainly happened is written down.

use std::time::Duration;

use environment_operator::api::{EnvironmentPhase, LeasePolicy};
use environment_operator::lifecycle::{LeaseState, RunOutcome};
use fastrand::Rng;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use super::oracle::{Change, Happened, History, RunOf};
use crate::support::{Claim, TestEnvironment, id_of, lease};

/// The environment that every lease may use, and the one that admits [`SLOTS`] at a time.
pub const SHARED: &str = "shared";
pub const LIMITED: &str = "limited";

/// How many leases [`LIMITED`] admits.
pub const SLOTS: i32 = 3;

/// The annotation by which a runner says that it is alive.
const HEARTBEAT: &str = "paperclip.ing/renew-time";

/// A lease after its story.
pub struct Told {
    pub name: String,
    pub id: Uuid,
    pub history: History,
    /// Its object goes as soon as it is finished.
    pub removed_at_once: bool,
    /// When the claim stops waiting.
    pub acquire_deadline: Timestamp,
    /// Without a heartbeat it ends after this time.
    pub heartbeat_timeout: Option<Duration>,
    /// The last sign of life.
    pub last_heartbeat: Timestamp,
}

/// What is drawn for one lease.
struct Teller<'a> {
    world: &'a TestEnvironment<'static>,
    random: Rng,
    name: String,
    id: Uuid,
    run: Run,
    /// An environment that no other lease uses.
    own_environment: Option<String>,
    changes: Vec<Happened>,
    heartbeat_timeout: Option<Duration>,
    last_heartbeat: Timestamp,
}

enum Run {
    None,
    /// The row, `None` for one that does not exist.
    Row(Option<Uuid>),
    Job(String),
    Pod(String),
}

/// Makes lease number `number`, lets things happen to it, and tells what did.
pub async fn tell(world: &TestEnvironment<'static>, number: usize, seed: u64) -> Told {
    let mut random = Rng::with_seed(seed.wrapping_add(number as u64));
    let name = format!("lease-{number}");
    let mut claim = lease(&name);
    let mut run_named = None;
    let (run, mut run_display) = draw_run(world, &mut random, &name).await;
    claim = match &run {
        Run::None => claim,
        Run::Row(id) => {
            let id = id.unwrap_or_else(|| Uuid::from_u64_pair(random.u64(..), random.u64(..)));
            run_display = Some(format!("run/{}", &id.to_string()[..8]));
            run_named = Some(format!("run/{id}"));
            claim.heartbeat_run(id)
        }
        Run::Job(job) => claim.job(job),
        Run::Pod(pod) => claim.run_object("v1", "Pod", pod),
    };
    let missing_run = matches!(run, Run::Row(None));
    let (claim, environment, own_environment) = draw_environment(world, &mut random, claim, &name).await;
    let (claim, policy) = draw_policy(&mut random, claim);
    let ttl = if random.u8(..5) == 0 { random.i32(2..8) } else { 3600 };
    // Short only for what may never be granted: others are refused at once or not at all.
    let acquire_timeout = if missing_run || environment == LIMITED {
        random.i32(3..20)
    } else {
        3600
    };
    let heartbeat_timeout = (random.u8(..6) == 0).then(|| random.u64(3..6));
    let removed_at_once = random.u8(..5) == 0;
    let mut claim = claim
        .set("ttlSeconds", ttl)
        .set("acquireTimeoutSeconds", acquire_timeout)
        .set("ttlSecondsAfterFinished", if removed_at_once { 0 } else { 3600 });
    if let Some(timeout) = heartbeat_timeout {
        claim = claim.set("heartbeatTimeoutSeconds", timeout);
    }
    let made = world.claim(claim).await;
    let created = made.creation_timestamp().expect("the API server dates every object").0;
    let mut teller = Teller {
        world,
        random,
        id: id_of(&made),
        name,
        own_environment,
        changes: Vec::new(),
        heartbeat_timeout: heartbeat_timeout.map(Duration::from_secs),
        last_heartbeat: Timestamp::now(),
        run,
    };
    if missing_run {
        teller.note(Change::RunGone, created);
    }
    for _ in 0..teller.random.u8(..4) {
        // Not a wait for anything: the moment itself is what is drawn.
        tokio::time::sleep(Duration::from_millis(teller.random.u64(..1500))).await;
        teller.next().await;
    }
    Told {
        history: History {
            run: match teller.run {
                Run::None => RunOf::None,
                Run::Row(_) => RunOf::Row,
                Run::Job(_) | Run::Pod(_) => RunOf::Object,
            },
            policy,
            run_named: run_named.or_else(|| run_display.clone()),
            run_display,
            limited: environment == LIMITED,
            environment,
            changes: teller.changes,
        },
        name: teller.name,
        id: teller.id,
        removed_at_once,
        acquire_deadline: created + Duration::from_secs(acquire_timeout.unsigned_abs().into()),
        heartbeat_timeout: teller.heartbeat_timeout,
        last_heartbeat: teller.last_heartbeat,
    }
}

async fn draw_run(world: &TestEnvironment<'static>, random: &mut Rng, name: &str) -> (Run, Option<String>) {
    match random.u8(..20) {
        0..4 => (Run::None, None),
        4..6 => (Run::Row(None), None),
        6..13 => (Run::Row(Some(world.insert_run().await)), None),
        13..16 => {
            world.pod(name, json!({})).await;
            (Run::Pod(name.to_owned()), Some(format!("pod/{name}")))
        }
        _ => {
            world.job(name, json!({})).await;
            (Run::Job(name.to_owned()), Some(format!("job/{name}")))
        }
    }
}

/// The claim with its environment, the name of the environment's row, and whether it is the lease's own.
async fn draw_environment(
    world: &TestEnvironment<'static>,
    random: &mut Rng,
    claim: Claim,
    name: &str,
) -> (Claim, String, Option<String>) {
    match random.u8(..10) {
        0..3 => (claim, "Local".to_owned(), None),
        3..6 => (claim.environment(SHARED), SHARED.to_owned(), None),
        6..8 => (claim.environment(LIMITED), LIMITED.to_owned(), None),
        _ => {
            let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
            world.environment(name, json!({ "driver": "SSH", "ssh": ssh })).await;
            (claim.environment(name), name.to_owned(), Some(name.to_owned()))
        }
    }
}

fn draw_policy(random: &mut Rng, claim: Claim) -> (Claim, LeasePolicy) {
    let policy = match random.u8(..4) {
        0 => LeasePolicy::Ephemeral,
        1 if random.bool() => LeasePolicy::ReuseByEnvironment,
        1 => LeasePolicy::ReuseByExecutionWorkspace,
        _ => LeasePolicy::RetainOnFailure,
    };
    (claim.set("policy", json!(policy)), policy)
}

impl Teller<'_> {
    fn note(&mut self, change: Change, from: Timestamp) {
        let until = Timestamp::now();
        self.changes.push(Happened { change, from, until });
    }

    fn has(&self, change: Change) -> bool {
        self.changes.iter().any(|happened| happened.change == change)
    }

    fn run_is_over(&self) -> bool {
        let over = |happened: &Happened| matches!(happened.change, Change::RunOver(_));
        self.changes.iter().any(over) || self.has(Change::RunGone)
    }

    /// One more thing happens, if what is drawn still can.
    async fn next(&mut self) {
        let from = Timestamp::now();
        match self.random.u8(..12) {
            0..4 if !self.run_is_over() => self.end_run(from).await,
            4 if !self.has(Change::RunGone) => self.delete_run(from).await,
            5..7 if !self.has(Change::ReleaseRequested) => {
                let patch = json!({ "spec": { "release": true } });
                if self.patch(patch).await {
                    self.note(Change::ReleaseRequested, from);
                }
            }
            7 if !self.has(Change::ObjectDeleted) => {
                if delete(&self.world.leases(), &self.name).await {
                    self.note(Change::ObjectDeleted, from);
                }
            }
            8 if !self.has(Change::EnvironmentDeleted) => {
                if let Some(environment) = self.own_environment.clone()
                    && delete(&self.world.environments(), &environment).await
                {
                    self.note(Change::EnvironmentDeleted, from);
                }
            }
            9 => self.end_row(from).await,
            10 if !self.has(Change::RowDeleted) => {
                if self.execute("DELETE FROM environment_leases WHERE id = $1").await {
                    self.note(Change::RowDeleted, from);
                }
            }
            _ => {
                let patch = json!({ "metadata": { "annotations": { HEARTBEAT: from.to_string() } } });
                if self.patch(patch).await {
                    self.last_heartbeat = Timestamp::now();
                }
            }
        }
    }

    async fn end_run(&mut self, from: Timestamp) {
        let outcomes = [
            ("succeeded", RunOutcome::Succeeded),
            ("failed", RunOutcome::Failed),
            ("cancelled", RunOutcome::Cancelled),
            ("timed_out", RunOutcome::TimedOut),
            ("interrupted", RunOutcome::Interrupted),
        ];
        match &self.run {
            Run::Row(Some(run)) => {
                let (status, outcome) = outcomes[self.random.usize(..outcomes.len())];
                self.world.set_run_status(&[*run], status).await;
                self.note(Change::RunOver(outcome), from);
            }
            Run::Job(name) | Run::Pod(name) => {
                let (phase, outcome) = if self.random.bool() {
                    ("Succeeded", RunOutcome::Succeeded)
                } else {
                    ("Failed", RunOutcome::Failed)
                };
                if matches!(self.run, Run::Job(_)) {
                    self.world.end_job(name, phase).await;
                    self.world.job_finished(name).await;
                } else {
                    self.world.set_pod_status(name, json!({ "phase": phase })).await;
                }
                self.note(Change::RunOver(outcome), from);
            }
            Run::None | Run::Row(None) => {}
        }
    }

    async fn delete_run(&mut self, from: Timestamp) {
        match &self.run {
            Run::Row(Some(run)) => self.world.delete_run(*run).await,
            Run::Job(job) => self.world.delete_job(job).await,
            Run::Pod(pod) => assert!(delete(&self.world.pods(), pod).await, "no one else deletes it"),
            Run::None | Run::Row(None) => return,
        }
        self.note(Change::RunGone, from);
    }

    /// Ends the row as the Paperclip server's release of a run's leases does: only if it is active.
    async fn end_row(&mut self, from: Timestamp) {
        let states = [LeaseState::Released, LeaseState::Expired, LeaseState::Failed];
        let state = states[self.random.usize(..states.len())];
        let statement = match state {
            LeaseState::Released => END_ROW[0],
            LeaseState::Expired => END_ROW[1],
            _ => END_ROW[2],
        };
        if self.execute(statement).await {
            self.note(Change::RowEnded(state), from);
        }
    }

    /// Whether the statement changed the lease's row.
    async fn execute(&self, statement: &'static str) -> bool {
        let done = sqlx::query(statement).bind(self.id).execute(&self.world.pool).await;
        done.expect("the database runs throughout").rows_affected() == 1
    }

    /// Whether the object was there to be patched.
    async fn patch(&self, patch: serde_json::Value) -> bool {
        let leases = self.world.leases();
        was_there(
            leases
                .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
    }
}

const END_ROW: [&str; 3] = [
    "UPDATE environment_leases SET status = 'released', released_at = now(), last_used_at = now(), updated_at = now()
     WHERE id = $1 AND status = 'active'",
    "UPDATE environment_leases SET status = 'expired', released_at = now(), last_used_at = now(), updated_at = now()
     WHERE id = $1 AND status = 'active'",
    "UPDATE environment_leases SET status = 'failed', released_at = now(), last_used_at = now(), updated_at = now()
     WHERE id = $1 AND status = 'active'",
];

/// Whether the object was there to be deleted.
async fn delete<K: Clone + std::fmt::Debug + DeserializeOwned>(api: &Api<K>, name: &str) -> bool {
    was_there(api.delete(name, &DeleteParams::default()).await)
}

fn was_there<T>(answer: Result<T, kube::Error>) -> bool {
    match answer {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        Err(error) => panic!("{error}"),
    }
}

/// Makes the environments that leases share.
pub async fn prepare(world: &TestEnvironment<'static>) {
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    world.environment(SHARED, json!({ "driver": "SSH", "ssh": ssh })).await;
    let limited = json!({ "driver": "SSH", "ssh": ssh, "maxActiveLeases": SLOTS });
    world.environment(LIMITED, limited).await;
    for name in [SHARED, LIMITED] {
        world.environment_in(name, EnvironmentPhase::Active).await;
    }
}
