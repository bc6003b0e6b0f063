//! Environments that are deleted, and made again, at inconvenient moments.

use environment_operator::api::{Environment, EnvironmentPhase, LeasePhase, Reason};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::postgres::Postgres;
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::proxy::{Fault, reads, watches, writes_status_of};
use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease};

fn uid(environment: &Environment) -> Uuid {
    environment.uid().unwrap().parse().unwrap()
}

async fn archived(world: &TestEnvironment<'_>, id: Uuid) {
    eventually("the row is archived", LIMIT, async || {
        let row = world.environment_row(id).await.unwrap();
        if row["status"] == "archived" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn a_claim_whose_environment_is_deleted_under_its_grant_waits_for_the_next_one() {
    let world = TestEnvironment::new("environment-gone").await;
    let proxy = world.proxy().await;
    // The operator hears of no Job, so it reads the one that is named by uid: between its look and its grant.
    let deaf = proxy.spoil(Fault::Withhold, watches("jobs"));
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    let first = world.ssh_environment("builder").await.uid().unwrap().parse().unwrap();
    let agent = world.insert_agent(world.company()).await;
    world.set_default_environment(agent, first).await;
    let job = world.job("build", json!({ "suspend": true })).await;
    let reading = proxy.spoil(Fault::Withhold, reads("jobs"));
    let run = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build", "uid": job.uid().unwrap() });
    let claim = lease("claim")
        .set("agentId", json!(agent))
        .set("run", json!({ "objectRef": run }));
    world.claim(claim).await;
    reading.wait_for_hits(1).await;
    world.delete_environment("builder").await;
    archived(&world, first).await;
    reading.lift();
    world
        .lease_because("claim", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    let second = world.ssh_environment("builder").await;
    world
        .set_default_environment(agent, second.uid().unwrap().parse().unwrap())
        .await;
    let granted = world.lease_in("claim", LeasePhase::Active).await;
    let environment = granted.status.unwrap().environment.unwrap();
    assert_eq!(environment.id.to_string(), second.uid().unwrap());
    deaf.lift();
    world.settles().await;
}

#[tokio::test]
async fn a_lease_that_is_granted_but_not_shown_when_its_environment_is_deleted_fails_too() {
    let world = TestEnvironment::new("environment-unshown").await;
    let mut first = world.start().await;
    let id = world.ssh_environment("builder").await.uid().unwrap().parse().unwrap();
    first.stop(GRACE).await.unwrap();
    let proxy = world.proxy().await;
    // The lease is in the first list, and no later event of it comes before the operator's own write is answered.
    let _deaf = proxy.spoil(Fault::Withhold, watches("environmentleases"));
    let late = proxy.spoil(Fault::Withhold, writes_status_of("environmentleases"));
    world.claim(lease("claim").environment("builder")).await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    late.wait_for_hits(1).await;
    world.delete_environment("builder").await;
    archived(&world, id).await;
    late.lift();
    world
        .lease_because("claim", LeasePhase::Failed, Reason::EnvironmentDeleted)
        .await;
    world.settles().await;
}

/// The Paperclip server's view of a lease that is over: where it was held, and why it ended.
async fn history(world: &TestEnvironment<'_>, lease: Uuid) -> Value {
    sqlx::query_scalar(
        "SELECT jsonb_build_object('environment', e.name, 'driver', e.driver, 'status', e.status, 'lease', l.status,
           'why', l.failure_reason)
         FROM environment_leases AS l JOIN environments AS e ON e.id = l.environment_id WHERE l.id = $1",
    )
    .bind(lease)
    .fetch_one(&world.pool)
    .await
    .unwrap()
}

/// An Environment is deleted and another one made under its name, by `replace`.
async fn recreation_story(world: &TestEnvironment<'_>, replace: impl AsyncFnOnce()) {
    let first = uid(&world.ssh_environment("builder").await);
    let old = world.granted(lease("old").environment("builder")).await;
    replace().await;
    world
        .lease_because("old", LeasePhase::Failed, Reason::EnvironmentDeleted)
        .await;
    let second = world.environment_in("builder", EnvironmentPhase::Active).await;
    assert_ne!(first, uid(&second));
    let new = world.granted(lease("new").environment("builder")).await;
    assert_eq!(
        new.status.as_ref().unwrap().environment.as_ref().unwrap().id,
        uid(&second)
    );
    archived(world, first).await;
    assert_eq!(world.environment_row(uid(&second)).await.unwrap()["status"], "active");
    let why = "EnvironmentDeleted: environment builder was deleted";
    assert_eq!(
        history(world, id_of(&old)).await,
        json!({ "environment": "builder", "driver": "ssh", "status": "archived", "lease": "failed", "why": why })
    );
    world.settles().await;
}

#[tokio::test]
async fn an_environment_that_is_deleted_and_made_again_is_another_one_with_leases_of_its_own() {
    let world = TestEnvironment::new("environment-again").await;
    let _operator = world.start().await;
    recreation_story(&world, async || {
        world.delete_environment("builder").await;
        world.ssh_environment("builder").await;
    })
    .await;
}

#[tokio::test]
async fn an_environment_that_is_deleted_and_made_again_while_no_operator_runs_is_another_one_too() {
    let world = TestEnvironment::new("environment-unseen").await;
    let mut operator = world.start().await;
    recreation_story(&world, async || {
        operator.stop(GRACE).await.unwrap();
        world.delete_environment("builder").await;
        let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
        world
            .environment("builder", json!({ "driver": "SSH", "ssh": ssh }))
            .await;
        operator.start_again().unwrap();
    })
    .await;
}

/// What a Namespace holds that its deletion takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Environment,
    Job,
    Lease,
}

impl Part {
    async fn delete(self, world: &TestEnvironment<'_>) {
        match self {
            Self::Environment => world.delete_environment("builder").await,
            Self::Job => world.delete_job("build").await,
            Self::Lease => world.delete_lease("held").await,
        }
    }
}

#[tokio::test]
async fn a_lease_of_a_deleted_namespace_was_deleted_whatever_went_first() {
    let directory = guard::fresh_directory("cluster").unwrap();
    let control_plane = ControlPlane::start(&directory).await.unwrap();
    let parts = [Part::Environment, Part::Job, Part::Lease];
    for turn in 0..parts.len() {
        let world = TestEnvironment::on(&control_plane, Postgres::shared().await, "order", []).await;
        let proxy = world.proxy().await;
        // That the Namespace is going reaches the operator by its own reads alone: what went first is all that it hears.
        let deaf = proxy.spoil(Fault::Withhold, watches("namespaces"));
        let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
        operator.wait_ready().await;
        deaf.wait_for_hits(1).await;
        let environment = uid(&world.ssh_environment("builder").await);
        world.job("build", json!({ "suspend": true })).await;
        let lease = world.granted(lease("held").environment("builder").job("build")).await;
        // Nobody but the test deletes what is in it.
        control_plane.pause_controller_manager().await.unwrap();
        world.namespace.delete(&world.client).await.unwrap();
        let mut order = parts;
        order.rotate_left(turn);
        order[0].delete(&world).await;
        world.lease_row_is(id_of(&lease), "released").await;
        for part in &order[1..] {
            part.delete(&world).await;
        }
        archived(&world, environment).await;
        control_plane.resume_controller_manager().await.unwrap();
        assert_eq!(
            world.record(id_of(&lease)).await.unwrap()["reason"],
            "LeaseDeleted",
            "{order:?}"
        );
    }
}
