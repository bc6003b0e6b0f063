//! The races that bite without the guards of the statements.

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{End, EndOutcome, Grant, GrantOutcome};
use environment_operator::store::environments::{Archive, EnvironmentSync};
use environment_operator::store::{Store, StoreError, environments, lead};
use sqlx::{Connection, Executor, PgPool};
use uuid::Uuid;

use crate::support::*;

/// Stops a grant that settles a Namespace after it has locked its run: the table is the operator's own, so nobody is skipped.
const HOLD_NAMESPACES: &str = "SELECT FROM environment_operator.namespace FOR UPDATE";

#[tokio::test]
async fn a_run_that_ends_while_its_lease_is_being_granted_ends_after_the_grant() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    // The grant is stopped half-way, its run's row locked already: it waits for what is remembered of its Namespace.
    let mut other = world.connect().await;
    let mut obstacle = other.begin().await.unwrap();
    obstacle.execute(HOLD_NAMESPACES).await.unwrap();
    let claim = Grant {
        run_id: Some(run),
        binding: Some(world.settle()),
        ..world.claim(environment)
    };
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let claim_id = claim.id;
    let grant = tokio::spawn(async move { Grant::carry_out(&store, &leader, &[claim]).await });
    until_waiting(&world, 1).await;
    let pool = world.pool().clone();
    let end = tokio::spawn(async move {
        sqlx::query("UPDATE heartbeat_runs SET status = 'failed' WHERE id = $1")
            .bind(run)
            .execute(&pool)
            .await
    });
    until_waiting(&world, 2).await;
    assert!(!end.is_finished());
    obstacle.rollback().await.unwrap();
    granted(grant.await.unwrap().unwrap().remove(0));
    end.await.unwrap().unwrap();
    assert_eq!(
        world.lease(claim_id).await.unwrap().status,
        LeaseState::Active,
        "whoever hears of the end finds it"
    );
}

#[tokio::test]
async fn a_claim_of_a_run_that_is_ending_is_busy_and_then_refused() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    let mut other = world.connect().await;
    let mut end = other.begin().await.unwrap();
    end.execute("UPDATE heartbeat_runs SET status = 'failed'")
        .await
        .unwrap();
    let claim = Grant {
        run_id: Some(run),
        ..world.claim(environment)
    };
    // The snapshot still shows a live run: only the lock of its row tells that it must not be believed.
    assert_eq!(world.grant(&claim).await, GrantOutcome::Busy);
    end.commit().await.unwrap();
    assert_eq!(refusal(world.grant(&claim).await).0, Reason::RunAlreadyFinished);
}

#[tokio::test]
async fn a_takeover_waits_for_a_grant_that_is_half_way() {
    let world = TestEnvironment::new().await;
    let (environment, run) = (world.environment().await, world.run("running").await);
    let mut other = world.connect().await;
    let mut obstacle = other.begin().await.unwrap();
    obstacle.execute(HOLD_NAMESPACES).await.unwrap();
    let claim = Grant {
        run_id: Some(run),
        binding: Some(world.settle()),
        ..world.claim(environment)
    };
    let (store, leader) = (world.store.clone(), world.leader.clone());
    let grant = tokio::spawn(async move { Grant::carry_out(&store, &leader, &[claim]).await });
    until_waiting(&world, 1).await;
    let expire = "UPDATE environment_operator.lead SET expires_at = clock_timestamp()";
    sqlx::query(expire).execute(world.pool()).await.unwrap();
    let store = world.store.clone();
    let takeover = tokio::spawn(async move { lead::acquire(&store, "cluster", "default", "second").await });
    until_waiting(&world, 2).await;
    assert!(!takeover.is_finished());
    obstacle.rollback().await.unwrap();
    granted(grant.await.unwrap().unwrap().remove(0));
    assert!(takeover.await.unwrap().unwrap().unwrap().epoch > world.leader.epoch);
}

