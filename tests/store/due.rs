//! What is selected because it is due or gone, and how run ends are heard of.

use std::time::Duration;

use environment_operator::api::Reason;
use environment_operator::lifecycle::{LeaseState, ResourceVersion};
use environment_operator::store::environments::Archive;
use environment_operator::store::heartbeat_runs::Heard;
use environment_operator::store::lease_object::MarkGone;
use environment_operator::store::missed_deletions::{self, List};
use environment_operator::store::{cluster, heartbeat_runs, sweep};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::*;

async fn candidates(world: &TestEnvironment) -> Vec<Uuid> {
    sweep::candidates(&world.store, &world.leader, &[]).await.unwrap()
}

#[tokio::test]
async fn the_sweep_selects_in_its_own_namespaces_alone() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await; // in namespace `team`
    world.set_run(lease.heartbeat_run_id.unwrap(), "failed").await;
    let candidates = async |namespaces: &[&str]| {
        let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
        sweep::candidates(&world.store, &world.leader, &namespaces)
            .await
            .unwrap()
    };
    assert_eq!(candidates(&["other", "team"]).await, [lease.id]);
    assert_eq!(candidates(&["other"]).await, Vec::<Uuid>::new());
}

#[tokio::test]
async fn the_sweep_selects_what_is_due_and_nothing_else() {
    let world = TestEnvironment::new().await;
    world.held().await;
    assert_eq!(candidates(&world).await, Vec::<Uuid>::new());
    for change in [
        "UPDATE heartbeat_runs SET status = 'failed' WHERE id = (SELECT heartbeat_run_id FROM environment_leases WHERE id = '$')",
        "WITH a AS (DELETE FROM activity_log) DELETE FROM heartbeat_runs WHERE id = (SELECT heartbeat_run_id FROM environment_leases WHERE id = '$')",
        "UPDATE environment_leases SET expires_at = now() WHERE id = '$'",
        "UPDATE environment_leases SET status = 'released' WHERE id = '$'",
        "DELETE FROM environment_leases WHERE id = '$'",
    ] {
        let lease = world.held().await;
        sqlx::query(AssertSqlSafe(change.replace('$', &lease.id.to_string())))
            .execute(world.pool())
            .await
            .unwrap();
        assert_eq!(candidates(&world).await, [lease.id], "{change}");
        sqlx::query("DELETE FROM environment_operator.lease_object WHERE id = $1")
            .bind(lease.id)
            .execute(world.pool())
            .await
            .unwrap();
    }
    let lease = world.held().await;
    ended(world.end(lease.id, LeaseState::Released, Reason::RunFinished).await);
    assert_eq!(candidates(&world).await, Vec::<Uuid>::new());
    sqlx::query("UPDATE environment_leases SET status = 'active' WHERE id = $1")
        .bind(lease.id)
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(
        candidates(&world).await,
        [lease.id],
        "held again after its recorded ending"
    );
}

#[tokio::test]
async fn leaks_are_counted_by_who_made_them() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    world.held().await;
    sqlx::query(
        "INSERT INTO environment_leases (company_id, environment_id, heartbeat_run_id) VALUES ($1, $2, $3), ($1, $2, NULL)",
    )
    .bind(world.company)
    .bind(lease.environment_id)
    .bind(lease.heartbeat_run_id)
    .execute(world.pool())
    .await
    .unwrap();
    assert_eq!(
        sweep::leaked(&world.store, &[]).await.unwrap(),
        sweep::Leaked {
            operator: 0,
            unmanaged: 0
        }
    );
    world.set_run(lease.heartbeat_run_id.unwrap(), "succeeded").await;
    assert_eq!(
        sweep::leaked(&world.store, &[]).await.unwrap(),
        sweep::Leaked {
            operator: 1,
            unmanaged: 1
        }
    );
}

#[tokio::test]
async fn a_lease_of_a_run_object_that_is_over_leaks_while_it_is_active_and_counts_once() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let of_a_job = granted(world.grant(&world.claim(environment)).await);
    let of_a_run = world.held().await;
    let over = [of_a_job.id, of_a_run.id, Uuid::new_v4()];
    let leaked = async |over: &[Uuid]| sweep::leaked(&world.store, over).await.unwrap().operator;
    assert_eq!(leaked(&[]).await, 0, "no row tells of a Job");
    assert_eq!(leaked(&over).await, 1, "of a run with a row, its row alone tells");
    world.set_run(of_a_run.heartbeat_run_id.unwrap(), "failed").await;
    assert_eq!(leaked(&over).await, 2, "each once");
    ended(world.end(of_a_job.id, LeaseState::Released, Reason::RunFinished).await);
    assert_eq!(leaked(&over).await, 1);
}

