use std::time::Duration;

use environment_operator::store::{StoreError, cluster, lead};
use sqlx::Connection;

use crate::support::*;

#[tokio::test]
async fn only_one_replica_leads_and_the_next_term_has_the_next_epoch() {
    let world = World::new().await;
    assert_eq!((world.leader.epoch, world.leader.incarnation), (1, 1));
    assert_eq!(
        lead::acquire(&world.store, "cluster", "default", "second")
            .await
            .unwrap(),
        None
    );
    let other = lead::acquire(&world.store, "cluster", "other", "second").await.unwrap();
    assert_eq!(other.unwrap().epoch, 1, "another installation has a leader of its own");
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    let next = lead::acquire(&world.store, "cluster", "default", "second")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next.epoch, 2);
    assert!(!lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());
    assert!(lead::renew(&world.store, &next, "second").await.unwrap());
}

#[tokio::test]
async fn a_new_incarnation_is_seen_by_the_next_leader() {
    let world = World::new().await;
    assert_eq!(cluster::raise_incarnation(&world.store, "cluster").await.unwrap(), 2);
    assert_eq!(world.depose().await.incarnation, 2);
}

#[tokio::test]
async fn a_deposed_leaders_batch_changes_nothing() {
    let world = World::new().await;
    let environment = world.environment().await;
    world.depose().await;
    let outcome = world.try_grant(&world.claim(environment)).await;
    assert!(matches!(outcome, Err(StoreError::Deposed)), "{outcome:?}");
    assert_eq!(world.count("SELECT count(*) FROM environment_leases").await, 0);
    assert_eq!(
        world
            .count("SELECT count(*) FROM environment_operator.lease_object")
            .await,
        0
    );
}

#[tokio::test]
async fn a_takeover_waits_for_the_batch_in_flight_and_a_renewal_does_not() {
    let world = World::new().await;
    let mut batch = world.connect().await;
    let mut batch = batch.begin().await.unwrap();
    sqlx::query("SELECT FROM environment_operator.lead FOR KEY SHARE")
        .execute(&mut *batch)
        .await
        .unwrap();
    assert!(lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());
    sqlx::query("UPDATE environment_operator.lead SET expires_at = clock_timestamp()")
        .execute(world.pool())
        .await
        .unwrap();
    let store = world.store.clone();
    let takeover = tokio::spawn(async move { lead::acquire(&store, "cluster", "default", "second").await });
    let waiting = async {
        while world
            .count("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            .await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), waiting)
        .await
        .expect("the takeover waits");
    assert!(!takeover.is_finished());
    batch.commit().await.unwrap();
    assert_eq!(takeover.await.unwrap().unwrap().unwrap().epoch, 2);
}
