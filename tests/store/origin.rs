//! The behaviour of the origin's service (DOMAIN, section 4), as far as the other files do not show it.

use std::collections::{HashMap, HashSet};

use environment_operator::api::Reason;
use environment_operator::lifecycle::{EnvironmentState, LeaseState};
use environment_operator::store::StoreError;
use environment_operator::store::environment_leases::{self, Grant, LeaseRow};
use environment_operator::store::environments::{self, EnvironmentSync};
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn an_acquired_lease_is_active_and_a_released_one_has_its_time() {
    let world = World::new().await;
    let lease = world.held().await;
    assert_eq!((lease.status, lease.released_at), (LeaseState::Active, None));
    let released = ended(world.end(lease.id, LeaseState::Released, Reason::RunFinished).await);
    assert_eq!(released.status, LeaseState::Released);
    assert_eq!(released.released_at, Some(released.last_used_at));
    assert_eq!(released.updated_at, released.last_used_at);
    assert_eq!(released.acquired_at, lease.acquired_at);
}

#[tokio::test]
async fn release_for_a_run_returns_exactly_its_active_leases_and_a_second_call_none() {
    let world = World::new().await;
    let (first, other) = (world.held().await, world.held().await);
    let of_run = || Grant {
        run_id: first.heartbeat_run_id,
        ..world.claim(first.environment_id)
    };
    let second = granted(world.grant(&of_run()).await);
    let done = granted(world.grant(&of_run()).await);
    let done = ended(world.end(done.id, LeaseState::Failed, Reason::RunFailed).await);
    let endings = HashMap::from([(
        first.heartbeat_run_id.unwrap(),
        ending(LeaseState::Released, Reason::RunFinished),
    )]);
    let release = || environment_leases::end_for_runs(&world.store, &world.leader, &endings);
    let ids = |rows: Vec<LeaseRow>| rows.into_iter().map(|row| row.id).collect::<HashSet<Uuid>>();
    assert_eq!(ids(release().await.unwrap()), HashSet::from([first.id, second.id]));
    assert_eq!(release().await.unwrap(), []);
    assert_eq!(world.lease(other.id).await.unwrap(), other);
    assert_eq!(world.lease(done.id).await.unwrap(), done);
}

#[tokio::test]
async fn updating_metadata_replaces_it_and_counts_as_a_use() {
    let world = World::new().await;
    let (lease, other) = (world.held().await, world.held().await);
    let updates = [(lease.id, object(json!({"driver": "sandbox", "new": 1})))];
    let rows = environment_leases::update_metadata(&world.store, &world.leader, &updates)
        .await
        .unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row.metadata, Some(json!({"driver": "sandbox", "new": 1})));
    assert!(row.last_used_at >= lease.last_used_at && row.last_used_at == row.updated_at);
    assert_eq!(world.lease(other.id).await.unwrap(), other);
    world.depose().await;
    let outcome = environment_leases::update_metadata(&world.store, &world.leader, &updates).await;
    assert!(matches!(outcome, Err(StoreError::Deposed)));
}

#[tokio::test]
async fn leases_are_listed_by_environment_and_status_the_last_used_first() {
    let world = World::new().await;
    let environment = world.environment().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(granted(world.grant(&world.claim(environment)).await).id);
    }
    let used = "UPDATE environment_leases SET last_used_at = now() + make_interval(secs => $2) WHERE id = $1";
    for (id, seconds) in ids.iter().zip([20.0, 30.0, 10.0]) {
        sqlx::query(used)
            .bind(id)
            .bind(seconds)
            .execute(world.pool())
            .await
            .unwrap();
    }
    let list = async |status| {
        let rows = environment_leases::list(&world.store, world.company, environment, status)
            .await
            .unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<Uuid>>()
    };
    assert_eq!(list(None).await, [ids[1], ids[0], ids[2]]);
    ended(world.end(ids[1], LeaseState::Released, Reason::RunFinished).await);
    assert_eq!(list(Some(LeaseState::Active)).await, [ids[0], ids[2]]);
    let elsewhere = environment_leases::list(&world.store, Uuid::new_v4(), environment, None)
        .await
        .unwrap();
    assert_eq!(elsewhere, [], "another company's");
}

#[tokio::test]
async fn environments_are_listed_and_read_within_their_company() {
    let world = World::new().await;
    let first = world.sandbox("first");
    let second = EnvironmentSync {
        status: ARCHIVED,
        ..world.sandbox("second")
    };
    for sync in [&first, &second] {
        world.sync_environment(sync).await;
    }
    let list = async |status| {
        let rows = environments::list(&world.store, world.company, status).await.unwrap();
        rows.into_iter().map(|row| row.name).collect::<Vec<String>>()
    };
    assert_eq!(list(None).await, ["first", "second"]);
    assert_eq!(list(Some(EnvironmentState::Active)).await, ["first"]);
    let read = async |company, id| environments::read(&world.store, company, &[id]).await.unwrap();
    assert_eq!(read(world.company, first.id).await[0].name, "first");
    assert_eq!(read(Uuid::new_v4(), first.id).await, [], "another company's");
    assert_eq!(read(world.company, Uuid::new_v4()).await, []);
}
