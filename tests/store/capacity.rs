//! Limited environments: never more leases than they admit, whoever asks at once, and the free ones in the order of the turns.

use std::collections::HashSet;

use environment_operator::api::Reason;
use environment_operator::lifecycle::{LeaseState, Turn};
use environment_operator::store::environment_leases::{Grant, GrantOutcome};
use environment_operator::store::environments::{Archive, EnvironmentSync};
use environment_operator::store::lead;
use environment_operator::store::lease_object::{Capacity, EnvironmentChoice, Holder, LeaseQuery};
use sqlx::{AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

use crate::support::*;

/// An Environment object with a limit, and its row.
async fn limited(world: &TestEnvironment, limit: i32) -> EnvironmentSync {
    let sync = EnvironmentSync {
        max_active_leases: Some(limit),
        ..world.sandbox("box")
    };
    world.sync_environment(&sync).await;
    sync
}

/// The claim that comes at this second.
fn claim_at(world: &TestEnvironment, environment: Uuid, second: i64) -> Grant {
    let claim = world.claim(environment);
    let turn = Turn {
        created_at: jiff::Timestamp::from_second(second).unwrap(),
        seen: 0,
        id: claim.id,
    };
    Grant {
        turn: Some(turn),
        ..claim
    }
}

async fn grant_all(world: &TestEnvironment, claims: &[Grant]) -> Vec<GrantOutcome> {
    Grant::carry_out(&world.store, &world.leader, claims).await.unwrap()
}

async fn active(world: &TestEnvironment) -> i64 {
    world
        .count("SELECT count(*) FROM environment_leases WHERE status = 'active'")
        .await
}

/// The row of a lease that no operator has granted.
async fn insert_unmanaged(world: &TestEnvironment, environment: Uuid) -> Uuid {
    sqlx::query_scalar("INSERT INTO environment_leases (company_id, environment_id) VALUES ($1, $2) RETURNING id")
        .bind(world.company)
        .bind(environment)
        .fetch_one(world.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn of_one_batch_the_first_turns_are_granted_and_tokens_rise_with_them() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 3).await.id;
    // Handed in against their turns, as a batch may gather them.
    let claims: Vec<Grant> = (0..8).map(|second| claim_at(&world, environment, 7 - second)).collect();
    let outcomes = grant_all(&world, &claims).await;
    let mut granted: Vec<(i64, jiff::Timestamp)> = Vec::new();
    for (claim, outcome) in claims.iter().zip(outcomes) {
        let turn = claim.turn.unwrap().created_at;
        match outcome {
            GrantOutcome::Granted {
                fencing_token, free, ..
            } => {
                assert_eq!(free, Some(0));
                granted.push((fencing_token, turn));
            }
            other => assert_eq!((other, turn.as_second() > 2), (GrantOutcome::Full, true)),
        }
    }
    granted.sort_unstable();
    let turns: Vec<i64> = granted.iter().map(|(_, turn)| turn.as_second()).collect();
    assert_eq!(turns, [0, 1, 2], "in the order of their tokens");
    assert_eq!(active(&world).await, 3);
    assert_eq!(
        world
            .count("SELECT count(*) FROM environment_operator.lease_object")
            .await,
        3,
        "what is not granted is not remembered"
    );
    assert_eq!(world.count("SELECT count(*) FROM activity_log").await, 3);
}

#[tokio::test]
async fn claims_of_one_second_are_granted_as_they_were_seen() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 1).await.id;
    let claims: Vec<Grant> = (0..4)
        .map(|number| {
            let mut claim = claim_at(&world, environment, 0);
            claim.turn.as_mut().unwrap().seen = 4 - number;
            claim
        })
        .collect();
    let outcomes = grant_all(&world, &claims).await;
    assert!(matches!(outcomes[3], GrantOutcome::Granted { .. }), "{outcomes:?}");
}

#[tokio::test]
async fn a_claim_that_is_refused_for_another_reason_takes_no_other_claim_s_place() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 1).await.id;
    let over = world.run("failed").await;
    let first = Grant {
        run_id: Some(over),
        ..claim_at(&world, environment, 1)
    };
    let second = claim_at(&world, environment, 2);
    let outcomes = grant_all(&world, &[first, second]).await;
    assert_eq!(refusal(outcomes[0].clone()).0, Reason::RunAlreadyFinished);
    assert!(matches!(outcomes[1], GrantOutcome::Granted { .. }), "{outcomes:?}");
}

