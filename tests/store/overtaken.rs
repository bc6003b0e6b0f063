//! Another writer commits after a statement of ours has begun and before it locks the row: what was written stays.

use environment_operator::api::{LeasePolicy, Reason};
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{End, EndOutcome, Grant, LeaseSync, SyncOutcome, Touch};
use environment_operator::store::environments::{Archive, EnvironmentSync};
use serde_json::{Value, json};
use std::time::Duration;

use crate::support::*;

const KEYS: &str = "UPDATE environment_leases SET metadata = metadata || '{\"theirs\": 1}', provider_lease_id = 'made',
  cleanup_status = 'pending'";

/// Metadata, name at the provider and cleanup of the only lease.
async fn written(world: &TestEnvironment) -> Vec<Value> {
    world
        .rows("SELECT jsonb_build_array(metadata->'theirs', provider_lease_id, cleanup_status) FROM environment_leases")
        .await
}

#[tokio::test]
async fn a_newer_spec_keeps_the_keys_that_another_writer_sets_meanwhile() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    let sync = LeaseSync {
        id: lease.id,
        version: version("lease", 30, 2),
        ttl_seconds: 7200,
        metadata: Some(object(json!({"mine": 2}))),
        ttl_seconds_after_finished: 60,
    };
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let ours = async move { LeaseSync::carry_out(&store, &leader, &[sync]).await };
    let outcome = overtake(&world, KEYS, ours).await.unwrap().remove(0);
    let SyncOutcome::Updated(row) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(row.metadata, Some(json!({"driver": "sandbox", "theirs": 1, "mine": 2})));
    assert_eq!(written(&world).await, [json!([1, "made", "pending"])]);
}

#[tokio::test]
async fn an_ending_and_a_heartbeat_keep_what_another_writer_sets_meanwhile() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    sqlx::query("UPDATE environment_leases SET last_used_at = now() - interval '1 h'")
        .execute(world.pool())
        .await
        .unwrap();
    let touch = Touch {
        id: lease.id,
        ago: Duration::ZERO,
    };
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let ours = async move { Touch::carry_out(&store, &leader, &[touch]).await };
    overtake(&world, KEYS, ours).await.unwrap();
    assert_eq!(written(&world).await, [json!([1, "made", "pending"])]);
    let used = world.lease(lease.id).await.unwrap().last_used_at;
    assert!(used > lease.last_used_at, "and the heartbeat shows");

    let end = End {
        id: lease.id,
        leaves: LeaseState::Active,
        ending: ending(LeaseState::Released, Reason::ReleaseRequested),
        only_if_expired: false,
        run_ended_at: None,
    };
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let ours = async move { End::carry_out(&store, &leader, &[end]).await };
    let again = "UPDATE environment_leases SET metadata = metadata || '{\"theirs\": 2}', cleanup_status = 'failed'";
    ended(overtake(&world, again, ours).await.unwrap().remove(0));
    assert_eq!(written(&world).await, [json!([2, "made", "failed"])]);
}

#[tokio::test]
async fn a_lease_that_another_writer_retains_meanwhile_is_not_ended_as_if_it_were_active() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    let end = End {
        id: lease.id,
        leaves: LeaseState::Active,
        ending: ending(LeaseState::Released, Reason::RunFinished),
        only_if_expired: false,
        run_ended_at: None,
    };
    let retain = "UPDATE environment_leases SET status = 'retained', failure_reason = 'kept for a look'";
    let (store, leader, ends) = (world.store.clone(), world.leader.clone(), [end.clone()]);
    let ours = async move { End::carry_out(&store, &leader, &ends).await };
    let outcome = overtake(&world, retain, ours).await.unwrap().remove(0);
    let left = world.lease(lease.id).await.unwrap();
    assert_eq!(
        (left.status, left.failure_reason.as_deref()),
        (LeaseState::Retained, Some("kept for a look"))
    );
    assert_eq!(outcome, EndOutcome::Moved(Box::new(left)));
    // Nor is it later, by a decision that has not seen it.
    let outcome = End::carry_out(&world.store, &world.leader, &[end]).await.unwrap();
    assert!(matches!(outcome.as_slice(), [EndOutcome::Moved(_)]), "{outcome:?}");
    let view = world.look(world.look_at(lease.id)).await;
    assert_eq!(view.object.unwrap().ending(), None, "nothing is recorded");
    ended(
        world
            .end(lease.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
}

async fn context(world: &TestEnvironment) -> Value {
    world
        .rows("SELECT context_snapshot FROM heartbeat_runs")
        .await
        .remove(0)
}

#[tokio::test]
async fn a_context_keeps_what_another_writer_adds_while_a_lease_is_granted() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    let claim = Grant {
        run_id: Some(run),
        ..world.claim(environment)
    };
    let id = claim.id;
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let ours = async move { Grant::carry_out(&store, &leader, &[claim]).await };
    let adds = "UPDATE heartbeat_runs SET context_snapshot = '{\"theirs\": 1}'";
    granted(overtake(&world, adds, ours).await.unwrap().remove(0));
    let context = context(&world).await;
    assert_eq!(context["theirs"], 1);
    assert_eq!(context["paperclipEnvironment"]["leaseId"], id.to_string());
}

