//! Leases without an object: which are selected, what is known of them, and what guards their ending.

use std::time::Duration;

use environment_operator::api::{Driver, LeasePolicy, Reason};
use environment_operator::lifecycle::unmanaged::Run;
use environment_operator::lifecycle::{LeaseState, RunOutcome};
use environment_operator::store::environment_leases::{End, EndOutcome, LeaseRow, UnmanagedLeaseEnd};
use environment_operator::store::{StoreError, unmanaged_leases};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::*;

/// An unmanaged active lease; `columns` and `values` go beside the needed ones.
async fn unmanaged(world: &TestEnvironment, environment: Uuid, columns: &str, values: &str) -> Uuid {
    let statement = format!(
        "INSERT INTO environment_leases (company_id, environment_id{columns}) VALUES ($1, $2{values}) RETURNING id"
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(world.company)
        .bind(environment)
        .fetch_one(world.pool())
        .await
        .unwrap()
}

async fn of_run(world: &TestEnvironment, environment: Uuid, run: Uuid) -> Uuid {
    unmanaged(world, environment, ", heartbeat_run_id", &format!(", '{run}'")).await
}

async fn candidates(world: &TestEnvironment) -> Vec<Uuid> {
    let mut ids = unmanaged_leases::candidates(&world.store).await.unwrap();
    ids.sort();
    ids
}

#[tokio::test]
async fn held_leases_without_an_object_are_selected_once_a_cause_is_visible() {
    let world = TestEnvironment::new().await;
    let own = world.held().await;
    let environment = own.environment_id;
    let live = world.run("running").await;
    of_run(&world, environment, live).await;
    unmanaged(
        &world,
        environment,
        ", heartbeat_run_id, expires_at",
        &format!(", '{live}', now() + interval '1 h'"),
    )
    .await;
    unmanaged(&world, environment, ", status", ", 'retained'").await;
    unmanaged(&world, environment, ", status", ", 'released'").await;
    let past = ", now() - interval '1 h'";
    unmanaged(
        &world,
        environment,
        ", status, expires_at",
        &format!(", 'expired'{past}"),
    )
    .await;
    assert_eq!(candidates(&world).await, Vec::<Uuid>::new());

    let mut due = Vec::new();
    for status in ["succeeded", "failed", "cancelled", "timed_out", "interrupted"] {
        let run = world.run(status).await;
        due.push(of_run(&world, environment, run).await);
    }
    due.push(unmanaged(&world, environment, "", "").await);
    due.push(
        unmanaged(
            &world,
            environment,
            ", heartbeat_run_id, expires_at",
            &format!(", '{live}'{past}"),
        )
        .await,
    );
    due.push(
        unmanaged(
            &world,
            environment,
            ", status, expires_at",
            &format!(", 'retained'{past}"),
        )
        .await,
    );
    due.sort();
    assert_eq!(candidates(&world).await, due);
    world.set_run(own.heartbeat_run_id.unwrap(), "failed").await;
    assert_eq!(candidates(&world).await, due, "an object's lease is not unmanaged");
}

#[tokio::test]
async fn what_is_known_of_an_unmanaged_lease_is_measured_by_the_database_s_clock() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let run = world.run("timed_out").await;
    let ended = "UPDATE heartbeat_runs SET finished_at = now() - interval '2 h', updated_at = now() WHERE id = $1";
    sqlx::query(ended).bind(run).execute(world.pool()).await.unwrap();
    let columns = ", heartbeat_run_id, lease_policy, last_used_at, expires_at";
    let values = format!(", '{run}', 'retain_on_failure', now() - interval '3 h', now() - interval '1 h'");
    let id = unmanaged(&world, environment, columns, &values).await;
    let own = world.held().await;
    let looked = unmanaged_leases::look(&world.store, &[id, own.id]).await.unwrap();
    let [Ok(lease)] = looked.as_slice() else {
        panic!("{looked:?}")
    };
    let facts = &lease.facts;
    let hours = |time: Duration| time.as_secs() / 3600;
    let Run::Over(outcome, since) = facts.run else {
        panic!("{facts:?}")
    };
    assert_eq!((outcome, hours(since)), (RunOutcome::TimedOut, 2));
    assert_eq!((hours(facts.unused_for), facts.expired_for.map(hours)), (3, Some(1)));
    assert_eq!((facts.state, facts.driver), (LeaseState::Active, Driver::Sandbox));
    assert_eq!(facts.policy, LeasePolicy::RetainOnFailure);
    assert_eq!((lease.row.id, facts.environment_display.as_str()), (id, "box"));

    sqlx::query("UPDATE heartbeat_runs SET finished_at = NULL")
        .execute(world.pool())
        .await
        .unwrap();
    let plain = unmanaged(&world, environment, ", expires_at", ", now() + interval '1 h'").await;
    for lease in unmanaged_leases::look(&world.store, &[id, plain]).await.unwrap() {
        let (id_found, facts) = lease.map(|lease| (lease.row.id, lease.facts)).unwrap();
        match facts.run {
            Run::Over(_, since) if id_found == id => assert_eq!(hours(since), 0, "else since its last change"),
            Run::Missing if id_found == plain => assert_eq!(facts.expired_for, None, "its time is to come"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_no_obstacle_to_others() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let (good, bad) = (
        unmanaged(&world, environment, "", "").await,
        unmanaged(&world, environment, "", "").await,
    );
    for statement in [
        "ALTER TABLE environment_leases DROP CONSTRAINT environment_leases_lease_policy_check".to_owned(),
        format!("UPDATE environment_leases SET lease_policy = 'of_the_future' WHERE id = '{bad}'"),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(world.pool())
            .await
            .unwrap();
    }
    let mut read = Vec::new();
    for lease in unmanaged_leases::look(&world.store, &[good, bad]).await.unwrap() {
        match lease {
            Ok(lease) => read.push(lease.row.id),
            Err(StoreError::Data { message }) => assert!(message.contains(&bad.to_string()), "{message}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(read, [good]);
}

fn expire(id: Uuid) -> UnmanagedLeaseEnd {
    UnmanagedLeaseEnd {
        end: End {
            id,
            leaves: LeaseState::Active,
            ending: ending(LeaseState::Expired, Reason::RunGone),
            only_if_expired: false,
            run_ended_at: None,
        },
        only_if_unused_for: Some(Duration::from_secs(900)),
        cleanup_failed: false,
    }
}

async fn end(world: &TestEnvironment, end: UnmanagedLeaseEnd) -> EndOutcome {
    UnmanagedLeaseEnd::carry_out(&world.store, &world.leader, &[end])
        .await
        .unwrap()
        .remove(0)
}

async fn row(world: &TestEnvironment, id: Uuid) -> LeaseRow {
    world.lease(id).await.unwrap()
}

#[tokio::test]
async fn an_unmanaged_lease_that_is_used_again_before_it_is_ended_is_left_alone() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let id = unmanaged(&world, environment, ", last_used_at", ", now() - interval '16 min'").await;
    sqlx::query("UPDATE environment_leases SET last_used_at = now() - interval '14 min'")
        .execute(world.pool())
        .await
        .unwrap();
    let before = row(&world, id).await;
    assert_eq!(end(&world, expire(id)).await, EndOutcome::Busy);
    assert_eq!(row(&world, id).await, before);
    sqlx::query("UPDATE environment_leases SET last_used_at = now() - interval '16 min'")
        .execute(world.pool())
        .await
        .unwrap();
    let ended = ended(end(&world, expire(id)).await);
    assert_eq!((ended.status, ended.cleanup_status), (LeaseState::Expired, None));
    assert!(
        matches!(end(&world, expire(id)).await, EndOutcome::AlreadyEnded(_)),
        "once"
    );
    let activity = "SELECT count(*) FROM activity_log WHERE action = 'environment.lease_released'";
    assert_eq!(world.count(activity).await, 1);
}

#[tokio::test]
async fn an_unmanaged_lease_that_holds_what_nobody_tears_down_says_so() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let id = unmanaged(&world, environment, "", "").await;
    let failed = UnmanagedLeaseEnd {
        end: End {
            ending: ending(LeaseState::Failed, Reason::RunFailed),
            ..expire(id).end
        },
        only_if_unused_for: None,
        cleanup_failed: true,
    };
    let ended = ended(end(&world, failed).await);
    assert_eq!(
        (ended.status, ended.cleanup_status.as_deref()),
        (LeaseState::Failed, Some("failed"))
    );
}

#[tokio::test]
async fn many_sweeps_at_once_end_each_unmanaged_lease_once_and_a_deposed_one_none() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(unmanaged(&world, environment, ", last_used_at", ", now() - interval '1 h'").await);
    }
    let sweep = async || {
        let ends: Vec<UnmanagedLeaseEnd> = ids.iter().map(|id| expire(*id)).collect();
        let outcomes = UnmanagedLeaseEnd::carry_out(&world.store, &world.leader, &ends)
            .await
            .unwrap();
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, EndOutcome::Ended(_)))
            .count()
    };
    let counts = futures::future::join_all((0..4).map(|_| sweep())).await;
    assert_eq!(counts.iter().sum::<usize>(), 50, "{counts:?}");
    let activity = "SELECT count(*) FROM activity_log WHERE action = 'environment.lease_released'";
    assert_eq!(world.count(activity).await, 50);

    let id = unmanaged(&world, environment, ", last_used_at", ", now() - interval '1 h'").await;
    world.depose().await;
    let outcome = UnmanagedLeaseEnd::carry_out(&world.store, &world.leader, &[expire(id)]).await;
    assert!(matches!(outcome, Err(StoreError::Deposed)), "{outcome:?}");
    assert_eq!(row(&world, id).await.status, LeaseState::Active);
}

