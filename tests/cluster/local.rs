//! The default Local: one row per company, whatever objects stand for it, and whose the object `local` is.

use environment_operator::api::{COMPANY_LABEL, LeasePhase};
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, Proxy, creates};
use crate::support::{LIMIT, World, lease, scope};

#[tokio::test]
async fn a_users_local_that_comes_just_before_the_operators_is_not_taken_for_the_operators() {
    let world = World::new("local").await;
    let proxy = Proxy::start(world.client.clone(), None).await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    let late = proxy.spoil(Fault::Withhold, creates("environments"));
    world.claim(lease("claim")).await;
    late.wait_for_hits(1).await;
    // The row has to wait until the operator has heard that the object was there already.
    let obstruction = world.obstruct("environments").await;
    let mark = world.mark();
    let users = world.environment("local", json!({ "driver": "Local" })).await;
    late.lift();
    eventually("the operator's own is refused", LIMIT, async || {
        let log = world.control_plane().audit();
        let refused = log.writes(mark, |event| {
            let object = event.object_ref.clone().unwrap_or_default();
            let code = event.response_status.as_ref().map(|status| status.code);
            object.namespace == world.namespace.name() && event.verb == "create" && code == Some(409)
        });
        if refused.unwrap().is_empty() {
            Err("not yet")
        } else {
            Ok(())
        }
    })
    .await;
    obstruction.interrupt_operator().await;
    world.lease_in("claim", LeasePhase::Active).await;
    let id: Uuid = users.uid().unwrap().parse().unwrap();
    let made: bool =
        sqlx::query_scalar("SELECT operator_made FROM environment_operator.environment_object WHERE id = $1")
            .bind(id)
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert!(!made, "a user has made it");
    world.settles().await;
}

#[tokio::test]
async fn locals_in_two_namespaces_of_one_company_stand_for_one_row() {
    let first = World::new("local").await;
    let company = first.company().to_string();
    let second = first
        .beside(first.control_plane(), "local", [(COMPANY_LABEL, company.as_str())])
        .await;
    let worlds = [first, second];
    let _operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    let mut rows = Vec::new();
    for world in &worlds {
        world.environment("mine", json!({ "driver": "Local" })).await;
        let held = world.granted(lease("held").environment("mine")).await;
        rows.push(held.status.unwrap().environment.unwrap().id);
    }
    assert_eq!(rows[0], rows[1]);
    assert_eq!(worlds[0].environment_rows(worlds[0].company()).await.len(), 1);
    for world in &worlds {
        world.settles().await;
    }
}
