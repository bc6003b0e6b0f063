//! Two replicas: one leads, and what the other one, or a former leader, does changes nothing.

use std::path::PathBuf;

use environment_operator::api::{LeasePhase, Reason};
use harness::control_plane::audit::{AuditEvent, Mark};
use harness::control_plane::kubeconfig;
use harness::operator::Operator;
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, Proxy, writes_status_of};
use crate::support::relay::Relay;
use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease, release};

/// One of several operators of a world, with a Pod of its own, so that its requests can be told from the others'.
struct Replica {
    operator: Operator,
    pod: String,
}

impl Replica {
    async fn start(world: &TestEnvironment<'_>, number: u32) -> Self {
        let (pod, kubeconfig) = identity(world, number).await;
        let operator = world
            .operator()
            .kubeconfig(&kubeconfig)
            .env("HOSTNAME", &pod)
            .start()
            .unwrap();
        operator.wait_ready().await;
        Self { operator, pod }
    }

    async fn leads(&self) -> bool {
        self.operator
            .metric("environment_operator_leadership", "")
            .await
            .unwrap()
            > 0.0
    }

    /// Waits until its log tells that the Pod of `leader` leads.
    async fn tells_who_leads(&self, leader: &Self) {
        eventually("the log tells who leads", LIMIT, async || {
            let log = self.operator.log();
            let last = log.lines().rfind(|line| line.contains("learned who leads"));
            let last = last.unwrap_or_default().to_owned();
            if last.contains(&leader.pod) { Ok(()) } else { Err(last) }
        })
        .await;
    }

    /// What it has changed since then: writes that the API server did.
    fn changes_since(&self, world: &TestEnvironment<'_>, mark: Mark) -> Vec<AuditEvent> {
        let done = |event: &AuditEvent| event.response_status.as_ref().is_some_and(|status| status.code < 300);
        let log = world.control_plane().audit();
        log.writes(mark, |event| event.pod() == Some(&self.pod) && done(event))
            .unwrap()
    }
}

async fn identity(world: &TestEnvironment<'_>, number: u32) -> (String, PathBuf) {
    let pod = format!("{}-{number}", world.namespace.name());
    let plane = world.control_plane();
    let kubeconfig = plane.pod_kubeconfig(release::NAMESPACE, release::ACCOUNT, &pod).await;
    (pod, kubeconfig.unwrap())
}

/// Waits until the replica leads, longer than a term lasts.
async fn wait_for_lead(replica: &Replica) {
    eventually("the replica leads", LIMIT, async || {
        if replica.leads().await {
            Ok(())
        } else {
            Err("it does not")
        }
    })
    .await;
}

#[tokio::test]
async fn one_of_two_replicas_leads_and_the_other_takes_over_when_it_is_killed() {
    let world = TestEnvironment::new("replicas").await;
    let mut first = Replica::start(&world, 1).await;
    wait_for_lead(&first).await;
    let second = Replica::start(&world, 2).await;
    world.ssh_environment("box").await;
    let mark = world.mark();
    let run = world.insert_run().await;
    world
        .granted(lease("first").environment("box").heartbeat_run(run))
        .await;
    let epoch = world.epoch().await;
    assert!(!second.leads().await, "one leads");
    for replica in [&first, &second] {
        replica.tells_who_leads(&first).await;
    }
    assert_eq!(
        second.changes_since(&world, mark).len(),
        0,
        "the other one writes nothing"
    );

    first.operator.kill().unwrap();
    world.claim(lease("second").environment("box")).await;
    world.set_run_status(&[run], "failed").await;
    world.lease_in("second", LeasePhase::Active).await;
    world
        .lease_because("first", LeasePhase::Failed, Reason::RunFailed)
        .await;
    assert!(second.leads().await);
    second.tells_who_leads(&second).await;
    assert!(world.epoch().await > epoch);
    let terms = second
        .operator
        .metric("environment_operator_leadership_changes_total", "");
    assert_eq!(terms.await.unwrap(), 1.0, "one takeover");
    world.settles().await;
}

#[tokio::test]
async fn a_leader_that_stops_in_order_hands_over_at_once() {
    let world = TestEnvironment::new("replicas").await;
    let mut first = Replica::start(&world, 1).await;
    wait_for_lead(&first).await;
    world.ssh_environment("box").await;
    let second = Replica::start(&world, 2).await;
    let status = first.operator.stop(GRACE).await.unwrap();
    assert!(status.success(), "{status}");
    // The follower asks for its turn every third of a term; the term itself need not pass.
    wait_for_lead(&second).await;
    world.granted(lease("after").environment("box")).await;
    world.settles().await;
}

