//! A row that was there before, and what a user's object sets in it.

use environment_operator::api::{EnvironmentPhase, LeasePhase, Reason};
use harness::wait::eventually;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::the_row;
use crate::support::{LIMIT, TestEnvironment, lease};

/// A Local as the Paperclip server has made it, long ago and to the microsecond.
async fn row_of_the_origin(world: &TestEnvironment<'_>, name: &str, status: &str) -> serde_json::Value {
    world.insert_agent(world.company()).await;
    sqlx::query(
        "INSERT INTO environments (company_id, name, driver, status, config, metadata, created_at, updated_at)
         VALUES ($1, $2, 'local', $3, '{}', '{\"managedByPaperclip\": true}', '2026-01-02T03:04:05.678901Z',
           '2026-01-03T03:04:05.678901Z')",
    )
    .bind(world.company())
    .bind(name)
    .bind(status)
    .execute(&world.pool)
    .await
    .unwrap();
    the_row(std::slice::from_ref(world)).await
}

/// A world whose tables are there before any row.
async fn world_with_tables() -> (TestEnvironment<'static>, harness::operator::Operator) {
    let world = TestEnvironment::new("local").await;
    let operator = world.start().await;
    (world, operator)
}

#[tokio::test]
async fn a_row_of_the_origin_is_adopted_untouched_to_the_microsecond() {
    let (world, _operator) = world_with_tables().await;
    let row = row_of_the_origin(&world, "Renamed", "active").await;
    let held = world.granted(lease("held")).await;
    let status = held.status.unwrap();
    assert_eq!(json!(status.environment.unwrap().id), row["id"]);
    assert_eq!(status.context.unwrap().members()["name"], "Renamed");
    let object = world.environment_in("local", EnvironmentPhase::Active).await;
    let shown = object.status.unwrap();
    assert_eq!(json!(shown.environment_id), row["id"]);
    assert_eq!(shown.name.as_deref(), Some("Renamed"));
    world.settles().await;
    assert_eq!(the_row(&[world]).await, row);
}

#[tokio::test]
async fn an_archived_and_renamed_row_of_the_origin_is_adopted_untouched_grants_nothing_and_says_so() {
    let (world, _operator) = world_with_tables().await;
    let row = row_of_the_origin(&world, "Renamed", "archived").await;
    world.claim(lease("before")).await;
    world.environment("mine", json!({ "driver": "Local" })).await;
    world.environment_in("mine", EnvironmentPhase::Archived).await;
    world.claim(lease("after").environment("mine")).await;
    for name in ["before", "after"] {
        let refused = world
            .lease_because(name, LeasePhase::Failed, Reason::EnvironmentArchived)
            .await;
        let message = refused.status.unwrap().message.unwrap();
        assert_eq!(message, "Environment \"Renamed\" is not active.");
    }
    world.settles().await;
    assert_eq!(the_row(&[world]).await, row);
}

#[tokio::test]
async fn what_a_users_local_sets_is_written_and_what_it_leaves_out_never() {
    let (world, _operator) = world_with_tables().await;
    let row = row_of_the_origin(&world, "Theirs", "active").await;
    world.environment("local", json!({ "driver": "Local" })).await;
    world.environment_in("local", EnvironmentPhase::Active).await;
    let worlds = [world];
    assert_eq!(the_row(&worlds).await, row, "it sets nothing");

    let set = json!({ "displayName": "Ours", "archived": true, "metadata": { "team": "x" } });
    edit(&worlds[0], set).await;
    worlds[0].environment_in("local", EnvironmentPhase::Archived).await;
    let written = the_row(&worlds).await;
    assert_eq!(
        (&written["name"], &written["status"], &written["metadata"]),
        (
            &json!("Ours"),
            &json!("archived"),
            &json!({ "managedByPaperclip": true, "team": "x" })
        )
    );
    for kept in ["id", "company_id", "description", "driver", "config", "created_at"] {
        assert_eq!(written[kept], row[kept], "{kept}");
    }

    // What is taken out of the spec again stays in the row as it is.
    edit(
        &worlds[0],
        json!({ "displayName": null, "archived": null, "metadata": null, "description": "Ours alone" }),
    )
    .await;
    eventually("the description is in the row", LIMIT, async || {
        let row = the_row(&worlds).await;
        if row["description"] == "Ours alone" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    })
    .await;
    let mut left = the_row(&worlds).await;
    for changed in ["description", "updated_at"] {
        left[changed] = written[changed].clone();
    }
    assert_eq!(left, written);
    worlds[0].settles().await;
}

async fn edit(world: &TestEnvironment<'_>, spec: serde_json::Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world
        .environments()
        .patch("local", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_environment_named_local_of_another_driver_is_refused() {
    let world = TestEnvironment::new("local").await;
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    let spec = serde_json::from_value(json!({ "driver": "SSH", "ssh": ssh })).unwrap();
    let object = environment_operator::api::Environment::new("local", spec);
    let refused = world
        .environments()
        .create(&PostParams::default(), &object)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("the name local belongs to driver Local"),
        "{refused}"
    );
}
