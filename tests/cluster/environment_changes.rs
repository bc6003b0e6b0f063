//! What an edit of an Environment does to its row: what it says, once, and nothing else; and what cannot be stored, nothing.

use environment_operator::api::{
    Condition, ConditionStatus, ConditionType, Environment, EnvironmentPhase, EnvironmentStatus, LeasePhase, Reason,
};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::{LIMIT, TestEnvironment, lease, moment};

async fn patch(world: &TestEnvironment<'_>, name: &str, spec: &Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let edited = world.environments().patch(name, &PatchParams::default(), &patch).await;
    edited.unwrap();
}

/// Sets the whole spec again.
async fn replace(world: &TestEnvironment<'_>, name: &str, spec: &Value) {
    let mut object = world.environments().get(name).await.unwrap();
    object.spec = serde_json::from_value(spec.clone()).unwrap();
    let replaced = world
        .environments()
        .replace(name, &PostParams::default(), &object)
        .await;
    replaced.unwrap();
}

/// Waits until the status speaks of the latest spec, and `Ready` and `Mirrored` say this; the message of `Ready`.
async fn judged(world: &TestEnvironment<'_>, name: &str, value: ConditionStatus, reason: Reason) -> String {
    eventually(&format!("{name} is judged"), LIMIT, async || {
        let object = world
            .environments()
            .get(name)
            .await
            .map_err(|error| error.to_string())?;
        let status = object.status.unwrap_or_default();
        let condition = |type_| status.conditions.iter().find(|condition| condition.type_ == type_);
        let (Some(ready), Some(mirrored)) = (condition(ConditionType::Ready), condition(ConditionType::Mirrored))
        else {
            return Err(json!(status).to_string());
        };
        let so = status.observed_generation == object.metadata.generation
            && (ready.status, ready.reason, mirrored.status) == (value, reason, value);
        if so {
            Ok(ready.message.clone())
        } else {
            Err(json!(status).to_string())
        }
    })
    .await
}

async fn mirrored(world: &TestEnvironment<'_>, name: &str) {
    judged(world, name, ConditionStatus::True, Reason::Ready).await;
}

fn accepting(status: &EnvironmentStatus) -> &Condition {
    let conditions = &status.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Accepting)
        .unwrap()
}

fn uid(environment: &Environment) -> Uuid {
    environment.uid().unwrap().parse().unwrap()
}

/// The golden files: a name, the spec, and the config that the Paperclip server reads strictly.
fn goldens() -> Vec<(String, Value, Value)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config");
    let mut goldens: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, golden["spec"].clone(), golden["config"].clone())
        })
        .collect();
    goldens.sort_by(|one, other| one.0.cmp(&other.0));
    goldens
}

#[tokio::test]
async fn the_row_of_each_driver_holds_its_golden_config() {
    let world = TestEnvironment::new("change-golden").await;
    let _operator = world.start().await;
    let goldens = goldens();
    assert_eq!(goldens.len(), 6);
    for (name, spec, config) in goldens {
        let made = world.environment(&name, spec.clone()).await;
        mirrored(&world, &name).await;
        let shown = world.environments().get(&name).await.unwrap().status.unwrap();
        let row = world.environment_row(shown.environment_id.unwrap()).await.unwrap();
        assert_eq!(row["config"], config, "{name}");
        let driver = spec["driver"].as_str().unwrap().to_lowercase();
        assert_eq!(row["driver"], json!(driver), "{name}");
        if driver != "local" {
            assert_eq!(row["id"], json!(uid(&made)), "{name}");
        }
    }
}

/// Whose an edit is, the edit, and what follows from it in the row: nothing, or columns by their JSON pointers.
type Edit = (&'static str, Value, Vec<(&'static str, Value)>);