#[tokio::test]
async fn a_leader_that_is_paused_past_its_term_changes_nothing_when_it_goes_on() {
    let world = TestEnvironment::new("replicas").await;
    let (pod, kubeconfig) = identity(&world, 1).await;
    let upstream = kubeconfig::client(&kubeconfig).await.unwrap();
    let proxy = Proxy::start(upstream, None).await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    let mut paused = Replica { operator, pod };
    wait_for_lead(&paused).await;
    world.ssh_environment("box").await;
    let runs = [world.insert_run().await, world.insert_run().await];
    world
        .granted(lease("held").environment("box").heartbeat_run(runs[0]))
        .await;
    // The worst moments: one status is on its way to the API server, one transaction waits for its table.
    let on_its_way = proxy.spoil(Fault::Withhold, writes_status_of("environmentleases"));
    world
        .claim(lease("half-shown").environment("box").heartbeat_run(runs[1]))
        .await;
    on_its_way.wait_for_hits(1).await;
    let mut obstruction = world.obstruct("environment_leases").await;
    world.claim(lease("half-granted").environment("box")).await;
    obstruction.wait_for_operator().await;
    paused.operator.pause().unwrap();
    let epoch = world.epoch().await;
    obstruction.clear().await;

    let next = Replica::start(&world, 2).await;
    wait_for_lead(&next).await;
    let term = world.epoch().await;
    assert!(term > epoch);
    world.lease_in("half-shown", LeasePhase::Active).await;
    world.lease_in("half-granted", LeasePhase::Active).await;
    world.set_run_status(&runs, "failed").await;
    world.release("half-granted").await;
    for name in ["held", "half-shown"] {
        world.lease_because(name, LeasePhase::Failed, Reason::RunFailed).await;
    }
    world
        .lease_because("half-granted", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.settles().await;
    let before = snapshot(&world).await;

    let mark = world.mark();
    on_its_way.lift();
    // The status that was on its way arrives, and is refused for its version. Only then does its sender go on: it would take
    // its question back, for it has waited too long.
    eventually("what was on its way is answered", LIMIT, async || {
        let log = world.control_plane().audit();
        let writes = log.writes(mark, |event| event.pod() == Some(&paused.pod)).unwrap();
        let refused = writes
            .iter()
            .any(|event| event.response_status.as_ref().is_some_and(|status| status.code == 409));
        if refused { Ok(()) } else { Err(format!("{writes:#?}")) }
    })
    .await;
    paused.operator.resume().unwrap();
    eventually("the former leader follows", LIMIT, async || {
        let answer = paused
            .operator
            .get("/readyz")
            .await
            .map_err(|error| error.to_string())?;
        let leads = paused.operator.metric("environment_operator_leadership", "").await;
        match (answer.status, leads) {
            (200, Ok(0.0)) => Ok(()),
            (_, leads) => Err(format!("{} {leads:?}", answer.body)),
        }
    })
    .await;
    let changes = paused.changes_since(&world, mark);
    assert!(changes.is_empty(), "{changes:#?}");
    assert_eq!(snapshot(&world).await, before);
    assert_eq!(world.epoch().await, term, "the new leader still leads");
}

/// Rows and objects as they stand.
async fn snapshot(world: &TestEnvironment<'_>) -> Vec<serde_json::Value> {
    let mut all = world.lease_rows(world.company()).await;
    all.extend(world.environment_rows(world.company()).await);
    for name in ["held", "half-shown", "half-granted"] {
        let lease = world.leases().get(name).await.unwrap();
        let id: Uuid = lease.uid().unwrap().parse().unwrap();
        all.push(world.record(id).await.unwrap());
        all.extend(world.activity(id).await);
        all.push(serde_json::to_value(lease).unwrap());
    }
    all
}

#[tokio::test]
async fn a_former_leader_that_is_cut_off_from_postgres_alone_does_not_contradict_the_next_one() {
    let world = TestEnvironment::new("replicas").await;
    let way = Relay::to(&world.database).await;
    let (pod, kubeconfig) = identity(&world, 1).await;
    let operator = world.operator().kubeconfig(&kubeconfig).database_url(way.url()).start();
    let operator = operator.unwrap();
    operator.wait_ready().await;
    let former = Replica { operator, pod };
    wait_for_lead(&former).await;
    world.claim(lease("before").environment("nowhere")).await;
    world
        .lease_because("before", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    let next = Replica::start(&world, 2).await;

    drop(way);
    wait_for_lead(&next).await;
    world.claim(lease("after").environment("nowhere")).await;
    for round in 0..5 {
        for name in ["before", "after"] {
            world
                .lease_because(name, LeasePhase::Pending, Reason::EnvironmentNotFound)
                .await;
        }
        let mark = world.mark();
        let mut seen = Vec::new();
        for name in ["before", "after"] {
            let change = Patch::Merge(json!({ "metadata": { "annotations": { "round": round.to_string() } } }));
            let changed = world.leases().patch(name, &PatchParams::default(), &change).await;
            seen.push((id_of(&changed.unwrap()), former.operator.log().len()));
        }
        // Both have something to look at; what the former leader finds, it leaves to the other one.
        for (id, length) in seen {
            eventually("the former leader has looked", LIMIT, async || {
                let log = former.operator.log();
                let left = log[length..]
                    .lines()
                    .any(|line| line.contains("left to who leads now") && line.contains(&id.to_string()));
                let changes = former.changes_since(&world, mark);
                assert!(changes.is_empty(), "{changes:#?}");
                if left { Ok(()) } else { Err("it has not") }
            })
            .await;
        }
    }
    world.settles().await;
}