#[tokio::test]
async fn a_run_that_another_writer_has_given_its_environment_keeps_it() {
    let provisioned = "UPDATE heartbeat_runs SET context_snapshot = '{\"paperclipEnvironment\":
      {\"leaseId\": \"01234567-89ab-4def-8000-000000000000\", \"workspaceRealization\": {\"kind\": \"worktree\"}}}'";
    let unnamed = "UPDATE heartbeat_runs SET context_snapshot = '{\"paperclipEnvironment\": {\"id\": 1}}'";
    for (provisioned, while_granted) in [(provisioned, false), (provisioned, true), (unnamed, false)] {
        let world = TestEnvironment::new().await;
        let (environment, run) = (world.environment().await, world.run("running").await);
        let claim = Grant {
            run_id: Some(run),
            ..world.claim(environment)
        };
        if while_granted {
            let (store, leader) = (world.store.clone(), world.leader.clone());
            let ours = async move { Grant::carry_out(&store, &leader, &[claim]).await };
            granted(overtake(&world, provisioned, ours).await.unwrap().remove(0));
        } else {
            sqlx::query(provisioned).execute(world.pool()).await.unwrap();
            let before = context(&world).await;
            granted(world.grant(&claim).await);
            assert_eq!(context(&world).await, before);
        }
        let kept = context(&world).await["paperclipEnvironment"].clone();
        assert!(kept.get("driver").is_none(), "{kept}");
    }
}

#[tokio::test]
async fn a_run_is_told_of_the_lease_that_follows_an_earlier_one_of_ours() {
    let world = TestEnvironment::new().await;
    let first = world.held().await;
    ended(world.end(first.id, LeaseState::Expired, Reason::TtlExpired).await);
    let claim = Grant {
        run_id: first.heartbeat_run_id,
        policy: LeasePolicy::Ephemeral,
        ..world.claim(first.environment_id)
    };
    granted(world.grant(&claim).await);
    assert_eq!(
        context(&world).await["paperclipEnvironment"]["leaseId"],
        claim.id.to_string()
    );
    let empty = "UPDATE heartbeat_runs SET context_snapshot = '{\"paperclipEnvironment\": null}'";
    sqlx::query(empty).execute(world.pool()).await.unwrap();
    let third = Grant {
        id: uuid::Uuid::new_v4(),
        ..claim
    };
    granted(world.grant(&third).await);
    assert_eq!(
        context(&world).await["paperclipEnvironment"]["leaseId"],
        third.id.to_string()
    );
}

#[tokio::test]
async fn a_local_keeps_what_another_writer_sets_and_its_object_does_not() {
    let world = TestEnvironment::new().await;
    let local = EnvironmentSync {
        metadata: Some(object(json!({"mine": 1}))),
        ..world.local()
    };
    world.sync_environment(&local).await;
    let newer = EnvironmentSync {
        version: version("local", 11, 2),
        metadata: Some(object(json!({"mine": 2}))),
        ..local
    };
    let theirs = "UPDATE environments SET name = 'theirs', metadata = metadata || '{\"theirs\": 1}'";
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let ours = async move { EnvironmentSync::carry_out(&store, &leader, &[newer]).await };
    overtake(&world, theirs, ours).await.unwrap();
    let row = world
        .rows("SELECT jsonb_build_array(name, metadata->'mine', metadata->'theirs') FROM environments")
        .await;
    assert_eq!(row, [json!(["theirs", 2, 1])]);
}

#[tokio::test]
async fn the_row_of_a_deleted_environment_keeps_what_another_writer_sets_meanwhile() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let theirs = "UPDATE environments SET name = 'theirs', metadata = '{\"theirs\": 1}'";
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let ours = async move { Archive::carry_out(&store, &leader, &[Archive(environment)]).await };
    overtake(&world, theirs, ours).await.unwrap();
    let row = world
        .rows("SELECT jsonb_build_array(name, metadata->'theirs', status) FROM environments")
        .await;
    assert_eq!(row, [json!(["theirs", 1, "archived"])]);
}
