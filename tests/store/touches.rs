//! Heartbeats in the row: when a lease was last used, once a minute at most.

use std::time::Duration;

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::StoreError;
use environment_operator::store::environment_leases::Touch;
use sqlx::Connection;
use uuid::Uuid;

use crate::support::*;

impl TestEnvironment {
    /// Touches the leases for heartbeats of five seconds ago.
    async fn touch(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let ago = Duration::from_secs(5);
        let touches: Vec<Touch> = ids.iter().map(|id| Touch { id: *id, ago }).collect();
        Touch::carry_out(&self.store, &self.leader, &touches).await.map(drop)
    }

    async fn unused_for(&self, id: Uuid, seconds: f64) {
        let statement = "UPDATE environment_leases SET last_used_at = now() - make_interval(secs => $2) WHERE id = $1";
        sqlx::query(statement)
            .bind(id)
            .bind(seconds)
            .execute(self.pool())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_heartbeat_moves_last_used_by_a_minute_at_least_and_touches_nothing_that_has_ended() {
    let world = TestEnvironment::new().await;
    let (long_ago, lately, over) = (world.held().await.id, world.held().await.id, world.held().await.id);
    ended(world.end(over, LeaseState::Released, Reason::RunFinished).await);
    for (id, seconds) in [(long_ago, 70.0), (lately, 60.0), (over, 600.0)] {
        world.unused_for(id, seconds).await;
    }
    let before = [world.lease(lately).await, world.lease(over).await];
    world.touch(&[long_ago, lately, over]).await.unwrap();
    let row = world.lease(long_ago).await.unwrap();
    let ago = row.updated_at.duration_since(row.last_used_at).as_millis();
    assert!(
        (4_900..6_000).contains(&ago),
        "when it beat, not when it was written: {ago} ms"
    );
    assert_eq!([world.lease(lately).await, world.lease(over).await], before);
    world.touch(&[long_ago]).await.unwrap();
    assert_eq!(
        world.lease(long_ago).await,
        Some(row),
        "within the minute it is left as it is"
    );
}

#[tokio::test]
async fn a_row_that_is_held_waits_for_the_next_heartbeat_and_a_deposed_leader_touches_none() {
    let world = TestEnvironment::new().await;
    let (held, free) = (world.held().await.id, world.held().await.id);
    for id in [held, free] {
        world.unused_for(id, 600.0).await;
    }
    let before = world.lease(held).await;
    let mut other = world.connect().await;
    let mut transaction = other.begin().await.unwrap();
    sqlx::query("SELECT FROM environment_leases WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let touched = tokio::time::timeout(Duration::from_secs(5), world.touch(&[held, free])).await;
    touched.expect("it waits for nobody").unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(world.lease(held).await, before);
    let row = world.lease(free).await;
    assert!(row.as_ref().unwrap().last_used_at > before.as_ref().unwrap().last_used_at);
    world.depose().await;
    let refused = world.touch(&[held]).await;
    assert!(matches!(refused, Err(StoreError::Deposed)), "{refused:?}");
    assert_eq!(world.lease(held).await, before);
}
