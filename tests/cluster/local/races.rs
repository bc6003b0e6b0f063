//! Many claims at once, in several namespaces and in two clusters.

use environment_operator::api::{COMPANY_LABEL, EnvironmentPhase, LeasePhase};
use harness::control_plane::ControlPlane;
use harness::guard::fresh_directory;
use serde_json::json;

use super::{company, locals, the_row};
use crate::support::{TestEnvironment, lease, scope};

/// Makes claims in turn in each of the worlds, all at once.
async fn claim_at_once(worlds: &[TestEnvironment<'_>], claims: usize) {
    let made = (0..claims).map(|number| worlds[number % worlds.len()].claim(lease(&format!("claim-{number}"))));
    futures::future::join_all(made).await;
}

/// Waits until all of them hold the same row.
async fn all_hold_the_row(worlds: &[TestEnvironment<'_>], claims: usize) {
    let row = {
        worlds[0].lease_in("claim-0", LeasePhase::Active).await;
        the_row(worlds).await
    };
    for number in 0..claims {
        let world = &worlds[number % worlds.len()];
        let held = world.lease_in(&format!("claim-{number}"), LeasePhase::Active).await;
        assert_eq!(json!(held.status.unwrap().environment.unwrap().id), row["id"]);
    }
}

#[tokio::test]
async fn sixty_four_leases_in_eight_namespaces_of_one_company_share_one_row_and_one_object() {
    let worlds = company(8).await;
    let mark = worlds[0].mark();
    let _operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    claim_at_once(&worlds, 64).await;
    all_hold_the_row(&worlds, 64).await;
    let objects = locals(&worlds).await;
    assert_eq!(objects.len(), 1, "{objects:#?}");
    for world in &worlds {
        world.settles().await;
    }
    let creates = worlds[0].writes_since(mark).into_iter().filter(|event| {
        let object = event.object_ref.clone().unwrap_or_default();
        event.verb == "create" && object.resource == "environments"
    });
    assert_eq!(creates.count(), 1, "it is asked for once");
}

#[tokio::test]
async fn claims_that_are_there_before_the_operator_share_one_row_and_one_object() {
    let worlds = company(3).await;
    claim_at_once(&worlds, 24).await;
    let _operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    all_hold_the_row(&worlds, 24).await;
    assert_eq!(locals(&worlds).await.len(), 1);
    for world in &worlds {
        world.settles().await;
    }
}

#[tokio::test]
async fn two_operators_of_two_clusters_share_one_row_and_make_one_object_each() {
    let here = TestEnvironment::new("local").await;
    let elsewhere = ControlPlane::start(&fresh_directory("cluster").unwrap()).await.unwrap();
    let company = here.company().to_string();
    let there = here
        .beside(&elsewhere, "local", [(COMPANY_LABEL, company.as_str())])
        .await;
    let worlds = [here, there];
    let _operators = [worlds[0].start().await, worlds[1].start().await];
    claim_at_once(&worlds, 64).await;
    all_hold_the_row(&worlds, 64).await;
    for world in &worlds {
        world.environment_in("local", EnvironmentPhase::Active).await;
        assert_eq!(locals(std::slice::from_ref(world)).await.len(), 1);
        world.settles().await;
    }
}