#[tokio::test]
async fn a_lease_of_a_status_that_nobody_knows_counts_against_the_limit() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 1).await.id;
    let held = granted(world.grant(&claim_at(&world, environment, 1)).await).id;
    sqlx::query("ALTER TABLE environment_leases DROP CONSTRAINT environment_leases_status_check")
        .execute(world.pool())
        .await
        .unwrap();
    let waits = claim_at(&world, environment, 2);
    // One below, between, above and beside the known ones.
    for status in ["", "abandoned", "bogus", "Active", "quarantined", "zombie"] {
        sqlx::query("UPDATE environment_leases SET status = $1 WHERE id = $2")
            .bind(status)
            .bind(held)
            .execute(world.pool())
            .await
            .unwrap();
        assert_eq!(world.grant(&waits).await, GrantOutcome::Full, "{status:?}");
        let look = LeaseQuery {
            environment: EnvironmentChoice::Object(environment),
            ..world.look_at(waits.id)
        };
        assert_eq!(world.look(look).await.capacity.unwrap().active, 1, "{status:?}");
    }
    ended_by_another_writer(&world, held).await;
    granted(world.grant(&waits).await);
}

/// Another writer ends a lease, whatever its status was.
async fn ended_by_another_writer(world: &TestEnvironment, id: Uuid) {
    sqlx::query("UPDATE environment_leases SET status = 'released' WHERE id = $1")
        .bind(id)
        .execute(world.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn unmanaged_rows_and_committed_endings_count_and_retained_leases_do_not() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 2).await.id;
    let unmanaged = insert_unmanaged(&world, environment).await;
    let first = claim_at(&world, environment, 1);
    granted(world.grant(&first).await);
    let second = claim_at(&world, environment, 2);
    assert_eq!(world.grant(&second).await, GrantOutcome::Full);
    ended(world.end(first.id, LeaseState::Retained, Reason::RunFailed).await);
    granted(world.grant(&second).await);
    let third = claim_at(&world, environment, 3);
    assert_eq!(world.grant(&third).await, GrantOutcome::Full);
    // The slot is free only once its ending is committed.
    let mut other = world.connect().await;
    let mut release = other.begin().await.unwrap();
    release
        .execute("UPDATE environment_leases SET status = 'released' WHERE status = 'active'")
        .await
        .unwrap();
    assert_eq!(world.grant(&third).await, GrantOutcome::Full);
    release.commit().await.unwrap();
    granted(world.grant(&third).await);
    assert!(world.lease(unmanaged).await.is_some());
}

#[tokio::test]
async fn a_limit_that_is_lowered_ends_nothing_and_one_that_is_raised_or_removed_lets_more_in() {
    let world = TestEnvironment::new().await;
    let mut sync = limited(&world, 2).await;
    let environment = sync.id;
    for second in 0..2 {
        granted(world.grant(&claim_at(&world, environment, second)).await);
    }
    let waiting = claim_at(&world, environment, 3);
    let mut set = async |limit, generation: u64| {
        sync.max_active_leases = limit;
        sync.version = version("box", 10 + generation, generation.try_into().unwrap());
        world.sync_environment(&sync).await;
    };
    set(Some(1), 2).await;
    assert_eq!(active(&world).await, 2, "lowering ends nothing");
    assert_eq!(world.grant(&waiting).await, GrantOutcome::Full);
    set(Some(3), 3).await;
    granted(world.grant(&waiting).await);
    let next = claim_at(&world, environment, 4);
    assert_eq!(world.grant(&next).await, GrantOutcome::Full);
    set(None, 4).await;
    match world.grant(&next).await {
        GrantOutcome::Granted { free, .. } => assert_eq!(free, None),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_claim_that_did_not_know_of_the_limit_looks_again() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 5).await.id;
    let claim = world.claim(environment);
    assert_eq!(
        world.grant(&claim).await,
        GrantOutcome::Busy,
        "nobody has locked the row"
    );
    assert_eq!(active(&world).await, 0);
}

/// Two installations with leaders of their own hand in many claims for three places at once, again and again.
async fn race(world: &TestEnvironment, rounds: usize) {
    let environment = limited(world, 3).await.id;
    let other = lead::acquire(&world.store, "another cluster", "default", HOLDER)
        .await
        .unwrap()
        .unwrap();
    let leaders = [world.leader.clone(), other];
    for _round in 0..rounds {
        let tasks: Vec<_> = (0..16)
            .map(|number| {
                let (store, leader) = (world.store.clone(), leaders[number % 2].clone());
                let claims: Vec<Grant> = (0..3).map(|second| claim_at(world, environment, second)).collect();
                tokio::spawn(async move { Grant::carry_out(&store, &leader, &claims).await })
            })
            .collect();
        let mut granted = HashSet::new();
        for task in tasks {
            for outcome in task.await.unwrap().unwrap() {
                match outcome {
                    GrantOutcome::Granted { row, .. } => assert!(granted.insert(row.id)),
                    outcome => assert!(
                        matches!(outcome, GrantOutcome::Full | GrantOutcome::Busy),
                        "{outcome:?}"
                    ),
                }
            }
        }
        assert_eq!((granted.len(), active(world).await), (3, 3));
        let release = "UPDATE environment_leases SET status = 'released' WHERE status = 'active'";
        sqlx::query(release).execute(world.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn transactions_that_grant_at_once_never_grant_too_many() {
    race(&TestEnvironment::new().await, 20).await;
}

#[tokio::test]
async fn nor_do_they_in_a_database_whose_transactions_keep_their_first_snapshot() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    let keep = format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'");
    owner.execute(sqlx::raw_sql(AssertSqlSafe(keep))).await.unwrap();
    race(&TestEnvironment::on(database).await, 3).await;
}

#[tokio::test]
async fn an_environment_that_another_transaction_holds_is_busy_and_the_origin_s_inserts_go_on() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 3).await.id;
    let claim = claim_at(&world, environment, 1);
    let mut other = world.connect().await;
    let mut held = other.begin().await.unwrap();
    held.execute("SELECT FROM environments FOR NO KEY UPDATE")
        .await
        .unwrap();
    assert_eq!(world.grant(&claim).await, GrantOutcome::Busy);
    insert_unmanaged(&world, environment).await;
    held.rollback().await.unwrap();
    granted(world.grant(&claim).await);
}

