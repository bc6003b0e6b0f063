//! Which environment a claim gets, whose it is, and what its driver gives to the row.

use environment_operator::api::{COMPANY_LABEL, Driver, EnvironmentLease, EnvironmentPhase};
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TestEnvironment, lease};

fn uid(lease: &EnvironmentLease) -> Uuid {
    lease.uid().unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_driver_lends_its_own_words_to_row_and_context() {
    let world = TestEnvironment::new("grant-driver").await;
    let _operator = world.start().await;
    let ssh = json!({ "host": "build.example", "port": 2222, "username": "ci", "remoteWorkspacePath": "/srv/work" });
    let sandbox =
        json!({ "provider": "kubernetes", "config": { "image": "a", "nested": { "list": [1, { "b": 2 }] } } });
    let plugin = json!({ "pluginKey": "acme", "driverKey": "box", "driverConfig": { "size": "large" } });
    world
        .environment(
            "builder",
            json!({ "driver": "SSH", "ssh": ssh, "description": "The big one" }),
        )
        .await;
    world
        .environment("cloud", json!({ "driver": "Sandbox", "sandbox": sandbox }))
        .await;
    world
        .environment(
            "box",
            json!({ "driver": "Plugin", "plugin": plugin, "metadata": { "team": "x" } }),
        )
        .await;
    let cases = [
        (
            "builder",
            ("ssh", json!("ssh"), json!("ssh://ci@build.example:2222/srv/work")),
            json!({
                "host": "build.example", "port": 2222, "username": "ci", "remoteWorkspacePath": "/srv/work",
                "privateKey": null, "privateKeySecretRef": null, "knownHosts": null, "strictHostKeyChecking": true,
            }),
            json!({ "remoteCwd": "/srv/work", "host": "build.example", "port": 2222, "username": "ci" }),
        ),
        (
            "cloud",
            ("sandbox", json!("kubernetes"), Value::Null),
            json!({ "provider": "kubernetes", "image": "a", "nested": { "list": [1, { "b": 2 }] } }),
            json!({}),
        ),
        (
            "box",
            ("plugin", json!("plugin:acme:box"), Value::Null),
            json!({ "pluginKey": "acme", "driverKey": "box", "driverConfig": { "size": "large" } }),
            json!({}),
        ),
    ];
    for (name, (driver, provider, provider_lease_id), config, more) in cases {
        let held = world.granted(lease(&format!("on-{name}")).environment(name)).await;
        let object = world.environment_in(name, EnvironmentPhase::Active).await;
        let environment = world
            .environment_row(object.uid().unwrap().parse().unwrap())
            .await
            .unwrap();
        assert_eq!(
            (&environment["name"], &environment["driver"]),
            (&json!(name), &json!(driver))
        );
        assert_eq!(environment["config"], config, "{name}");
        assert_eq!(environment["description"], json!(object.spec.description), "{name}");
        assert_eq!(environment["metadata"], json!(object.spec.metadata), "{name}");

        let row = world.lease_row(uid(&held)).await.unwrap();
        assert_eq!(row["environment_id"], environment["id"]);
        assert_eq!(
            (&row["provider"], &row["provider_lease_id"]),
            (&provider, &provider_lease_id),
            "{name}"
        );
        assert_eq!(row["metadata"], json!({ "driver": driver }), "{name}");
        let mut context = json!({ "id": environment["id"], "name": name, "driver": driver, "leaseId": uid(&held) });
        context
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        assert_eq!(json!(held.status.as_ref().unwrap().context), context, "{name}");
        assert_eq!(world.activity(uid(&held)).await[0]["details"]["driver"], driver);
    }
    // None of them needed a Local.
    assert!(world.environments().get_opt("local").await.unwrap().is_none());
}

#[tokio::test]
async fn a_claim_without_environment_gets_its_agent_s_default_named_or_by_the_run() {
    let world = TestEnvironment::new("grant-agent").await;
    let _operator = world.start().await;
    let default = world.ssh_environment("default").await;
    let agent = world.insert_agent(world.company()).await;
    sqlx::query("UPDATE agents SET default_environment_id = $2::uuid WHERE id = $1")
        .bind(agent)
        .bind(default.uid().unwrap())
        .execute(&world.pool)
        .await
        .unwrap();
    let run = world.insert_run_of(world.company(), agent, "queued", Value::Null).await;
    for claim in [
        lease("by-agent").set("agentId", json!(agent)),
        lease("by-run").heartbeat_run(run),
    ] {
        let held = world.granted(claim).await;
        let environment = held.status.unwrap().environment.unwrap();
        assert_eq!(
            (environment.id.to_string(), environment.driver),
            (default.uid().unwrap(), Driver::Ssh)
        );
    }
    // The context was null, not an object: it is one now.
    let context = &world.run_row(run).await.unwrap()["context_snapshot"];
    assert_eq!(context["paperclipEnvironment"]["name"], "default");
}

#[tokio::test]
async fn the_company_is_the_one_that_the_namespace_is_labelled_with() {
    let company = Uuid::new_v4();
    let world = TestEnvironment::with_labels("grant-label", [(COMPANY_LABEL, &company.to_string())]).await;
    let _operator = world.start().await;
    let held = world.granted(lease("labelled")).await;
    assert_eq!(held.status.as_ref().unwrap().company_id, Some(company));
    assert_eq!(world.lease_rows(company).await.len(), 1);
    assert_eq!(world.environment_rows(company).await.len(), 1);
    assert_eq!(
        world.company_row(world.company()).await,
        None,
        "the uid names no company here"
    );
}
