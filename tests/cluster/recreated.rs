//! Leases and Environments that are deleted and made again under their names, at random, while the operator's writes of
//! statuses are on their way: nobody is forgotten, and whoever's turn it is gets it.

use std::time::{Duration, Instant};

use environment_operator::api::{EnvironmentLease, LeasePhase};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::proxy::{Fault, writes_status_of};
use crate::support::{TestEnvironment, lease};

/// Within this every claim is decided whose turn it is: a second, and as much again as other tests beside may take.
const TURN: Duration = Duration::from_secs(5);

/// Longest time that a write of a status is on its way.
const DELAY: Duration = Duration::from_millis(150);

const ENVIRONMENTS: [&str; 2] = ["one", "two"];

const LEASES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const STEPS: usize = 120;

/// Numbers that a seed gives, one after the other.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn exclusive() -> Value {
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    json!({ "driver": "SSH", "ssh": ssh, "maxActiveLeases": 1 })
}

/// Deletes an object if it is there, and does not wait for anybody to notice.
async fn delete(world: &TestEnvironment<'_>, environment: bool, name: &str) {
    let parameters = kube::api::DeleteParams::default();
    let deleted = if environment {
        world.environments().delete(name, &parameters).await.map(drop)
    } else {
        world.leases().delete(name, &parameters).await.map(drop)
    };
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        outcome => outcome.unwrap(),
    }
}

async fn all(world: &TestEnvironment<'_>) -> Vec<EnvironmentLease> {
    world.leases().list(&ListParams::default()).await.unwrap().items
}

fn phase(lease: &EnvironmentLease) -> Option<LeasePhase> {
    lease.status.as_ref().and_then(|status| status.phase)
}

fn of<'l>(leases: &'l [EnvironmentLease], environment: &str, wanted: LeasePhase) -> Vec<&'l EnvironmentLease> {
    let named = |lease: &&EnvironmentLease| {
        let reference = lease.spec.environment_ref.as_ref();
        reference.is_some_and(|reference| reference.name == environment) && phase(lease) == Some(wanted)
    };
    leases.iter().filter(named).collect()
}

/// What is not as it should be once everybody has been looked at: each environment has one holder if anybody wants it.
fn faults(leases: &[EnvironmentLease]) -> Vec<String> {
    let undecided = leases.iter().filter(|lease| phase(lease).is_none());
    let mut faults: Vec<String> = undecided
        .map(|lease| format!("{} shows nothing", lease.name_any()))
        .collect();
    for environment in ENVIRONMENTS {
        let held = of(leases, environment, LeasePhase::Active).len();
        let waiting = of(leases, environment, LeasePhase::Pending).len();
        if held > 1 || (held == 0 && waiting > 0) {
            faults.push(format!("{environment}: {held} held, {waiting} wait"));
        }
    }
    faults
}

async fn everybody_has_a_turn(world: &TestEnvironment<'_>, seed: u64) -> Vec<EnvironmentLease> {
    eventually(&format!("everybody has a turn (seed {seed})"), TURN, async || {
        let leases = all(world).await;
        match faults(&leases) {
            faults if faults.is_empty() => Ok(leases),
            faults => Err(faults.join("; ")),
        }
    })
    .await
}

#[tokio::test]
async fn whoever_is_made_again_under_a_name_while_statuses_are_written_is_decided_in_its_turn() {
    let world = TestEnvironment::new("again").await;
    let proxy = world.proxy().await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    let mut random = Random(seed | 1);
    let slow_leases = proxy.spoil(Fault::Delay(DELAY), writes_status_of("environmentleases"));
    let slow_environments = proxy.spoil(Fault::Delay(DELAY), writes_status_of("environments"));
    for name in ENVIRONMENTS {
        world.environment(name, exclusive()).await;
    }
    for _ in 0..STEPS {
        if random.below(5) == 0 {
            let name = ENVIRONMENTS[random.below(ENVIRONMENTS.len())];
            delete(&world, true, name).await;
            world.environment(name, exclusive()).await;
        } else {
            let name = LEASES[random.below(LEASES.len())];
            delete(&world, false, name).await;
            if random.below(4) > 0 {
                let environment = ENVIRONMENTS[random.below(ENVIRONMENTS.len())];
                world.claim(lease(name).environment(environment)).await;
            }
        }
    }
    // One after the other they have their turn, each at once when the one before it has gone.
    let mut slowest = Duration::ZERO;
    loop {
        let leases = everybody_has_a_turn(&world, seed).await;
        let held = ENVIRONMENTS
            .iter()
            .flat_map(|name| of(&leases, name, LeasePhase::Active));
        let Some(holder) = held.map(ResourceExt::name_any).next() else {
            break;
        };
        let begun = Instant::now();
        delete(&world, false, &holder).await;
        everybody_has_a_turn(&world, seed).await;
        slowest = slowest.max(begun.elapsed());
    }
    println!("the slowest turn took {slowest:?}");
    assert!(
        slow_leases.hits() > 0 && slow_environments.hits() > 0,
        "statuses were delayed"
    );
    slow_leases.lift();
    slow_environments.lift();
    world.settles().await;
}