#[tokio::test]
async fn a_deposed_leader_grants_nothing_where_leases_are_counted_either() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 3).await.id;
    world.depose().await;
    let outcome = world.try_grant(&claim_at(&world, environment, 1)).await;
    assert!(outcome.unwrap_err().to_string().contains("leader"));
    assert_eq!(active(&world).await, 0);
}

#[tokio::test]
async fn a_claim_sees_how_full_its_environment_is_and_who_of_its_cluster_holds_it() {
    let world = TestEnvironment::new().await;
    let environment = limited(&world, 2).await.id;
    let claim = claim_at(&world, environment, 9);
    let look = || LeaseQuery {
        environment: EnvironmentChoice::Object(environment),
        ..world.look_at(claim.id)
    };
    let empty = Capacity {
        limit: 2,
        active: 0,
        holders: Vec::new(),
    };
    assert_eq!(world.look(look()).await.capacity, Some(empty));
    let held = granted(world.grant(&claim_at(&world, environment, 1)).await).id;
    let inserted = insert_unmanaged(&world, environment).await;
    let ours = Holder {
        id: held,
        namespace: Some("team".to_owned()),
        name: Some("lease".to_owned()),
    };
    let unmanaged = Holder {
        id: inserted,
        namespace: None,
        name: None,
    };
    let full = Capacity {
        limit: 2,
        active: 2,
        holders: vec![ours, unmanaged],
    };
    assert_eq!(world.look(look()).await.capacity, Some(full));
    let elsewhere = LeaseQuery {
        company_id: Some(Uuid::new_v4()),
        namespace_uid: None,
        ..look()
    };
    assert_eq!(
        world.look(elsewhere).await.capacity,
        None,
        "nothing is told to another company"
    );
    let unlimited = world.sandbox("wide");
    world.sync_environment(&unlimited).await;
    let wide = LeaseQuery {
        environment: EnvironmentChoice::Object(unlimited.id),
        ..look()
    };
    assert_eq!(world.look(wide).await.capacity, None);
}

#[tokio::test]
async fn the_canonical_local_of_each_cluster_sets_the_limit_and_a_duplicate_does_not() {
    let world = TestEnvironment::new().await;
    let local = |age, limit| EnvironmentSync {
        created_at: moment(age),
        max_active_leases: limit,
        ..world.local()
    };
    let (canonical, duplicate) = (local(1, None), local(2, Some(1)));
    for sync in [&canonical, &duplicate] {
        world.sync_environment(sync).await;
    }
    let row = canonical.id;
    let limit = async |world: &TestEnvironment| {
        let select = "SELECT max_active_leases FROM environment_operator.environment_limit WHERE environment_id = $1";
        sqlx::query_scalar::<_, i32>(select)
            .bind(row)
            .fetch_optional(world.pool())
            .await
            .unwrap()
    };
    assert_eq!(limit(&world).await, None);
    for _ in 0..2 {
        granted(world.grant(&world.claim(row)).await);
    }
    // Another cluster's own Local stands for the same row.
    let elsewhere = lead::acquire(&world.store, "another cluster", "default", HOLDER)
        .await
        .unwrap()
        .unwrap();
    let theirs = local(0, Some(5));
    EnvironmentSync::carry_out(&world.store, &elsewhere, std::slice::from_ref(&theirs))
        .await
        .unwrap();
    assert_eq!(limit(&world).await, Some(5));
    // With the canonical one gone the duplicate takes over, and the lowest limit of all clusters counts.
    Archive::carry_out(&world.store, &world.leader, &[Archive(canonical.id)])
        .await
        .unwrap();
    assert_eq!(limit(&world).await, Some(1));
    assert_eq!(world.grant(&claim_at(&world, row, 1)).await, GrantOutcome::Full);
}
