use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{Grant, LeaseRow, LeaseSync, SyncOutcome};
use environment_operator::store::{Leader, cluster};
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

fn newer(lease: &LeaseRow, resource_version: u64, generation: i64) -> LeaseSync {
    LeaseSync {
        id: lease.id,
        version: version("lease", resource_version, generation),
        ttl_seconds: 7200,
        metadata: Some(object(json!({"mine": 2}))),
        ttl_seconds_after_finished: 60,
    }
}

async fn sync(world: &TestEnvironment, leader: &Leader, sync: LeaseSync) -> SyncOutcome {
    LeaseSync::carry_out(&world.store, leader, &[sync])
        .await
        .unwrap()
        .remove(0)
}

async fn held_with_metadata(world: &TestEnvironment) -> LeaseRow {
    let environment = world.environment().await;
    let claim = Grant {
        metadata: object(json!({"mine": 1, "gone": true})),
        ..world.claim(environment)
    };
    granted(world.grant(&claim).await)
}

#[tokio::test]
async fn a_newer_spec_moves_the_deadline_and_touches_only_its_own_keys() {
    let world = TestEnvironment::new().await;
    let lease = held_with_metadata(&world).await;
    sqlx::query("UPDATE environment_leases SET metadata = metadata || '{\"theirs\": 3}', provider_lease_id = 'theirs'")
        .execute(world.pool())
        .await
        .unwrap();
    let SyncOutcome::Updated(row) = sync(&world, &world.leader, newer(&lease, 21, 2)).await else {
        panic!()
    };
    assert_eq!(row.metadata, Some(json!({"mine": 2, "theirs": 3, "driver": "sandbox"})));
    assert_eq!(
        row.expires_at.unwrap(),
        row.acquired_at + jiff::SignedDuration::from_secs(7200)
    );
    assert_eq!(row.provider_lease_id.as_deref(), Some("theirs"));
    assert_eq!(row.last_used_at, lease.last_used_at);
}

#[tokio::test]
async fn no_older_version_overwrites_a_newer_one() {
    let world = TestEnvironment::new().await;
    let lease = held_with_metadata(&world).await;
    assert_eq!(
        sync(&world, &world.leader, newer(&lease, 19, 2)).await,
        SyncOutcome::Older
    );
    assert_eq!(
        sync(&world, &world.leader, newer(&lease, 9, 2)).await,
        SyncOutcome::Older,
        "compared as numbers"
    );
    assert_eq!(
        sync(&world, &world.leader, newer(&lease, 20, 1)).await,
        SyncOutcome::AlreadySo
    );
    assert_eq!(
        sync(&world, &world.leader, newer(&lease, 100, 1)).await,
        SyncOutcome::AlreadySo,
        "a status write alone brings nothing"
    );
    assert!(matches!(
        sync(&world, &world.leader, newer(&lease, 100, 2)).await,
        SyncOutcome::Updated(_)
    ));
    assert_eq!(
        sync(&world, &world.leader, newer(&lease, 99, 3)).await,
        SyncOutcome::Older
    );
}

#[tokio::test]
async fn in_a_new_incarnation_every_version_is_newer() {
    let world = TestEnvironment::new().await;
    let lease = held_with_metadata(&world).await;
    cluster::raise_incarnation(&world.store, "cluster").await.unwrap();
    let leader = world.depose().await;
    assert!(matches!(
        sync(&world, &leader, newer(&lease, 3, 1)).await,
        SyncOutcome::Updated(_)
    ));
    let view = world.look(world.look_at(lease.id)).await.object.unwrap();
    assert_eq!((view.incarnation, view.rv.as_str()), (2, "3"));
}

#[tokio::test]
async fn an_ended_or_unknown_lease_is_not_written() {
    let world = TestEnvironment::new().await;
    let lease = held_with_metadata(&world).await;
    ended(
        world
            .end(lease.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    let before = world.lease(lease.id).await;
    assert_eq!(
        sync(&world, &world.leader, newer(&lease, 21, 2)).await,
        SyncOutcome::NotHeld
    );
    assert_eq!(world.lease(lease.id).await, before);
    let unknown = LeaseSync {
        id: Uuid::new_v4(),
        ..newer(&lease, 21, 2)
    };
    assert_eq!(sync(&world, &world.leader, unknown).await, SyncOutcome::NotHeld);
}

#[tokio::test]
async fn a_spec_whose_metadata_can_not_be_stored_moves_the_deadline_and_leaves_the_metadata() {
    let world = TestEnvironment::new().await;
    let lease = held_with_metadata(&world).await;
    let without = LeaseSync {
        metadata: None,
        ..newer(&lease, 21, 2)
    };
    let SyncOutcome::Updated(row) = sync(&world, &world.leader, without.clone()).await else {
        panic!()
    };
    assert_eq!(row.metadata, lease.metadata);
    assert_eq!(
        row.expires_at.unwrap(),
        row.acquired_at + jiff::SignedDuration::from_secs(7200)
    );
    assert_eq!(sync(&world, &world.leader, without).await, SyncOutcome::AlreadySo);
    // What the spec left out meanwhile is still known to be its own.
    let SyncOutcome::Updated(row) = sync(&world, &world.leader, newer(&lease, 22, 3)).await else {
        panic!()
    };
    assert_eq!(row.metadata, Some(json!({"mine": 2, "driver": "sandbox"})));
}
