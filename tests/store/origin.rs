//! The behaviour of the Paperclip server's service (DOMAIN, section 4), as far as the other files do not show it.

use std::collections::{HashMap, HashSet};

use environment_operator::api::Reason;
use environment_operator::lifecycle::{EnvironmentState, LeaseState};
use environment_operator::store::environment_leases::{self, Grant, LeaseRow};
use environment_operator::store::environments::{self, EnvironmentSync};
use environment_operator::store::{Category, StoreError};
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn an_acquired_lease_is_active_and_a_released_one_has_its_time() {
    let world = TestEnvironment::new().await;
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
    let world = TestEnvironment::new().await;
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
    let world = TestEnvironment::new().await;
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
    let world = TestEnvironment::new().await;
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
    let world = TestEnvironment::new().await;
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

/// What a query tells of a Paperclip server's database and of one that the operator has made; named objects without their names.
async fn both(query: &'static str) -> [HashSet<String>; 2] {
    let mut found = Vec::new();
    for world in [TestEnvironment::attached().await, TestEnvironment::new().await] {
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(world.pool()).await.unwrap();
        found.push(rows.into_iter().collect());
    }
    found.try_into().unwrap()
}

#[tokio::test]
async fn the_tables_that_the_operator_makes_have_whatever_an_origins_have() {
    let columns = "SELECT format('%s.%s %s null: %s default: %s', table_name, column_name, data_type, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = 'public'";
    let indexes =
        "SELECT regexp_replace(indexdef, 'INDEX \\S+ ON', 'INDEX ON') FROM pg_indexes WHERE schemaname = 'public'";
    let constraints = "SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype IN ('f', 'p')";
    // Those that the Paperclip server knows by name.
    let named = "SELECT indexname::text FROM pg_indexes
        WHERE indexname IN ('environments_company_managed_sandbox_idx', 'companies_issue_prefix_idx')";
    for query in [columns, indexes, constraints, named] {
        let [origin, ours] = both(query).await;
        assert!(!origin.is_empty());
        // Issues and execution workspaces are the Paperclip server's alone.
        let is_made = |row: &&String| !row.contains("issues") && !row.contains("execution_workspaces");
        let missing: Vec<&String> = origin.difference(&ours).filter(is_made).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }
}

const MANAGED: &str = "INSERT INTO environments (company_id, name, driver, status, config, metadata)
  VALUES ($1, 'Kubernetes', 'sandbox', 'active', '{}', '{\"managedByPaperclip\": true}')
  ON CONFLICT (company_id) WHERE driver = 'sandbox' AND (metadata ->> 'managedByPaperclip')::boolean = true DO NOTHING";

#[tokio::test]
async fn the_origins_insert_of_its_managed_sandbox_runs_and_gives_one_row_a_company() {
    let world = TestEnvironment::new().await;
    for inserted in [1, 0] {
        let done = sqlx::query(MANAGED)
            .bind(world.company)
            .execute(world.pool())
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), inserted);
    }
}

#[tokio::test]
async fn an_environment_that_claims_to_be_the_managed_sandbox_is_refused_where_there_is_one() {
    let world = TestEnvironment::new().await;
    sqlx::query(MANAGED)
        .bind(world.company)
        .execute(world.pool())
        .await
        .unwrap();
    // Neither of another row that is in the way nor of what the Paperclip server's index makes of a value is it said that it is for good.
    for value in [json!(true), json!("perhaps")] {
        let sync = EnvironmentSync {
            metadata: Some(object(json!({"managedByPaperclip": value}))),
            ..world.sandbox("another")
        };
        let outcome = EnvironmentSync::carry_out(&world.store, &world.leader, &[sync]).await;
        assert_eq!(outcome.unwrap_err().category(), Category::Refused);
    }
}
