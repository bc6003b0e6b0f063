//! Several Local objects of one company: one is canonical, the others point to it.

use environment_operator::api::{ConditionType, EnvironmentPhase, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{company, duplicate_of, locals, the_row, uid};
use crate::support::{LIMIT, TestEnvironment, id_of, lease, scope};

/// Waits until no Environment of this name is in the world.
async fn is_gone(world: &TestEnvironment<'_>, name: &str) {
    eventually("the environment is gone", LIMIT, async || {
        match world.environments().get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn of_users_locals_in_three_namespaces_one_is_canonical_and_the_next_takes_over_under_the_same_row() {
    let worlds = company(3).await;
    let mut operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    // One after the other; of two in one second the lower uid is the first.
    let mut objects = Vec::new();
    for (world, name) in worlds.iter().zip(["mine", "local", "other"]) {
        let made = world.environment(name, json!({ "driver": "Local" })).await;
        objects.push((made.creation_timestamp().unwrap().0, uid(&made), world, name));
    }
    objects.sort_by_key(|(made, uid, ..)| (*made, *uid));
    let order: Vec<(&TestEnvironment<'_>, &str)> = objects.into_iter().map(|(.., world, name)| (world, name)).collect();
    order[0].0.environment_in(order[0].1, EnvironmentPhase::Active).await;
    for (world, name) in &order[1..] {
        duplicate_of(world, name, order[0]).await;
        let shown = world.environments().get(name).await.unwrap().status.unwrap();
        let ready = shown
            .conditions
            .iter()
            .find(|one| one.type_ == ConditionType::Ready)
            .unwrap();
        assert_eq!(ready.reason, Reason::Ready, "installers do not wait for a duplicate");
    }
    let row = the_row(&worlds).await;
    for (world, name) in &order {
        let held = world.granted(lease("held").environment(name)).await;
        assert_eq!(json!(held.status.unwrap().environment.unwrap().id), row["id"]);
    }

    order[0].0.delete_environment(order[0].1).await;
    order[1].0.environment_in(order[1].1, EnvironmentPhase::Active).await;
    duplicate_of(order[2].0, order[2].1, order[1]).await;
    assert_eq!(the_row(&worlds).await, row, "same id, nothing written");

    // The next one while nobody looks.
    operator.kill().unwrap();
    order[1].0.delete_environment(order[1].1).await;
    worlds[0].pass_term().await;
    operator.start_again().unwrap();
    operator.wait_ready().await;
    order[2].0.environment_in(order[2].1, EnvironmentPhase::Active).await;

    order[2].0.delete_environment(order[2].1).await;
    eventually("it is known that there is none", LIMIT, async || {
        let left: Option<uuid::Uuid> = sqlx::query_scalar("SELECT object_id FROM environment_operator.local")
            .fetch_one(&worlds[0].pool)
            .await
            .unwrap();
        left.map_or(Ok(()), Err)
    })
    .await;
    assert_eq!(the_row(&worlds).await, row, "it stays");
    for world in &worlds {
        let held = world.lease_in("held", LeasePhase::Active).await;
        world.lease_row_is(id_of(&held), "active").await;
    }
    let next = worlds[1].granted(lease("next")).await;
    assert_eq!(json!(next.status.unwrap().environment.unwrap().id), row["id"]);
    worlds[1].environment_in("local", EnvironmentPhase::Active).await;
    assert_eq!(locals(&worlds).await.len(), 1);
    assert_eq!(the_row(&worlds).await, row);
    for world in &worlds {
        world.settles().await;
    }
}

#[tokio::test]
async fn a_users_local_wins_over_the_operators_which_goes_once_no_lease_names_it() {
    let worlds = company(2).await;
    let mut operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    let named = worlds[0].granted(lease("named").environment("local")).await;
    let unnamed = worlds[0].granted(lease("unnamed")).await;
    let own = worlds[0].environment_in("local", EnvironmentPhase::Active).await;
    let row = the_row(&worlds).await;
    // Who has made it is known after a restart too.
    operator.kill().unwrap();
    worlds[0].pass_term().await;
    operator.start_again().unwrap();
    operator.wait_ready().await;

    let users = worlds[1].environment("mine", json!({ "driver": "Local" })).await;
    worlds[1].environment_in("mine", EnvironmentPhase::Active).await;
    duplicate_of(&worlds[0], "local", (&worlds[1], "mine")).await;
    assert_eq!(
        uid(&worlds[0].environments().get("local").await.unwrap()),
        uid(&own),
        "a lease names it"
    );
    worlds[0].release(&named.name_any()).await;
    is_gone(&worlds[0], "local").await;
    assert_eq!(the_row(&worlds).await, row);
    let status = worlds[0]
        .lease_in(&unnamed.name_any(), LeasePhase::Active)
        .await
        .status
        .unwrap();
    assert_eq!(json!(status.environment.unwrap().id), row["id"]);
    worlds[0].granted(lease("later").environment("local")).await;
    assert_eq!(
        locals(&worlds).await.iter().map(uid).collect::<Vec<_>>(),
        [uid(&users)],
        "none is made again"
    );
    for world in &worlds {
        world.settles().await;
    }
}

#[tokio::test]
async fn a_duplicate_that_a_user_has_made_or_edited_stays() {
    let worlds = company(3).await;
    let _operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    worlds[0].granted(lease("held")).await;
    let own = worlds[0].environment_in("local", EnvironmentPhase::Active).await;
    let edit = Patch::Merge(json!({ "spec": { "description": "kept by hand" } }));
    worlds[0]
        .environments()
        .patch("local", &PatchParams::default(), &edit)
        .await
        .unwrap();
    eventually("the edit is in the row", LIMIT, async || {
        let row = the_row(&worlds).await;
        if row["description"] == "kept by hand" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    })
    .await;
    // An annotation that is copied from the operator's object makes nothing the operator's.
    let mut copy = environment_operator::api::Environment::new("local", own.spec.clone());
    copy.metadata.annotations = own.metadata.annotations.clone();
    assert!(!copy.annotations().is_empty());
    let created = worlds[1]
        .environments()
        .create(&Default::default(), &copy)
        .await
        .unwrap();
    worlds[1].environment_in("local", EnvironmentPhase::Active).await;
    duplicate_of(&worlds[0], "local", (&worlds[1], "local")).await;
    let third = worlds[2].environment("mine", json!({ "driver": "Local" })).await;
    eventually("one of the two users' is a duplicate", LIMIT, async || {
        let phases = [
            worlds[1].environments().get("local").await.unwrap(),
            worlds[2].environments().get("mine").await.unwrap(),
        ]
        .map(|object| object.status.unwrap_or_default().phase);
        match phases {
            [Some(EnvironmentPhase::Active), Some(EnvironmentPhase::Duplicate)]
            | [Some(EnvironmentPhase::Duplicate), Some(EnvironmentPhase::Active)] => Ok(()),
            phases => Err(format!("{phases:?}")),
        }
    })
    .await;
    for world in &worlds {
        world.settles().await;
    }
    let left: std::collections::HashSet<_> = locals(&worlds).await.iter().map(uid).collect();
    assert_eq!(left, [uid(&own), uid(&created), uid(&third)].into());
}