/// Edits of one field each, in turn.
fn edits() -> Vec<Edit> {
    let ssh = |field: &str, value: Value| json!({ "ssh": { field: value } });
    vec![
        ("ssh", json!({ "displayName": "Big" }), vec![("/name", json!("Big"))]),
        (
            "ssh",
            json!({ "description": "Text" }),
            vec![("/description", json!("Text"))],
        ),
        (
            "ssh",
            ssh("host", json!("10.1.2.3")),
            vec![("/config/host", json!("10.1.2.3"))],
        ),
        ("ssh", ssh("port", json!(2200)), vec![("/config/port", json!(2200))]),
        (
            "ssh",
            ssh("username", json!("agent")),
            vec![("/config/username", json!("agent"))],
        ),
        (
            "ssh",
            ssh("remoteWorkspacePath", json!("/w")),
            vec![("/config/remoteWorkspacePath", json!("/w"))],
        ),
        (
            "ssh",
            ssh("knownHosts", Value::Null),
            vec![("/config/knownHosts", Value::Null)],
        ),
        (
            "ssh",
            ssh("knownHosts", json!("h k")),
            vec![("/config/knownHosts", json!("h k"))],
        ),
        (
            "ssh",
            ssh("strictHostKeyChecking", json!(true)),
            vec![("/config/strictHostKeyChecking", json!(true))],
        ),
        (
            "ssh",
            ssh("privateKeySecretRef", json!({ "name": "other", "key": "id" })),
            vec![],
        ),
        ("ssh", ssh("privateKeySecretRef", Value::Null), vec![]),
        ("ssh", json!({ "maxActiveLeases": 3 }), vec![]),
        ("ssh", json!({ "maxActiveLeases": null }), vec![]),
        (
            "ssh",
            json!({ "metadata": { "a": 1 } }),
            vec![("/metadata", json!({ "a": 1 }))],
        ),
        (
            "ssh",
            json!({ "metadata": { "a": null, "b": [] } }),
            vec![("/metadata", json!({ "b": [] }))],
        ),
        ("ssh", json!({ "metadata": null }), vec![("/metadata", Value::Null)]),
        ("ssh", json!({ "archived": true }), vec![("/status", json!("archived"))]),
        ("ssh", json!({ "archived": null }), vec![("/status", json!("active"))]),
        ("ssh", json!({ "archived": false }), vec![]),
        (
            "ssh",
            json!({ "description": null }),
            vec![("/description", Value::Null)],
        ),
        ("ssh", json!({ "displayName": null }), vec![("/name", json!("ssh"))]),
        (
            "sandbox",
            json!({ "sandbox": { "provider": "e2b" } }),
            vec![("/config/provider", json!("e2b"))],
        ),
        (
            "sandbox",
            json!({ "sandbox": { "config": { "image": "b" } } }),
            vec![("/config/image", json!("b"))],
        ),
        (
            "sandbox",
            json!({ "sandbox": { "config": null } }),
            vec![("/config", json!({ "provider": "e2b" }))],
        ),
        (
            "plugin",
            json!({ "plugin": { "pluginKey": "p" } }),
            vec![("/config/pluginKey", json!("p"))],
        ),
        (
            "plugin",
            json!({ "plugin": { "driverKey": "d" } }),
            vec![("/config/driverKey", json!("d"))],
        ),
        (
            "plugin",
            json!({ "plugin": { "driverConfig": { "size": "large" } } }),
            vec![("/config/driverConfig/size", json!("large"))],
        ),
        (
            "plugin",
            json!({ "plugin": { "driverConfig": null } }),
            vec![("/config/driverConfig", json!({}))],
        ),
    ]
}

/// Counts the UPDATEs of each environment's row from now on.
async fn count_updates(world: &TestEnvironment<'_>) {
    for statement in [
        "CREATE TABLE public.updates (environment_id uuid NOT NULL)",
        "CREATE FUNCTION public.count_update() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO public.updates VALUES (NEW.id); RETURN NULL; END $$",
        "CREATE TRIGGER count_update AFTER UPDATE ON public.environments FOR EACH ROW
         EXECUTE FUNCTION public.count_update()",
    ] {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }
}

async fn updates(world: &TestEnvironment<'_>) -> i64 {
    let statement = "SELECT count(*) FROM public.updates";
    sqlx::query_scalar(statement).fetch_one(&world.pool).await.unwrap()
}

