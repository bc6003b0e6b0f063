//! The operator with exactly the rights that `deploy/` gives it.

use environment_operator::api::{LeasePhase, Reason};
use harness::objects;
use harness::wait::eventually;
use serde_json::json;

use crate::support::{Expected, GRACE, LIMIT, World, lease};

const USER: &str = "system:serviceaccount:environment-operator:environment-operator";

#[tokio::test]
async fn the_rights_of_deploy_suffice_for_a_whole_lease_and_nothing_else_is_asked_for() {
    let world = World::new("rights").await;
    for manifest in [
        include_str!("../../deploy/10-namespace.yaml"),
        include_str!("../../deploy/20-service-account.yaml"),
        include_str!("../../deploy/30-rights.yaml"),
    ] {
        objects::apply(&world.client, "environment-operator", manifest)
            .await
            .unwrap();
    }
    let account = ("environment-operator", "environment-operator");
    let kubeconfig = world
        .control_plane()
        .service_account_kubeconfig(account.0, account.1)
        .await
        .unwrap();
    let mark = world.mark();
    let mut operator = world.operator().kubeconfig(&kubeconfig).start().unwrap();
    operator.wait_ready().await;

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

    let mut asked = world.control_plane().audit().since(mark).unwrap();
    asked.retain(|event| event.user() == USER);
    assert!(!asked.is_empty(), "it speaks as its ServiceAccount");
    asked.retain(|event| event.response_status.as_ref().is_some_and(|status| status.code == 403));
    assert!(asked.is_empty(), "{asked:#?}");
}
