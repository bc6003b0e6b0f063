//! A scope that is shortened (`--namespaces`) ends nothing of what it leaves out: not what is gone there, nor what is over. And
//! no two installations look after one namespace.

use environment_operator::api::Environment;
use harness::namespace::Namespace;
use harness::objects;
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease};

#[tokio::test]
async fn a_scope_that_is_shortened_ends_nothing_of_what_it_leaves_out() {
    let world = TestEnvironment::new("scope").await;
    let other = Namespace::create(&world.client, "scope").await.unwrap();
    world.look_after(&other).await;
    let both = format!("--namespaces={},{}", world.namespace.name(), other.name());
    let mut operator = world.start_with(&[&both]).await;
    world.ssh_environment("box").await;
    let inside = id_of(&world.granted(lease("inside").environment("box")).await);
    let run = run_of(&world, &other).await;
    let without_run = outside(&world, &other, None).await;
    let with_run = outside(&world, &other, Some(run)).await;
    operator.stop(GRACE).await.unwrap();
    delete_environment_of(&world, &other).await;
    world.set_run_status(&[run], "failed").await;

    let mut operator = world.start_with(&["--resync-interval=1s", "--sweep-interval=1s"]).await;
    eventually("several lists and sweeps", LIMIT, async || {
        let lists = operator.metric("environment_operator_watch_lists_total", "").await;
        let lists = lists.map_err(|error| error.to_string())?;
        if lists >= 12.0 { Ok(()) } else { Err(lists.to_string()) }
    })
    .await;
    for lease in [inside, without_run, with_run] {
        assert_eq!(world.lease_row(lease).await.unwrap()["status"], "active");
    }
    operator.stop(GRACE).await.unwrap();

    let _operator = world.start_with(&[&both]).await;
    for (lease, reason) in [(without_run, "EnvironmentDeleted"), (with_run, "RunFailed")] {
        world.lease_row_is(lease, "failed").await;
        assert_eq!(world.record(lease).await.unwrap()["reason"], reason);
    }
    assert_eq!(world.lease_row(inside).await.unwrap()["status"], "active");
}

#[tokio::test]
async fn an_installation_does_not_start_on_another_one_s_namespace_while_that_lives() {
    let world = TestEnvironment::new("overlap").await;
    let mut first = world.start_with(&["--installation=first"]).await;
    let held = id_of(&world.granted(lease("held")).await);
    let mut second = world.operator().arg("--installation=second").start().unwrap();
    let sentence = format!(
        "database: installation \"first\" of this cluster looks after namespace {} already",
        world.namespace.name()
    );
    eventually("readiness names the other one", LIMIT, async || {
        let answer = second.get("/readyz").await.map_err(|error| error.to_string())?;
        let named = answer.status == 503 && answer.body.contains(&sentence);
        if named { Ok(()) } else { Err(answer.body) }
    })
    .await;
    assert!(second.is_running(), "it waits for its turn");
    first.stop(GRACE).await.unwrap();
    eventually(
        "it starts once the other one's start is a term ago",
        2 * LIMIT,
        async || match second.get("/readyz").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    assert_eq!(
        world.record(held).await.unwrap()["installation"],
        "second",
        "it takes over what the first one remembered"
    );
    assert_eq!(
        world.lease_row(held).await.unwrap()["status"],
        "active",
        "the first one's"
    );
}

/// A running run in the company of another namespace than the world's own.
async fn run_of(world: &TestEnvironment<'_>, namespace: &Namespace) -> Uuid {
    let company = namespace.uid().parse().unwrap();
    let agent = world.insert_agent(company).await;
    world.insert_run_of(company, agent, "running", json!({})).await
}

/// An environment, and an active lease on it, in another namespace than the world's own.
async fn outside(world: &TestEnvironment<'_>, namespace: &Namespace, run: Option<Uuid>) -> Uuid {
    let (name, run) = match run {
        Some(run) => ("with-run", format!(", run: {{heartbeatRunId: {run}}}")),
        None => ("without-run", String::new()),
    };
    let yaml = format!(
        "
apiVersion: paperclip.ing/v1alpha1
kind: Environment
metadata: {{name: box}}
spec: {{driver: SSH, ssh: {{host: build.example, username: ci, remoteWorkspacePath: /srv/work}}}}
---
apiVersion: paperclip.ing/v1alpha1
kind: EnvironmentLease
metadata: {{name: {name}}}
spec: {{environmentRef: {{name: box}}{run}}}
"
    );
    let made = objects::apply(&world.client, namespace.name(), &yaml).await.unwrap();
    let id = made[1].uid().unwrap().parse().unwrap();
    world.lease_row_is(id, "active").await;
    id
}

async fn delete_environment_of(world: &TestEnvironment<'_>, namespace: &Namespace) {
    let environments: Api<Environment> = Api::namespaced(world.client.clone(), namespace.name());
    environments.delete("box", &DeleteParams::default()).await.unwrap();
    eventually("the environment is gone", LIMIT, async || {
        match environments.get_opt("box").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