#[tokio::test]
async fn each_field_s_edit_reaches_the_row_once_and_touches_nothing_else() {
    let world = TestEnvironment::new("change-field").await;
    let _operator = world.start().await;
    for (name, spec, _) in goldens() {
        if ["ssh", "sandbox", "plugin"].contains(&name.as_str()) {
            world.environment(&name, spec).await;
            mirrored(&world, &name).await;
        }
    }
    let held = world.granted(lease("held").environment("ssh")).await;
    let held = held.uid().unwrap().parse().unwrap();
    let lease_row = world.lease_row(held).await;
    count_updates(&world).await;
    let mut expected_updates = 0;
    for (name, edit, changes) in edits() {
        let id = uid(&world.environments().get(name).await.unwrap());
        let before = world.environment_row(id).await.unwrap();
        patch(&world, name, &edit).await;
        mirrored(&world, name).await;
        let mut after = world.environment_row(id).await.unwrap();
        let (earlier, later) = (moment(&before["updated_at"]), moment(&after["updated_at"]));
        let mut expected = before.clone();
        for (pointer, value) in &changes {
            *expected.pointer_mut(pointer).unwrap() = value.clone();
        }
        if changes.is_empty() {
            assert_eq!(earlier, later, "{edit}");
        } else {
            assert_ne!(expected, before, "the edit of the test changes something: {edit}");
            assert!(earlier < later, "{edit}");
            expected_updates += 1;
        }
        after["updated_at"] = before["updated_at"].clone();
        assert_eq!(after, expected, "{edit}");
        assert_eq!(updates(&world).await, expected_updates, "{edit}");
    }
    // What it has is not touched by what becomes of the place.
    assert_eq!(world.lease_row(held).await, lease_row);
    world.settles().await;
    assert_eq!(updates(&world).await, expected_updates, "each once, later too");
}

#[tokio::test]
async fn an_archived_environment_lets_its_leases_run_out_and_grants_again_once_it_is_back() {
    let world = TestEnvironment::new("change-archived").await;
    let _operator = world.start().await;
    world.ssh_environment("builder").await;
    world.granted(lease("before").environment("builder")).await;
    world.archive_environment("builder", true).await;
    world.environment_in("builder", EnvironmentPhase::Archived).await;
    mirrored(&world, "builder").await;
    let status = world.environments().get("builder").await.unwrap().status.unwrap();
    let accepting = accepting(&status);
    assert_eq!(
        (accepting.status, accepting.reason),
        (ConditionStatus::False, Reason::Archived)
    );
    world.claim(lease("refused").environment("builder")).await;
    world
        .lease_because("refused", LeasePhase::Failed, Reason::EnvironmentArchived)
        .await;
    world.archive_environment("builder", false).await;
    world.environment_in("builder", EnvironmentPhase::Active).await;
    world.granted(lease("after").environment("builder")).await;
    world.lease_in("before", LeasePhase::Active).await;
    world.lease_in("refused", LeasePhase::Failed).await;
    world.settles().await;
}

#[tokio::test]
async fn a_driver_never_changes() {
    let world = TestEnvironment::new("change-driver").await;
    let _operator = world.start().await;
    let id = uid(&world.ssh_environment("builder").await);
    let before = world.environment_row(id).await;
    for spec in [
        json!({ "driver": "Sandbox", "ssh": null, "sandbox": { "provider": "kubernetes" } }),
        json!({ "driver": "Local", "ssh": null }),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let refused = world
            .environments()
            .patch("builder", &PatchParams::default(), &patch)
            .await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("create another Environment for another driver"), "{said}");
    }
    assert_eq!(world.environment_row(id).await, before);
}

/// Specs that the API server admits and the operator refuses: whose, the edit, and what its message begins with and says.
fn refusals() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let long = "x".repeat(33 * 1024);
    let deep = (0..64).fold(json!({}), |inner, _| json!({ "inner": inner }));
    let path = format!("/{}", "x".repeat(511));
    vec![
        (
            "ssh",
            json!({ "metadata": { "long": long } }),
            "spec.metadata has ",
            "keep less in it",
        ),
        (
            "ssh",
            json!({ "metadata": { "deep": deep } }),
            "spec.metadata is nested",
            "make it flatter",
        ),
        (
            "ssh",
            json!({ "metadata": { "text": "a\u{0}b" } }),
            "spec.metadata holds ",
            "remove it",
        ),
        (
            "ssh",
            json!({ "displayName": "ä".repeat(257) }),
            "spec.displayName has 514 bytes",
            "shorten it",
        ),
        (
            "ssh",
            json!({ "description": "\u{0}" }),
            "spec.description holds ",
            "remove it",
        ),
        (
            "ssh",
            json!({ "ssh": { "knownHosts": "\u{0}" } }),
            "spec.ssh.knownHosts holds ",
            "remove it",
        ),
        (
            "ssh",
            json!({ "ssh": { "remoteWorkspacePath": path } }),
            "spec.ssh as ssh://",
            "shorten it",
        ),
        (
            "sandbox",
            json!({ "sandbox": { "config": { "long": long } } }),
            "spec.sandbox.config has ",
            "keep less",
        ),
        (
            "sandbox",
            json!({ "sandbox": { "config": { "provider": "p" } } }),
            "spec.sandbox.config has ",
            "remove it",
        ),
        (
            "sandbox",
            json!({ "metadata": { "long": long } }),
            "spec.metadata has ",
            "keep less in it",
        ),
        (
            "plugin",
            json!({ "plugin": { "driverConfig": { "l": long } } }),
            "spec.plugin.driverConfig has ",
            "keep less",
        ),
        (
            "plugin",
            json!({ "plugin": { "driverConfig": { "d": deep } } }),
            "spec.plugin.driverConfig is ",
            "flatter",
        ),
    ]
}