#[tokio::test]
async fn terms_that_begin_at_once_raise_the_tokens_one_after_the_other_each_to_its_own_moment() {
    let world = TestEnvironment::new().await;
    let mut other = world.connect().await;
    let mut raising = other.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(i64::from_be_bytes(*b"fencing_"))
        .execute(&mut *raising)
        .await
        .unwrap();
    let store = world.store.clone();
    let term = tokio::spawn(async move { lead::acquire(&store, "another-cluster", "default", "second").await });
    until_waiting(&world, 1).await;
    // The other one raises the tokens, and some are given: the one that waited must not set them back.
    let given = "SELECT setval('environment_operator.fencing_token',
                   (extract(epoch FROM clock_timestamp()) * 1000000)::int8 + 10)";
    let given: i64 = sqlx::query_scalar(given).fetch_one(&mut *raising).await.unwrap();
    raising.commit().await.unwrap();
    term.await.unwrap().unwrap().unwrap();
    let next: i64 = sqlx::query_scalar("SELECT nextval('environment_operator.fencing_token')")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert!(next > given, "{next} was given after {given}");
}

#[tokio::test]
async fn an_ending_by_another_writer_that_commits_first_wins() {
    let world = TestEnvironment::new().await;
    let lease = world.held().await;
    let mut other = world.connect().await;
    let mut release = other.begin().await.unwrap();
    release
        .execute("UPDATE environment_leases SET status = 'released', released_at = now()")
        .await
        .unwrap();
    assert_eq!(
        world.end(lease.id, LeaseState::Failed, Reason::RunFailed).await,
        EndOutcome::Busy
    );
    release.commit().await.unwrap();
    let outcome = world.end(lease.id, LeaseState::Failed, Reason::RunFailed).await;
    let EndOutcome::AlreadyEnded(row) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((row.status, row.failure_reason), (LeaseState::Released, None));
    assert_eq!(
        world
            .count("SELECT count(*) FROM activity_log WHERE action LIKE '%released'")
            .await,
        0
    );
}

#[tokio::test]
async fn everything_works_with_generic_plans() {
    let mut world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(world.pool())
        .await
        .unwrap();
    let generic = format!("ALTER DATABASE \"{name}\" SET plan_cache_mode = force_generic_plan");
    sqlx::query(sqlx::AssertSqlSafe(generic))
        .execute(world.pool())
        .await
        .unwrap();
    world.store = Store::open(&address(world.database.url()), world.store.mode(), 4)
        .await
        .unwrap();
    let mode: String = sqlx::query_scalar("SHOW plan_cache_mode")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(mode, "force_generic_plan");
    let mut claims = Vec::new();
    for _ in 0..200 {
        claims.push(Grant {
            run_id: Some(world.run("running").await),
            ..world.claim(environment)
        });
    }
    let outcomes = Grant::carry_out(&world.store, &world.leader, &claims).await.unwrap();
    outcomes.into_iter().for_each(|outcome| drop(granted(outcome)));
    let ends: Vec<End> = claims
        .iter()
        .map(|claim| End {
            id: claim.id,
            leaves: LeaseState::Active,
            ending: ending(LeaseState::Released, Reason::RunFinished),
            only_if_expired: false,
            run_ended_at: None,
        })
        .collect();
    let outcomes = End::carry_out(&world.store, &world.leader, &ends).await.unwrap();
    outcomes.into_iter().for_each(|outcome| drop(ended(outcome)));
    for claim in claims {
        assert_eq!(world.grant(&claim).await, GrantOutcome::EndedMeanwhile);
    }
}