#[tokio::test]
async fn an_unmanaged_lease_is_judged_by_the_driver_that_its_maker_has_noted() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let noted = |metadata: &str| format!(", '{metadata}'");
    for (metadata, driver) in [
        ("{\"driver\": \"plugin\"}", Some(Driver::Plugin)),
        ("{\"driver\": \"local\"}", Some(Driver::Local)),
        ("{\"driver\": null}", Some(Driver::Sandbox)),
        ("[\"driver\"]", Some(Driver::Sandbox)),
        ("{\"driver\": \"of the future\"}", None),
    ] {
        let id = unmanaged(&world, environment, ", metadata", &noted(metadata)).await;
        let looked = unmanaged_leases::look(&world.store, &[id]).await.unwrap().remove(0);
        assert_eq!(looked.ok().map(|lease| lease.facts.driver), driver, "{metadata}");
    }
    let id = unmanaged(&world, environment, ", metadata", &noted("{\"driver\": \"ssh\"}")).await;
    let unguarded = UnmanagedLeaseEnd {
        only_if_unused_for: None,
        ..expire(id)
    };
    ended(end(&world, unguarded).await);
    let told = "SELECT details->'driver' FROM activity_log WHERE action = 'environment.lease_released'";
    assert_eq!(world.rows(told).await, ["ssh"]);
}