#[tokio::test]
async fn a_missed_deletion_needs_a_list_of_the_same_scope_that_is_not_older_than_the_row() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await; // at version 10
    let lease = granted(world.grant(&world.claim(environment)).await); // at version 20
    let missing = async |namespace, version: &str, known: &[Uuid]| {
        let version = ResourceVersion::parse(version).unwrap();
        let list = List {
            namespace,
            version: &version,
        };
        missed_deletions::missing_leases(&world.store, &world.leader, &list, known)
            .await
            .unwrap()
    };
    let nothing = Vec::<Uuid>::new();
    assert_eq!(missing(None, "100", &[]).await, [lease.id]);
    assert_eq!(missing(Some("team"), "20", &[]).await, [lease.id]);
    assert_eq!(missing(None, "100", &[lease.id]).await, nothing, "it is in the list");
    assert_eq!(missing(None, "19", &[]).await, nothing, "the list is older");
    assert_eq!(missing(None, "9", &[]).await, nothing, "compared as numbers");
    assert_eq!(
        missing(Some("elsewhere"), "100", &[]).await,
        nothing,
        "the list is of another namespace"
    );
    let version = ResourceVersion::parse("100").unwrap();
    let list = List {
        namespace: None,
        version: &version,
    };
    let environments = async |leader| {
        missed_deletions::missing_environments(&world.store, leader, &list, &[])
            .await
            .unwrap()
    };
    assert_eq!(environments(&world.leader).await, [environment]);
    Archive::carry_out(&world.store, &world.leader, &[Archive(environment)])
        .await
        .unwrap();
    assert_eq!(environments(&world.leader).await, nothing, "told once");
    ended(world.end(lease.id, LeaseState::Released, Reason::LeaseDeleted).await);
    assert_eq!(missing(None, "100", &[]).await, [lease.id], "until it is marked");
    MarkGone::carry_out(&world.store, &world.leader, &[MarkGone(lease.id)])
        .await
        .unwrap();
    assert_eq!(missing(None, "100", &[]).await, nothing);
}

#[tokio::test]
async fn rows_of_another_cluster_installation_or_incarnation_are_no_missed_deletions() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let lease = granted(world.grant(&world.claim(environment)).await);
    let version = ResourceVersion::parse("100").unwrap();
    let list = List {
        namespace: None,
        version: &version,
    };
    let theirs = [
        environment_operator::store::Leader {
            cluster: "another".to_owned(),
            ..world.leader.clone()
        },
        environment_operator::store::Leader {
            installation: "another".to_owned(),
            ..world.leader.clone()
        },
    ];
    for leader in theirs {
        let missing = missed_deletions::missing_leases(&world.store, &leader, &list, &[])
            .await
            .unwrap();
        assert_eq!(missing, Vec::<Uuid>::new(), "{leader:?}");
    }
    cluster::raise_incarnation(&world.store, "cluster").await.unwrap();
    let leader = world.depose().await;
    let missing = missed_deletions::missing_leases(&world.store, &leader, &list, &[])
        .await
        .unwrap();
    assert_eq!(missing, Vec::<Uuid>::new(), "a restored etcd may not know it yet");
    assert!(world.lease(lease.id).await.is_some());
}

#[tokio::test]
async fn an_object_whose_lease_is_held_is_not_marked_as_gone() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    MarkGone::carry_out(&world.store, &world.leader, &[MarkGone(lease.id)])
        .await
        .unwrap();
    assert_eq!(
        world.look(world.look_at(lease.id)).await.object.unwrap().deleted_at,
        None
    );
}

#[tokio::test]
async fn a_runs_end_and_its_deletion_are_heard_of_and_nothing_else_is() {
    let world = TestEnvironment::new().await;
    let runs = [world.run("queued").await, world.run("queued").await];
    let mut ends = heartbeat_runs::listen(&world.store).await.unwrap();
    world.set_run(runs[0], "running").await; // live to live
    sqlx::query("UPDATE heartbeat_runs SET error = 'x'")
        .execute(world.pool())
        .await
        .unwrap();
    sqlx::query("SELECT pg_notify('environment_operator_run_end', 'no run')")
        .execute(world.pool())
        .await
        .unwrap();
    world.set_run(runs[1], "timed_out").await;
    world.set_run(runs[1], "timed_out").await; // not again
    sqlx::query("DELETE FROM heartbeat_runs WHERE id = $1")
        .bind(runs[0])
        .execute(world.pool())
        .await
        .unwrap();
    for run in [runs[1], runs[0]] {
        let heard = tokio::time::timeout(Duration::from_secs(5), ends.next()).await.unwrap();
        assert_eq!(heard.unwrap(), Heard::RunEnd(run));
    }
}

#[tokio::test]
async fn of_the_runs_that_are_asked_for_those_that_are_over_or_gone_are_told() {
    let world = TestEnvironment::new().await;
    let mut asked = Vec::new();
    for status in ["queued", "scheduled_retry", "running"] {
        asked.push(world.run(status).await);
    }
    let mut expected = vec![(Uuid::new_v4(), None)];
    for status in ["succeeded", "failed", "cancelled", "timed_out", "interrupted"] {
        expected.push((world.run(status).await, Some(status.to_owned())));
    }
    world.run("failed").await; // nobody asks for it
    asked.extend(expected.iter().map(|(run, _)| *run));
    let mut told = heartbeat_runs::not_live(&world.store, &asked).await.unwrap();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(heartbeat_runs::not_live(&world.store, &[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_lost_ear_says_so_instead_of_connecting_again_in_silence() {
    let world = TestEnvironment::new().await;
    let mut ends = heartbeat_runs::listen(&world.store).await.unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(5), ends.next()).await.unwrap();
    assert_eq!(outcome.unwrap_err().category().into_str(), "unavailable");
}

#[tokio::test]
async fn the_fill_of_the_notification_queue_is_a_share_of_the_whole() {
    let world = TestEnvironment::new().await;
    let usage = heartbeat_runs::notification_queue_usage(&world.store).await.unwrap();
    assert!((0.0..=1.0).contains(&usage), "{usage}");
}
