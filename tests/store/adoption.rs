//! What is remembered of a namespace belongs to the installation that looks after it.

use environment_operator::api::Reason;
use environment_operator::lifecycle::{LeaseState, ResourceVersion};
use environment_operator::store::lease_object::MarkGone;
use environment_operator::store::missed_deletions::{List, missing_leases};
use environment_operator::store::{Leader, StoreError, adoption, lead};

use sqlx::AssertSqlSafe;
use tokio::sync::Semaphore;

use crate::support::*;

async fn leader_of(world: &TestEnvironment, installation: &str) -> Leader {
    lead::acquire(&world.store, "cluster", installation, HOLDER)
        .await
        .unwrap()
        .unwrap()
}

/// The installations that remember anything.
async fn owners(world: &TestEnvironment) -> Vec<serde_json::Value> {
    world
        .rows(
            "SELECT to_jsonb(o) FROM (
               SELECT installation, namespace FROM environment_operator.lease_object
               UNION SELECT installation, namespace FROM environment_operator.environment_object
             ) AS o ORDER BY namespace, installation",
        )
        .await
}

async fn adopt(world: &TestEnvironment, leader: &Leader, namespaces: &[&str]) -> usize {
    let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
    adoption::adopt(&world.store, leader, &namespaces, &Semaphore::new(1))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_namespace_that_moves_to_another_installation_takes_its_records_along() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let held = world.claim(environment);
    granted(world.grant(&held).await);
    let gone = world.claim(environment);
    granted(world.grant(&gone).await);
    world.end(gone.id, LeaseState::Released, Reason::LeaseDeleted).await;
    MarkGone::carry_out(&world.store, &world.leader, &[MarkGone(gone.id)])
        .await
        .unwrap();
    let mut elsewhere = world.claim(environment);
    elsewhere.version.namespace = "elsewhere".to_owned();
    granted(world.grant(&elsewhere).await);

    let next = leader_of(&world, "next").await;
    assert_eq!(adopt(&world, &next, &["nowhere"]).await, 0);
    assert_eq!(
        adopt(&world, &next, &["team"]).await,
        3,
        "the environment, and both leases"
    );
    assert_eq!(adopt(&world, &next, &["team"]).await, 0);
    // The one before keeps what it looks after, and takes nothing back: they may run side by side.
    assert_eq!(adopt(&world, &world.leader, &["elsewhere"]).await, 0);
    let owner = |installation: &str, namespace: &str| serde_json::json!({ "installation": installation, "namespace": namespace });
    assert_eq!(
        owners(&world).await,
        [owner("default", "elsewhere"), owner("next", "team")]
    );

    // The new one finds what was deleted unseen, the old one finds it no more.
    let version = ResourceVersion::parse("1000").unwrap();
    let list = List {
        namespace: Some("team"),
        version: &version,
    };
    let missing = |leader: Leader| {
        let store = world.store.clone();
        async move { missing_leases(&store, &leader, &list, &[]).await.unwrap() }
    };
    assert_eq!(missing(next.clone()).await, [held.id]);
    assert!(missing(world.leader.clone()).await.is_empty());
    // A lease that was taken over goes on as it was.
    assert_eq!(world.lease(held.id).await.unwrap().status, LeaseState::Active);
}

#[tokio::test]
async fn an_installation_under_another_name_takes_over_all_and_only_of_its_own_cluster() {
    let world = TestEnvironment::new().await;
    world.environment().await;
    let other = lead::acquire(&world.store, "another cluster", "renamed", HOLDER)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(adopt(&world, &other, &[]).await, 0);
    let renamed = leader_of(&world, "renamed").await;
    assert_eq!(adopt(&world, &renamed, &[]).await, 1);
    // Whoever was deposed meanwhile takes nothing.
    lead::release(&world.store, &renamed, HOLDER).await.unwrap();
    leader_of(&world, "renamed").await;
    let deposed = adoption::adopt(&world.store, &renamed, &[], &Semaphore::new(1)).await;
    assert!(matches!(deposed, Err(StoreError::Deposed)), "{deposed:?}");
}

#[tokio::test]
async fn a_takeover_of_many_records_lets_others_write_between_its_batches() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    granted(world.grant(&world.claim(environment)).await);
    let copies = "INSERT INTO environment_operator.lease_object
         SELECT (jsonb_populate_record(o, jsonb_build_object('id', gen_random_uuid()))).*
         FROM environment_operator.lease_object AS o CROSS JOIN generate_series(1, 2500)";
    sqlx::query(AssertSqlSafe(copies)).execute(world.pool()).await.unwrap();
    let next = leader_of(&world, "next").await;
    let turn = Semaphore::new(1);
    // Another one that writes asks for its turn as soon as it has given it up, and sees how many records are the new one's.
    let (adopted, seen) = tokio::join!(
        async {
            let adopted = adoption::adopt(&world.store, &next, &[], &turn).await;
            turn.close();
            adopted.unwrap()
        },
        async {
            let mut seen = Vec::new();
            while let Ok(_turn) = turn.acquire().await {
                let own = "SELECT count(*) FROM environment_operator.lease_object WHERE installation = 'next'";
                seen.push(world.count(own).await);
            }
            seen
        }
    );
    assert_eq!(adopted, 2_502);
    assert!(seen.contains(&1_000) && seen.contains(&2_000), "{seen:?}");
}
