//! The default Local: one row per company, whatever objects stand for it, and whose the object `local` is.

mod adoption;
mod duplicates;
mod making;
mod races;

use environment_operator::api::{COMPANY_LABEL, Environment, EnvironmentPhase, LeasePhase};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, creates};
use crate::support::{LIMIT, TestEnvironment, lease};

/// Several namespaces of one company, on one database.
async fn company(namespaces: usize) -> Vec<TestEnvironment<'static>> {
    let mut worlds = vec![TestEnvironment::new("local").await];
    let company = worlds[0].company().to_string();
    while worlds.len() < namespaces {
        let beside = worlds[0].beside(worlds[0].control_plane(), "local", [(COMPANY_LABEL, company.as_str())]);
        worlds.push(beside.await);
    }
    worlds
}

/// The Local objects of these worlds.
async fn locals(worlds: &[TestEnvironment<'_>]) -> Vec<Environment> {
    let mut locals = Vec::new();
    for world in worlds {
        locals.extend(world.environments().list(&ListParams::default()).await.unwrap().items);
    }
    locals
}

/// The one row of the worlds' company.
async fn the_row(worlds: &[TestEnvironment<'_>]) -> serde_json::Value {
    let mut rows = worlds[0].environment_rows(worlds[0].company()).await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.remove(0)
}

/// Waits until the Local of this name is a duplicate of the one in the other world.
async fn duplicate_of(world: &TestEnvironment<'_>, name: &str, canonical: (&TestEnvironment<'_>, &str)) {
    eventually("it points to the canonical one", LIMIT, async || {
        let status = world.environments().get(name).await.unwrap().status.unwrap_or_default();
        let to = status
            .canonical_ref
            .as_ref()
            .map(|to| (to.namespace.as_str(), to.name.as_str()));
        if status.phase == Some(EnvironmentPhase::Duplicate) && to == Some((canonical.0.namespace.name(), canonical.1))
        {
            Ok(())
        } else {
            Err(json!(status).to_string())
        }
    })
    .await;
}

fn uid(object: &impl ResourceExt) -> Uuid {
    object.uid().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_users_local_that_comes_just_before_the_operators_is_not_taken_for_the_operators() {
    let world = TestEnvironment::new("local").await;
    let proxy = world.proxy().await;
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
