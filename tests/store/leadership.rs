use std::time::Duration;

use environment_operator::store::{Store, StoreError, cluster, lead};
use sqlx::Connection;

use crate::support::*;

#[tokio::test]
async fn only_one_replica_leads_and_the_next_term_has_the_next_epoch() {
    let world = TestEnvironment::new().await;
    assert_eq!(world.leader.incarnation, 1);
    assert_eq!(
        lead::acquire(&world.store, "cluster", "default", "second")
            .await
            .unwrap(),
        None
    );
    let other = lead::acquire(&world.store, "cluster", "other", "second").await.unwrap();
    assert!(other.is_some(), "another installation has a leader of its own");
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    let next = lead::acquire(&world.store, "cluster", "default", "second")
        .await
        .unwrap()
        .unwrap();
    assert!(next.epoch > world.leader.epoch);
    assert!(!lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());
    assert!(lead::renew(&world.store, &next, "second").await.unwrap());
}

#[tokio::test]
async fn every_replica_can_read_who_leads_while_a_term_runs() {
    let world = TestEnvironment::new().await;
    let running = async |installation| lead::running(&world.store, "cluster", installation).await.unwrap();
    let holder = async |installation| running(installation).await.map(|term| term.holder);
    let left = running("default").await.unwrap().left;
    assert!(
        left > Duration::ZERO && left <= Duration::from_secs(lead::TERM_SECONDS.into()),
        "{left:?}"
    );
    assert_eq!(holder("default").await.as_deref(), Some(HOLDER));
    assert_eq!(holder("other").await, None, "another installation has no leader");
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    assert_eq!(holder("default").await, None, "the term is over");
    world.depose().await;
    assert_eq!(holder("default").await.as_deref(), Some("second"));
}

#[tokio::test]
async fn a_new_incarnation_is_seen_by_the_next_leader() {
    let world = TestEnvironment::new().await;
    assert_eq!(cluster::raise_incarnation(&world.store, "cluster").await.unwrap(), 2);
    assert_eq!(world.depose().await.incarnation, 2);
}

#[tokio::test]
async fn a_deposed_leaders_batch_changes_nothing() {
    let world = TestEnvironment::new().await;
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
    let world = TestEnvironment::new().await;
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
    assert!(takeover.await.unwrap().unwrap().unwrap().epoch > world.leader.epoch);
}

#[tokio::test]
async fn a_term_that_has_passed_is_not_renewed_even_if_nobody_has_taken_over() {
    let world = TestEnvironment::new().await;
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    assert!(!lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());
}

#[tokio::test]
async fn each_term_begins_with_fencing_tokens_above_all_that_were_given() {
    let world = TestEnvironment::new().await;
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

#[tokio::test]
async fn two_replicas_never_hold_one_epoch_even_if_a_fail_over_loses_a_term() {
    let mut world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let kept: String = sqlx::query_scalar("SELECT to_jsonb(l)::text FROM environment_operator.lead AS l")
        .fetch_one(world.pool())
        .await
        .unwrap();
    let lost = world.depose().await;
    // The server that takes over has not heard of that term, and there another replica begins the next.
    sqlx::query(
        "UPDATE environment_operator.lead AS l SET epoch = kept.epoch, holder = kept.holder, expires_at = clock_timestamp()
         FROM jsonb_populate_record(NULL::environment_operator.lead, $1::jsonb) AS kept
         WHERE l.cluster = kept.cluster AND l.installation = kept.installation",
    )
    .bind(kept)
    .execute(world.pool())
    .await
    .unwrap();
    let next = lead::acquire(&world.store, "cluster", "default", "third")
        .await
        .unwrap()
        .unwrap();
    assert!(next.epoch > lost.epoch && lost.epoch > world.leader.epoch);
    world.leader = lost;
    let outcome = world.try_grant(&world.claim(environment)).await;
    assert!(matches!(outcome, Err(StoreError::Deposed)), "{outcome:?}");
}

#[tokio::test]
async fn a_takeover_of_which_a_part_fails_has_not_begun() {
    let world = TestEnvironment::new().await;
    let role = format!("role_{}", uuid::Uuid::new_v4().simple());
    let make = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA environment_operator TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA environment_operator TO {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(make))
        .execute(world.pool())
        .await
        .unwrap();
    lead::release(&world.store, &world.leader, HOLDER).await.unwrap();
    let before = world
        .rows("SELECT to_jsonb(l) FROM environment_operator.lead AS l")
        .await;
    // Without UPDATE on the sequence of tokens.
    let store = Store::open(&address(world.database.url()), world.store.mode(), 1)
        .await
        .unwrap();
    let become_role = format!("SET ROLE {role}");
    sqlx::query(sqlx::AssertSqlSafe(become_role))
        .execute(store.pool())
        .await
        .unwrap();
    let outcome = lead::acquire(&store, "cluster", "default", "second").await;
    let Err(StoreError::Suspect(sentence)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        sentence.contains("permission denied for sequence fencing_token"),
        "{sentence}"
    );
    assert_eq!(
        world
            .rows("SELECT to_jsonb(l) FROM environment_operator.lead AS l")
            .await,
        before
    );
    let grant = format!("GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA environment_operator TO {role}");
    sqlx::query(sqlx::AssertSqlSafe(grant))
        .execute(world.pool())
        .await
        .unwrap();
    lead::acquire(&store, "cluster", "default", "second")
        .await
        .unwrap()
        .unwrap();
    store.close().await;
    let gone = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(gone))
        .execute(world.pool())
        .await
        .unwrap();
}

/// The next token.
async fn token(world: &TestEnvironment) -> i64 {
    world
        .count("SELECT nextval('environment_operator.fencing_token')")
        .await
}
