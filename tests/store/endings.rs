use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{End, EndOutcome, ExternalEnding, Grant};
use environment_operator::store::lease_object::RunLook;
use environment_operator::store::sweep;
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn an_ending_writes_status_time_reason_and_activity() {
    let world = TestEnvironment::new().await;
    for (state, reason, failure) in [
        (LeaseState::Released, Reason::RunFinished, None),
        (LeaseState::Failed, Reason::RunFailed, Some("RunFailed: so it was")),
        (
            LeaseState::Expired,
            Reason::RunCancelled,
            Some("RunCancelled: so it was"),
        ),
        (LeaseState::Retained, Reason::RunFailed, Some("RunFailed: so it was")),
    ] {
        let lease = world.held().await;
        let row = ended(world.end(lease.id, state, reason).await);
        assert_eq!(row.status, state);
        assert_eq!(row.released_at.is_none(), state == LeaseState::Retained);
        assert_eq!(row.failure_reason.as_deref(), failure);
        assert_eq!(row.cleanup_status, None);
        let view = world.look(world.look_at(lease.id)).await;
        assert_eq!(view.object.unwrap().ending(), Some(ending(state, reason)));
        let details: serde_json::Value = sqlx::query_scalar(
            "SELECT details || jsonb_build_object('actor', actor_type, 'run', run_id) FROM activity_log
             WHERE action = 'environment.lease_released' AND entity_id = $1::text",
        )
        .bind(lease.id.to_string())
        .fetch_one(world.pool())
        .await
        .unwrap();
        assert_eq!(
            details,
            json!({
                "environmentId": lease.environment_id, "driver": "sandbox", "leasePolicy": "ephemeral",
                "provider": "kubernetes", "executionWorkspaceId": null, "issueId": null, "status": state.into_str(),
                "cleanupStatus": null, "failureReason": failure, "reason": format!("{reason:?}"), "actor": "agent",
                "run": lease.heartbeat_run_id
            })
        );
    }
}

#[tokio::test]
async fn an_ended_lease_stays_ended_whoever_ended_it() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    sqlx::query("UPDATE environment_leases SET status = 'released', released_at = now()")
        .execute(world.pool())
        .await
        .unwrap();
    let before = world.lease(lease.id).await.unwrap();
    let outcome = world.end(lease.id, LeaseState::Failed, Reason::RunFailed).await;
    assert_eq!(outcome, EndOutcome::AlreadyEnded(Box::new(before.clone())));
    assert_eq!(world.lease(lease.id).await.unwrap(), before);
    assert_eq!(
        world.end(Uuid::new_v4(), LeaseState::Failed, Reason::RunFailed).await,
        EndOutcome::RowMissing
    );
}

#[tokio::test]
async fn another_writers_ending_is_remembered_once_and_its_row_left_alone() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    sqlx::query("UPDATE environment_leases SET status = 'failed'")
        .execute(world.pool())
        .await
        .unwrap();
    let before = world.lease(lease.id).await;
    for reason in [Reason::EndedInDatabase, Reason::RunGone] {
        let end = ExternalEnding {
            id: lease.id,
            ending: ending(LeaseState::Failed, reason),
            run_ended_at: None,
        };
        ExternalEnding::carry_out(&world.store, &world.leader, &[end])
            .await
            .unwrap();
    }
    let view = world.look(world.look_at(lease.id)).await;
    assert_eq!(view.row, before);
    assert_eq!(view.object.unwrap().ending().unwrap().reason, Reason::EndedInDatabase);
}

#[tokio::test]
async fn a_row_set_back_to_active_is_ended_again_with_the_first_ending_remembered() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    ended(world.end(lease.id, LeaseState::Expired, Reason::RunGone).await);
    sqlx::query("UPDATE environment_leases SET status = 'active', released_at = NULL, failure_reason = NULL")
        .execute(world.pool())
        .await
        .unwrap();
    let recorded = world
        .look(world.look_at(lease.id))
        .await
        .object
        .unwrap()
        .ending()
        .unwrap();
    let row = ended(world.end(lease.id, recorded.state, recorded.reason).await);
    assert_eq!(row.failure_reason.as_deref(), Some("RunGone: so it was"));
    assert_eq!(
        world.look(world.look_at(lease.id)).await.object.unwrap().ending(),
        Some(recorded)
    );
}

