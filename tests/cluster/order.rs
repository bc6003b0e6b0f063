//! Objects and rows that come in any order settle to the same end.

use environment_operator::api::{Environment, EnvironmentPhase, LeasePhase, Reason};
use kube::ResourceExt;
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, reads, watches};
use crate::support::{GRACE, TestEnvironment, lease};

fn uid(environment: &Environment) -> Uuid {
    environment.uid().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_claim_gets_the_environment_that_it_names_also_where_that_comes_while_it_is_looked_at() {
    let world = TestEnvironment::new("order-named").await;
    let proxy = world.proxy().await;
    // The operator hears of no Job, so it reads the one that is named by uid: between its look and its grant.
    let _deaf = proxy.spoil(Fault::Withhold, watches("jobs"));
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    world.granted(lease("on-local")).await;
    let job = world.job("build", json!({ "suspend": true })).await;
    let reading = proxy.spoil(Fault::Withhold, reads("jobs"));
    let run = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build", "uid": job.uid().unwrap() });
    let claim = lease("claim")
        .environment("builder")
        .set("run", json!({ "objectRef": run }));
    world.claim(claim).await;
    reading.wait_for_hits(1).await;
    let builder = world.ssh_environment("builder").await;
    reading.lift();
    let granted = world.lease_in("claim", LeasePhase::Active).await;
    let environment = granted.status.unwrap().environment.unwrap();
    assert_eq!(environment.id, uid(&builder));
    world.settles().await;
}

#[tokio::test]
async fn an_archived_local_refuses_no_claim_whose_agent_is_not_known_yet() {
    let world = TestEnvironment::new("order-agent").await;
    let _operator = world.start().await;
    let builder = world.ssh_environment("builder").await;
    let agent = world.insert_agent(world.company()).await;
    world.set_default_environment(agent, uid(&builder)).await;
    sqlx::query(
        "INSERT INTO environments (company_id, name, driver, status) VALUES ($1, 'Local', 'local', 'archived')",
    )
    .bind(world.company())
    .execute(&world.pool)
    .await
    .unwrap();
    let (run, other) = (Uuid::new_v4(), Uuid::new_v4());
    world.claim(lease("of-run").heartbeat_run(run)).await;
    world.claim(lease("of-agent").set("agentId", json!(other))).await;
    world
        .lease_because("of-run", LeasePhase::Pending, Reason::RunNotFound)
        .await;
    world
        .lease_because("of-agent", LeasePhase::Pending, Reason::ReferenceNotFound)
        .await;
    sqlx::query("INSERT INTO heartbeat_runs (id, company_id, agent_id, status) VALUES ($1, $2, $3, 'running')")
        .bind(run)
        .bind(world.company())
        .bind(agent)
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query("INSERT INTO agents (id, company_id, name, default_environment_id) VALUES ($1, $2, 'Bea', $3)")
        .bind(other)
        .bind(world.company())
        .bind(uid(&builder))
        .execute(&world.pool)
        .await
        .unwrap();
    for name in ["of-run", "of-agent"] {
        let granted = world.lease_in(name, LeasePhase::Active).await;
        assert_eq!(granted.status.unwrap().environment.unwrap().id, uid(&builder));
    }
}

#[tokio::test]
async fn a_claim_is_not_refused_for_an_archived_environment_whose_return_has_not_been_heard_of() {
    let world = TestEnvironment::new("order-archived").await;
    let mut operator = world.start().await;
    let environment = world.ssh_environment("builder").await;
    world.archive_environment("builder", true).await;
    world.environment_in("builder", EnvironmentPhase::Archived).await;
    operator.stop(GRACE).await.unwrap();
    let proxy = world.proxy().await;
    // The list shows it as archived; of its return nothing is heard.
    let _deaf = proxy.spoil(Fault::Withhold, watches("environments"));
    let deaf = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    deaf.wait_ready().await;
    world.claim(lease("before").environment("builder")).await;
    world
        .lease_because("before", LeasePhase::Failed, Reason::EnvironmentArchived)
        .await;
    world.archive_environment("builder", false).await;
    let after = world.granted(lease("after").environment("builder")).await;
    assert_eq!(after.status.unwrap().environment.unwrap().id, uid(&environment));
    world.settles().await;
}

#[tokio::test]
async fn a_label_that_comes_after_the_first_row_moves_nothing_and_new_objects_say_so() {
    let world = TestEnvironment::new("order-label").await;
    let _operator = world.start().await;
    world.ssh_environment("first").await;
    world.granted(lease("held").environment("first")).await;
    let rows = async || {
        (
            world.environment_rows(world.company()).await,
            world.lease_rows(world.company()).await,
        )
    };
    let before = rows().await;
    let late = Uuid::new_v4();
    world.label_company(Some(&late.to_string())).await;
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    world
        .environment("second", json!({ "driver": "SSH", "ssh": ssh }))
        .await;
    world.claim(lease("on-first").environment("first")).await;
    world.claim(lease("on-second").environment("second")).await;
    world.environment_not_ready("second", Reason::CompanyChanged).await;
    for name in ["on-first", "on-second"] {
        world
            .lease_because(name, LeasePhase::Pending, Reason::CompanyChanged)
            .await;
    }
    assert_eq!(rows().await, before);
    assert_eq!(world.company_row(late).await, None);
    world.lease_in("held", LeasePhase::Active).await;
    world.label_company(None).await;
    for name in ["on-first", "on-second"] {
        let granted = world.lease_in(name, LeasePhase::Active).await;
        assert_eq!(granted.status.unwrap().company_id, Some(world.company()));
    }
    world.settles().await;
}
