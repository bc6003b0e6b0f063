//! Environments: what their spec says, their row says; and what people see of both.

use environment_operator::api::{Environment, EnvironmentPhase, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{LIMIT, TestEnvironment, lease};

fn row_id(environment: &Environment) -> Uuid {
    environment.status.as_ref().unwrap().environment_id.unwrap()
}

async fn patch(world: &TestEnvironment<'_>, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world
        .environments()
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_number_of_active_leases_follows_what_is_held() {
    let world = TestEnvironment::new("environment-count").await;
    let _operator = world.start().await;
    world.ssh_environment("builder").await;
    for (name, count) in [("one", 1), ("two", 2)] {
        world.granted(lease(name).environment("builder")).await;
        shows_active_leases(&world, count).await;
    }
    world.release("one").await;
    shows_active_leases(&world, 1).await;
    world.delete_lease("two").await;
    shows_active_leases(&world, 0).await;
}

async fn shows_active_leases(world: &TestEnvironment<'_>, count: i32) {
    eventually(&format!("{count} active leases"), LIMIT, async || {
        let environment = world
            .environments()
            .get("builder")
            .await
            .map_err(|error| error.to_string())?;
        let shown = environment.status.and_then(|status| status.active_leases);
        if shown == Some(count) {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_spec_reaches_the_row_and_a_changed_row_is_repaired() {
    let world = TestEnvironment::new("environment-change").await;
    let _operator = world.start_with(&["--resync-interval=2s"]).await;
    let id = row_id(&world.ssh_environment("builder").await);
    patch(
        &world,
        "builder",
        json!({ "displayName": "Big", "description": "Text", "ssh": { "port": 2200 } }),
    )
    .await;
    let as_said = async || {
        let row = world.environment_row(id).await.unwrap();
        let said = (
            &row["name"],
            &row["description"],
            &row["config"]["port"],
            &row["status"],
        );
        if said == (&json!("Big"), &json!("Text"), &json!(2200), &json!("active")) {
            Ok(())
        } else {
            Err(row.to_string())
        }
    };
    eventually("the row says what the spec says", LIMIT, as_said).await;
    // The row is committed first, so the status follows it.
    eventually("the status shows the row's name", LIMIT, async || {
        let shown = world.environment_in("builder", EnvironmentPhase::Active).await;
        let name = shown.status.and_then(|status| status.name);
        if name.as_deref() == Some("Big") {
            Ok(())
        } else {
            Err(format!("{name:?}"))
        }
    })
    .await;

    sqlx::query("UPDATE environments SET name = 'Another', status = 'archived', config = '{}' WHERE id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .unwrap();
    eventually("the row is repaired", LIMIT, as_said).await;
}

#[tokio::test]
async fn an_environment_row_that_another_writer_deletes_is_inserted_again_and_its_leases_have_ended() {
    let world = TestEnvironment::new("environment-row").await;
    let _operator = world.start_with(&["--sweep-interval=1s"]).await;
    let environment = world.ssh_environment("builder").await;
    let held = world.granted(lease("held").environment("builder")).await;
    let id = row_id(&environment);
    sqlx::query("DELETE FROM environments WHERE id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .unwrap();
    world
        .lease_because("held", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
    // The next claim asks for it; nobody has to wait for a resync.
    let next = world.granted(lease("next").environment("builder")).await;
    assert_eq!(next.status.unwrap().environment.unwrap().id, id, "the same id again");
    assert_eq!(world.environment_row(id).await.unwrap()["status"], "active");
    assert_eq!(world.lease_row(held.uid().unwrap().parse().unwrap()).await, None);
}

#[tokio::test]
async fn a_claim_has_the_row_of_its_environment_repaired_that_another_writer_has_archived_or_deleted() {
    let world = TestEnvironment::new("environment-drift").await;
    let _operator = world.start().await;
    let environment = world.ssh_environment("builder").await;
    let id = row_id(&environment);
    for (name, statement) in [
        ("archived", "UPDATE environments SET status = 'archived' WHERE id = $1"),
        ("deleted", "DELETE FROM environments WHERE id = $1"),
    ] {
        sqlx::query("DELETE FROM environment_leases WHERE environment_id = $1")
            .bind(id)
            .execute(&world.pool)
            .await
            .unwrap();
        sqlx::query(statement).bind(id).execute(&world.pool).await.unwrap();
        let granted = world.granted(lease(name).environment("builder")).await;
        assert_eq!(granted.status.unwrap().environment.unwrap().id, id);
        assert_eq!(world.environment_row(id).await.unwrap()["status"], "active");
    }
}

#[tokio::test]
async fn a_lease_shows_the_object_s_name_and_its_context_the_row_s() {
    let world = TestEnvironment::new("environment-name").await;
    let _operator = world.start().await;
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    world
        .environment(
            "builder",
            json!({ "driver": "SSH", "displayName": "The big one", "ssh": ssh }),
        )
        .await;
    for (claim, object, row) in [
        (lease("on-builder").environment("builder"), "builder", "The big one"),
        (lease("on-local").environment("local"), "local", "Local"),
    ] {
        let status = world.granted(claim).await.status.unwrap();
        assert_eq!(status.environment.unwrap().name, object);
        assert_eq!(status.context.unwrap().members()["name"], row);
    }
}