#[tokio::test]
async fn a_retained_lease_ends_by_another_cause_which_is_then_the_one_remembered() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    ended(world.end(lease.id, LeaseState::Retained, Reason::RunFailed).await);
    assert!(matches!(
        world.end(lease.id, LeaseState::Retained, Reason::RunFailed).await,
        EndOutcome::AlreadyEnded(_)
    ));
    let row = ended(
        world
            .end(lease.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    assert!(row.released_at.is_some());
    assert_eq!(row.failure_reason, None);
    let remembered = world
        .look(world.look_at(lease.id))
        .await
        .object
        .unwrap()
        .ending()
        .unwrap();
    assert_eq!(remembered, ending(LeaseState::Released, Reason::ReleaseRequested));
}

#[tokio::test]
async fn a_deadline_is_judged_by_the_databases_clock() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    let end = End {
        id: lease.id,
        leaves: LeaseState::Active,
        ending: ending(LeaseState::Expired, Reason::TtlExpired),
        only_if_expired: true,
        run_ended_at: None,
    };
    let ends = [end];
    let outcome = End::carry_out(&world.store, &world.leader, &ends)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(outcome, EndOutcome::NotYetExpired(Box::new(lease)));
    sqlx::query("UPDATE environment_leases SET expires_at = clock_timestamp()")
        .execute(world.pool())
        .await
        .unwrap();
    ended(
        End::carry_out(&world.store, &world.leader, &ends)
            .await
            .unwrap()
            .remove(0),
    );
}

#[tokio::test]
async fn a_lease_that_another_transaction_holds_is_busy_and_its_neighbour_ends() {
    let world = TestEnvironment::new().await;
    let (first, second) = (world.held().await, world.held().await);
    let mut other = world.connect().await;
    let mut transaction = other.begin().await.unwrap();
    sqlx::query("SELECT FROM environment_leases WHERE id = $1 FOR UPDATE")
        .bind(first.id)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let ends: Vec<End> = [first.id, second.id]
        .map(|id| End {
            id,
            leaves: LeaseState::Active,
            ending: ending(LeaseState::Released, Reason::RunFinished),
            only_if_expired: false,
            run_ended_at: None,
        })
        .into();
    let mut outcomes = End::carry_out(&world.store, &world.leader, &ends).await.unwrap();
    ended(outcomes.remove(1));
    assert_eq!(outcomes.remove(0), EndOutcome::Busy);
}

#[tokio::test]
async fn a_run_that_is_being_deleted_does_not_hold_up_the_ending_of_its_lease() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    let mut other = world.connect().await;
    let mut deletion = other.begin().await.unwrap();
    sqlx::query("DELETE FROM activity_log")
        .execute(&mut *deletion)
        .await
        .unwrap();
    sqlx::query("SELECT FROM heartbeat_runs FOR UPDATE")
        .execute(&mut *deletion)
        .await
        .unwrap();
    ended(
        world
            .end(lease.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
    let named: i64 = world
        .count("SELECT count(*) FROM activity_log WHERE action = 'environment.lease_released' AND run_id IS NOT NULL")
        .await;
    assert_eq!(named, 0, "the activity of a run that goes would keep it from going");
    sqlx::query("DELETE FROM heartbeat_runs")
        .execute(&mut *deletion)
        .await
        .unwrap();
    deletion.commit().await.unwrap();
}

#[tokio::test]
async fn a_lease_whose_runs_row_was_deleted_remembers_the_run_that_it_had() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    sqlx::query("DELETE FROM activity_log")
        .execute(world.pool())
        .await
        .unwrap();
    sqlx::query("DELETE FROM heartbeat_runs")
        .execute(world.pool())
        .await
        .unwrap();
    let view = world.look(world.look_at(lease.id)).await;
    assert_eq!(view.row.unwrap().heartbeat_run_id, None);
    assert_eq!(view.run, RunLook::Missing);
}