#[tokio::test]
async fn an_edit_that_can_not_be_stored_says_what_to_do_and_the_last_good_row_goes_on_granting() {
    let world = TestEnvironment::new("change-refused").await;
    let _operator = world.start().await;
    let mut good = Map::new();
    for (name, spec, _) in goldens() {
        if ["ssh", "sandbox", "plugin"].contains(&name.as_str()) {
            world.environment(&name, spec.clone()).await;
            mirrored(&world, &name).await;
            good.insert(name, spec);
        }
    }
    for (number, (name, edit, begins, says)) in refusals().into_iter().enumerate() {
        let id = uid(&world.environments().get(name).await.unwrap());
        let before = world.environment_row(id).await.unwrap();
        patch(&world, name, &edit).await;
        let said = judged(&world, name, ConditionStatus::False, Reason::InvalidSpec).await;
        assert!(said.starts_with(begins) && said.contains(says), "{said}");
        let status = world.environments().get(name).await.unwrap().status.unwrap();
        assert_eq!(accepting(&status).status, ConditionStatus::True, "{said}");
        assert_eq!(
            (status.phase, status.environment_id),
            (Some(EnvironmentPhase::Active), Some(id))
        );
        world.granted(lease(&format!("claim-{number}")).environment(name)).await;
        assert_eq!(world.environment_row(id).await.unwrap(), before, "{said}");
        replace(&world, name, &good[name]).await;
        mirrored(&world, name).await;
        assert_eq!(
            world.environment_row(id).await.unwrap(),
            before,
            "as it was, to the microsecond"
        );
    }
    world.settles().await;
}

#[tokio::test]
async fn a_claim_waits_for_an_environment_whose_first_spec_can_not_be_stored() {
    let world = TestEnvironment::new("change-first").await;
    let _operator = world.start().await;
    let spec = json!({ "driver": "Sandbox", "sandbox": { "provider": "kubernetes" } });
    let mut bad = spec.clone();
    bad["metadata"] = json!({ "long": "x".repeat(33 * 1024) });
    let made = world.environment("box", bad).await;
    judged(&world, "box", ConditionStatus::False, Reason::InvalidSpec).await;
    world.environment_in("box", EnvironmentPhase::Pending).await;
    assert_eq!(world.environment_row(uid(&made)).await, None);
    world.claim(lease("claim").environment("box")).await;
    world
        .lease_because("claim", LeasePhase::Pending, Reason::EnvironmentNotActive)
        .await;
    replace(&world, "box", &spec).await;
    world.lease_in("claim", LeasePhase::Active).await;
    world.settles().await;
}

#[tokio::test]
async fn the_name_of_a_secret_never_reaches_the_database() {
    let world = TestEnvironment::new("change-secret").await;
    let _operator = world.start().await;
    let ssh = |secret: &str| {
        let secret = json!({ "name": secret, "key": "its-very-key" });
        json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/w", "privateKeySecretRef": secret })
    };
    world
        .environment("builder", json!({ "driver": "SSH", "ssh": ssh("first-secret") }))
        .await;
    mirrored(&world, "builder").await;
    let run = world.insert_run().await;
    world
        .granted(lease("held").environment("builder").heartbeat_run(run))
        .await;
    patch(
        &world,
        "builder",
        &json!({ "ssh": ssh("second-secret"), "displayName": "Renamed" }),
    )
    .await;
    mirrored(&world, "builder").await;
    world.granted(lease("later").environment("builder")).await;
    world.release("held").await;
    world.lease_in("held", LeasePhase::Released).await;
    // All rows of all tables of all schemas.
    let dump: String = sqlx::query_scalar("SELECT database_to_xml(true, false, '')::text")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    for (text, is_there) in [
        ("build.example", true),
        ("environment.lease_released", true),
        ("fencing_token", true),
        ("first-secret", false),
        ("second-secret", false),
        ("its-very-key", false),
    ] {
        assert_eq!(dump.contains(text), is_there, "{text}");
    }
}
