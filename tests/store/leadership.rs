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

#[tokio::test]
async fn a_term_that_has_passed_is_not_renewed_even_if_nobody_has_taken_over() {
    let world = World::new().await;
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    assert!(!lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());
}

#[tokio::test]
async fn each_term_begins_with_fencing_tokens_above_all_that_were_given() {
    let world = World::new().await;
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    let first = token(&world).await;
    let before = world.count(now).await;
    assert!(first < before, "tokens rise by one, the clock by microseconds");
    // An older state of the database has an older state of the sequence.
    sqlx::query("SELECT setval('environment_operator.fencing_token', 1)")
        .execute(world.pool())
        .await
        .unwrap();
    world.depose().await;
    assert!(token(&world).await > before);
    // A clock that was ahead does not let them fall.
    let ahead = world.count(now).await + 3_600_000_000;
    sqlx::query("SELECT setval('environment_operator.fencing_token', $1)")
        .bind(ahead)
        .execute(world.pool())
        .await
        .unwrap();
    world.depose().await;
    assert_eq!(token(&world).await, ahead + 1);
}

/// The next token.
async fn token(world: &World) -> i64 {
    world
        .count("SELECT nextval('environment_operator.fencing_token')")
        .await
}
