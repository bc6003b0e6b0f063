//! Environments that are deleted, and made again, at inconvenient moments.

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, Proxy, reads, watches, writes_status_of};
use crate::support::{GRACE, LIMIT, World, lease};

async fn archived(world: &World<'_>, id: Uuid) {
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
    let world = World::new("environment-gone").await;
    let proxy = Proxy::start(world.client.clone(), None).await;
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
    let world = World::new("environment-unshown").await;
    let mut first = world.start().await;
    let id = world.ssh_environment("builder").await.uid().unwrap().parse().unwrap();
    first.stop(GRACE).await.unwrap();
    let proxy = Proxy::start(world.client.clone(), None).await;
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