/// What the Paperclip server does meanwhile: deletes runs, releases the leases of runs, touches environments.
async fn emulate_the_origin(pool: PgPool, round: usize) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let run: Option<Uuid> = sqlx::query_scalar(
        "SELECT heartbeat_run_id FROM environment_leases WHERE heartbeat_run_id IS NOT NULL ORDER BY random() LIMIT 1",
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(run) = run else { return Ok(()) };
    match round % 3 {
        0 => {
            let of_run = "UPDATE environment_leases SET status = 'released', released_at = now()
                 WHERE heartbeat_run_id = $1 AND status = 'active'";
            sqlx::query(of_run).bind(run).execute(&mut *transaction).await?;
        }
        1 => {
            for statement in [
                "DELETE FROM activity_log WHERE run_id = $1",
                "DELETE FROM heartbeat_runs WHERE id = $1",
            ] {
                sqlx::query(statement).bind(run).execute(&mut *transaction).await?;
            }
        }
        _ => {
            transaction
                .execute("UPDATE environments SET updated_at = now()")
                .await?;
            let set = "UPDATE heartbeat_runs SET status = 'running', updated_at = now() WHERE id = $1";
            sqlx::query(set).bind(run).execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await
}

#[tokio::test]
async fn grants_and_endings_beside_the_origins_server_neither_deadlock_nor_get_lost() {
    let world = TestEnvironment::new().await;
    let environments: Vec<Uuid> = [
        world.environment().await,
        world.environment().await,
        world.environment().await,
    ]
    .into();
    let origin_pool = PgPool::connect(world.database.url()).await.unwrap();
    let origin = {
        let pool = origin_pool.clone();
        tokio::spawn(async move {
            let (mut round, mut deadlocks) = (0, 0);
            loop {
                match emulate_the_origin(pool.clone(), round).await {
                    Ok(()) => {}
                    Err(sqlx::Error::PoolClosed) => return deadlocks,
                    Err(error) => {
                        let code = error.as_database_error().and_then(|error| error.code());
                        deadlocks += u32::from(code.as_deref() == Some("40P01"));
                    }
                }
                round += 1;
                tokio::task::yield_now().await;
            }
        })
    };
    let (mut granted_count, mut conflicts) = (0, 0);
    for _ in 0..30 {
        let mut claims = Vec::new();
        for index in 0..20 {
            let run = world.run("running").await;
            claims.push(Grant {
                run_id: Some(run),
                ..world.claim(environments[index % 3])
            });
        }
        match Grant::carry_out(&world.store, &world.leader, &claims).await {
            Ok(outcomes) => {
                for outcome in outcomes {
                    match outcome {
                        GrantOutcome::Granted { .. } => granted_count += 1,
                        GrantOutcome::Busy | GrantOutcome::Refused(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Err(StoreError::Conflict(_)) => conflicts += 1,
            Err(error) => panic!("{error}"),
        }
        let ends: Vec<End> = claims
            .iter()
            .take(10)
            .map(|claim| End {
                id: claim.id,
                leaves: LeaseState::Active,
                ending: ending(LeaseState::Failed, Reason::RunFailed),
                only_if_expired: false,
                run_ended_at: None,
            })
            .collect();
        match End::carry_out(&world.store, &world.leader, &ends).await {
            Ok(_) => {}
            Err(StoreError::Conflict(_)) => conflicts += 1,
            Err(error) => panic!("{error}"),
        }
    }
    origin_pool.close().await;
    assert_eq!(
        (origin.await.unwrap(), conflicts),
        (0, 0),
        "deadlocks of the Paperclip server's, of ours"
    );
    assert!(granted_count > 100, "{granted_count}");
    let count = world
        .count("SELECT count(*) FROM environment_operator.lease_object")
        .await;
    assert_eq!(count, granted_count, "what is remembered is what was granted");
    assert_eq!(
        world.count("SELECT count(*) FROM environment_leases").await,
        granted_count
    );
}

#[tokio::test]
async fn an_environment_that_another_transaction_holds_is_busy_and_nothing_of_it_is_remembered() {
    let world = TestEnvironment::new().await;
    let sync = world.sandbox("one");
    world.sync_environment(&sync).await;
    let mut other = world.connect().await;
    let mut obstacle = other.begin().await.unwrap();
    obstacle.execute("SELECT FROM environments FOR UPDATE").await.unwrap();
    let newer = environments::EnvironmentSync {
        version: version("one", 11, 2),
        description: Some("new".to_owned()),
        ..sync.clone()
    };
    let neighbour = world.sandbox("two");
    let syncs = [newer.clone(), neighbour];
    let outcomes = EnvironmentSync::carry_out(&world.store, &world.leader, &syncs)
        .await
        .unwrap();
    assert_eq!(outcomes[0], environments::EnvironmentOutcome::Busy);
    assert!(matches!(outcomes[1], environments::EnvironmentOutcome::Inserted(_)));
    let archived = Archive::carry_out(&world.store, &world.leader, &[Archive(sync.id)])
        .await
        .unwrap();
    assert_eq!(archived, [environments::ArchiveOutcome::Busy]);
    obstacle.rollback().await.unwrap();
    assert!(matches!(
        world.sync_environment(&newer).await,
        environments::EnvironmentOutcome::Updated(_)
    ));
}
