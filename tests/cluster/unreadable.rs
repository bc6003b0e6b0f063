//! Objects of which the operator can't read everything.

use environment_operator::api::EnvironmentLease;
use harness::wait::eventually;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::support::{LIMIT, TestEnvironment, lease};

#[tokio::test]
async fn a_status_that_can_not_be_read_is_written_anew_as_a_whole_and_holds_up_no_other_lease() {
    let world = TestEnvironment::new("unreadable").await;
    let _operator = world.start().await;
    world.granted(lease("held")).await;
    // As the operator, for nobody else may write a status; without types, which could not read it either.
    let resource = ApiResource::erase::<EnvironmentLease>(&());
    let leases: Api<DynamicObject> =
        Api::namespaced_with(world.operators_client().await, world.namespace.name(), &resource);
    let status = async || -> Value { leases.get("held").await.unwrap().data["status"].take() };
    let shown = status().await;
    // More than the operator takes in: a merge would leave some of it behind.
    let spoiled = Patch::Merge(json!({ "status": {
        "message": "x".repeat(200_000), "context": { "other": "y".repeat(40_000) },
    } }));
    leases
        .patch_status("held", &PatchParams::default(), &spoiled)
        .await
        .unwrap();
    world.granted(lease("another")).await;
    eventually("the status is as it was", LIMIT, async || {
        let now = status().await;
        if now == shown {
            Ok(())
        } else {
            Err(format!("{:.300}", now.to_string()))
        }
    })
    .await;
}