#[tokio::test]
async fn ending_one_runs_leases_touches_no_other_row() {
    let world = TestEnvironment::new().await;
    let (first, second) = (world.held().await, world.held().await);
    let sibling = Grant {
        run_id: first.heartbeat_run_id,
        ..world.claim(first.environment_id)
    };
    let sibling = granted(world.grant(&sibling).await);
    for id in [first.id, sibling.id] {
        ended(world.end(id, LeaseState::Released, Reason::RunFinished).await);
    }
    assert_eq!(world.lease(second.id).await.unwrap(), second);
}

#[tokio::test]
async fn an_ending_whose_cleanup_was_pending_is_followed_to_its_final_status_once() {
    let world = TestEnvironment::new().await;
    sqlx::query("ALTER TABLE environment_leases DROP CONSTRAINT environment_leases_status_check")
        .execute(world.pool())
        .await
        .unwrap();
    let lease = world.held().await;
    let set = async |status: &str| {
        sqlx::query("UPDATE environment_leases SET status = $1, released_at = now()")
            .bind(status)
            .execute(world.pool())
            .await
            .unwrap();
    };
    let record = async |state| {
        let end = ExternalEnding {
            id: lease.id,
            ending: ending(state, Reason::RunFailed),
            run_ended_at: None,
        };
        ExternalEnding::carry_out(&world.store, &world.leader, &[end])
            .await
            .unwrap();
        world.look(world.look_at(lease.id)).await.object.unwrap()
    };
    let due = async || sweep::candidates(&world.store, &world.leader, &[]).await.unwrap();
    set("pending_cleanup").await;
    assert_eq!(due().await, [lease.id]);
    let pending = record(LeaseState::PendingCleanup).await;
    assert_eq!(due().await, Vec::<Uuid>::new(), "it waits for its cleanup");
    set("released").await;
    assert_eq!(due().await, [lease.id], "its cleanup is over");
    let last = record(LeaseState::Released).await;
    assert_eq!(last.ended_status, Some(LeaseState::Released));
    assert!(last.ended_at > pending.ended_at, "its object has its time from now on");
    assert_eq!(due().await, Vec::<Uuid>::new());
    assert_eq!(record(LeaseState::Failed).await, last, "what is final stays");
}

#[tokio::test]
async fn when_its_run_ended_and_how_long_it_was_held_is_remembered_of_each_lease() {
    let world = TestEnvironment::new().await;
    let (late, retained, theirs) = (world.held().await, world.held().await, world.held().await);
    let run_ended_at = Some(jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5));
    let end = async |id, leaves, state, run_ended_at| {
        let end = End {
            id,
            leaves,
            ending: ending(state, Reason::RunFailed),
            only_if_expired: false,
            run_ended_at,
        };
        End::carry_out(&world.store, &world.leader, &[end]).await.unwrap();
    };
    end(late.id, LeaseState::Active, LeaseState::Failed, run_ended_at).await;
    end(
        retained.id,
        LeaseState::Active,
        LeaseState::Retained,
        Some(jiff::Timestamp::now()),
    )
    .await;
    sqlx::query("UPDATE environment_operator.lease_object SET ended_at = ended_at - interval '1 hour'")
        .execute(world.pool())
        .await
        .unwrap();
    end(retained.id, LeaseState::Retained, LeaseState::Released, run_ended_at).await;
    sqlx::query(
        "UPDATE environment_leases SET status = 'released', released_at = now() - interval '2 minutes' WHERE id = $1",
    )
    .bind(theirs.id)
    .execute(world.pool())
    .await
    .unwrap();
    let theirs = ExternalEnding {
        id: theirs.id,
        ending: ending(LeaseState::Released, Reason::RunFailed),
        run_ended_at,
    };
    ExternalEnding::carry_out(&world.store, &world.leader, std::slice::from_ref(&theirs))
        .await
        .unwrap();
    let by = async |id: Uuid| -> f64 {
        sqlx::query_scalar(
            "SELECT extract(epoch FROM held_until - run_ended_at)::float8 FROM environment_operator.lease_object WHERE id = $1",
        )
        .bind(id)
        .fetch_one(world.pool())
        .await
        .unwrap()
    };
    assert!((300.0..360.0).contains(&by(late.id).await), "{}", by(late.id).await);
    assert!(by(retained.id).await < 60.0, "it was out of use since its run failed");
    assert!((180.0..240.0).contains(&by(theirs.id).await), "{}", by(theirs.id).await);
}
