//! The operator's rights: the chart's, as every operator of this layer has them.

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use serde_json::json;

use crate::support::{Expected, GRACE, LIMIT, World, id_of, lease, scope};

#[tokio::test]
async fn the_chart_s_rights_suffice_for_a_whole_lease_and_nothing_else_is_asked_for() {
    let world = World::new("rights").await;
    let mark = world.mark();
    let mut operator = world.start().await;

    world.job("build", json!({})).await;
    world.granted(lease("whole").job("build")).await;
    world.ssh_environment("builder").await;
    world.granted(lease("orphan").environment("builder")).await;
    world.end_job("build", "Succeeded").await;
    let message = "job/build succeeded";
    Expected {
        phase: LeasePhase::Released,
        reason: Reason::RunFinished,
        message,
    }
    .of(&world, "whole")
    .await;
    world.delete_environment("builder").await;
    let message = "environment builder was deleted";
    Expected {
        phase: LeasePhase::Failed,
        reason: Reason::EnvironmentDeleted,
        message,
    }
    .of(&world, "orphan")
    .await;
    world
        .claim(lease("brief").set("release", true).set("ttlSecondsAfterFinished", 0))
        .await;
    eventually("the failed claim is removed", LIMIT, async || {
        match world.leases().get_opt("brief").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // A user's own Local makes the operator's one spare.
    world.environment("mine", json!({ "driver": "Local" })).await;
    eventually("the operator's Local is deleted", LIMIT, async || {
        match world.environments().get_opt("local").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    operator.stop(GRACE).await.unwrap();

    let mut asked = world.requests_since(mark);
    assert!(!asked.is_empty(), "it speaks as its ServiceAccount");
    asked.retain(|event| event.is_forbidden());
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_namespace_that_goes_with_its_role_holds_up_no_other_one() {
    let world = World::new("rights-gone").await;
    let other = world.beside(world.control_plane(), "rights-stays", []).await;
    let worlds = [world, other];
    let mut operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    let [world, other] = &worlds;
    let lost = id_of(&world.granted(lease("lost")).await);
    operator.stop(GRACE).await.unwrap();
    world.delete_namespace().await;
    operator.start_again().unwrap();
    // Its lists are forbidden, for the Role was in it; that it does not exist is all that there is to know.
    operator.wait_ready().await;
    other.granted(lease("held")).await;
    world.lease_row_is(lost, "released").await;
    assert_eq!(world.record(lost).await.unwrap()["reason"], "LeaseDeleted");
}
