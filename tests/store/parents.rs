//! Rows that foreign keys refer to and that somebody else holds: their own requests are busy, and nobody else's wait.

use std::collections::BTreeSet;
use std::time::Duration;

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{End, EndOutcome, Grant, GrantOutcome};
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::{NamespaceBinding, StoreError};
use sqlx::{AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

use crate::support::*;

/// Longest time for a batch that waits for nobody: below the time after which the server breaks off a wait for a lock.
const AT_ONCE: Duration = Duration::from_secs(3);

async fn at_once<T>(batch: impl Future<Output = Result<T, StoreError>>) -> T {
    tokio::time::timeout(AT_ONCE, batch)
        .await
        .expect("it waits for nobody")
        .unwrap()
}

/// A company with everything that a lease can refer to.
struct Tenant {
    claim: Grant,
    company: Uuid,
    run: Uuid,
}

/// As company of the world, or as another one.
async fn tenant(world: &TestEnvironment, company: Uuid, agent: Uuid) -> Tenant {
    let sync = EnvironmentSync {
        company_id: company,
        binding: Some(settle(company)),
        ..world.sandbox("box")
    };
    world.sync_environment(&sync).await;
    let run = world.run_of(company, agent, "running").await;
    let mut referred = Vec::new();
    for statement in [
        "INSERT INTO issues (company_id) VALUES ($1) RETURNING id",
        "INSERT INTO execution_workspaces (company_id) VALUES ($1) RETURNING id",
    ] {
        let id: Uuid = sqlx::query_scalar(statement)
            .bind(company)
            .fetch_one(world.pool())
            .await
            .unwrap();
        referred.push(id);
    }
    let claim = Grant {
        company_id: company,
        run_id: Some(run),
        issue_id: Some(referred[0]),
        execution_workspace_id: Some(referred[1]),
        ..world.claim(sync.id)
    };
    Tenant { claim, company, run }
}

fn settle(company: Uuid) -> NamespaceBinding {
    NamespaceBinding {
        namespace_uid: company,
        namespace: company.to_string(),
    }
}

async fn two_tenants(world: &TestEnvironment) -> (Tenant, Tenant) {
    let (company, agent) = (Uuid::new_v4(), Uuid::new_v4());
    world.make_company(company, agent).await;
    (
        tenant(world, world.company, world.agent).await,
        tenant(world, company, agent).await,
    )
}

/// What holds a company's row of this table, or its own.
fn hold(table: &str, company: Uuid) -> String {
    let column = if table == "companies" { "id" } else { "company_id" };
    format!("SELECT FROM {table} WHERE {column} = '{company}' FOR UPDATE")
}

#[tokio::test]
async fn a_claim_whose_company_agent_issue_or_workspace_is_held_is_busy_and_stalls_no_neighbour() {
    let world = TestEnvironment::attached().await;
    let (held, free) = two_tenants(&world).await;
    let mut other = world.connect().await;
    for table in ["companies", "agents", "issues", "execution_workspaces"] {
        let mut obstacle = other.begin().await.unwrap();
        obstacle
            .execute(AssertSqlSafe(hold(table, held.company)))
            .await
            .unwrap();
        let neighbour = Grant {
            id: Uuid::new_v4(),
            ..free.claim.clone()
        };
        let claims = [held.claim.clone(), neighbour];
        let outcomes = at_once(Grant::carry_out(&world.store, &world.leader, &claims)).await;
        assert_eq!(outcomes[0], GrantOutcome::Busy, "{table}");
        granted(outcomes[1].clone());
        // Whoever holds it goes on with the run: nothing of the claim that was busy is still locked.
        sqlx::query("UPDATE heartbeat_runs SET updated_at = now() WHERE id = $1")
            .bind(held.run)
            .execute(&mut *obstacle)
            .await
            .unwrap();
        obstacle.commit().await.unwrap();
    }
    granted(world.grant(&held.claim).await);
}

#[tokio::test]
async fn an_ending_waits_for_no_agent_and_only_a_held_company_makes_its_own_leases_busy() {
    let world = TestEnvironment::attached().await;
    let (held, free) = two_tenants(&world).await;
    let first = Grant {
        id: Uuid::new_v4(),
        ..held.claim.clone()
    };
    let claims = [first.clone(), held.claim.clone(), free.claim.clone()];
    for outcome in Grant::carry_out(&world.store, &world.leader, &claims).await.unwrap() {
        granted(outcome);
    }
    let end = |id: Uuid| End {
        id,
        leaves: LeaseState::Active,
        ending: ending(LeaseState::Released, Reason::ReleaseRequested),
        only_if_expired: false,
        run_ended_at: None,
    };
    let mut other = world.connect().await;
    let mut obstacle = other.begin().await.unwrap();
    for table in ["agents", "issues", "execution_workspaces"] {
        obstacle
            .execute(AssertSqlSafe(hold(table, held.company)))
            .await
            .unwrap();
    }
    let outcomes = at_once(End::carry_out(&world.store, &world.leader, &[end(first.id)])).await;
    ended(outcomes[0].clone());
    let told = "SELECT jsonb_build_array(actor_type, actor_id, agent_id) FROM activity_log
                WHERE action = 'environment.lease_released'";
    assert_eq!(
        world.rows(told).await,
        [serde_json::json!(["agent", world.agent, null])],
        "who acted is told, and nothing refers to the row that is held"
    );
    obstacle.rollback().await.unwrap();

    let mut obstacle = other.begin().await.unwrap();
    obstacle
        .execute(AssertSqlSafe(hold("companies", held.company)))
        .await
        .unwrap();
    let ends = [end(held.claim.id), end(free.claim.id)];
    let outcomes = at_once(End::carry_out(&world.store, &world.leader, &ends)).await;
    assert_eq!(outcomes[0], EndOutcome::Busy);
    ended(outcomes[1].clone());
    obstacle.rollback().await.unwrap();
    ended(
        world
            .end(held.claim.id, LeaseState::Released, Reason::ReleaseRequested)
            .await,
    );
}

#[tokio::test]
async fn an_environment_whose_company_is_held_is_busy_and_stalls_no_neighbour() {
    let world = TestEnvironment::attached().await;
    let (held, free) = two_tenants(&world).await;
    let of = |tenant: &Tenant, sync: EnvironmentSync| EnvironmentSync {
        company_id: tenant.company,
        binding: Some(settle(tenant.company)),
        ..sync
    };
    let syncs = [
        of(&held, world.sandbox("one")),
        of(&held, world.local()),
        of(&free, world.sandbox("one")),
        of(&free, world.local()),
    ];
    let mut other = world.connect().await;
    let mut obstacle = other.begin().await.unwrap();
    obstacle
        .execute(AssertSqlSafe(hold("companies", held.company)))
        .await
        .unwrap();
    let outcomes = at_once(EnvironmentSync::carry_out(&world.store, &world.leader, &syncs)).await;
    assert_eq!(
        outcomes[..2],
        [EnvironmentOutcome::Busy, EnvironmentOutcome::Busy],
        "of the company that is held"
    );
    for outcome in &outcomes[2..] {
        assert!(matches!(outcome, EnvironmentOutcome::Inserted(_)), "{outcome:?}");
    }
    obstacle.rollback().await.unwrap();

    // Its Local is being made by somebody else, who takes his time to commit.
    let mut obstacle = other.begin().await.unwrap();
    sqlx::query("INSERT INTO environments (company_id, name, driver) VALUES ($1, 'theirs', 'local')")
        .bind(held.company)
        .execute(&mut *obstacle)
        .await
        .unwrap();
    let syncs = [syncs[1].clone(), of(&free, world.sandbox("two"))];
    let outcomes = at_once(EnvironmentSync::carry_out(&world.store, &world.leader, &syncs)).await;
    assert_eq!(outcomes[0], EnvironmentOutcome::Busy);
    assert!(matches!(outcomes[1], EnvironmentOutcome::Inserted(_)));
    obstacle.commit().await.unwrap();
    let outcome = world.sync_environment(&syncs[0]).await;
    assert!(matches!(outcome, EnvironmentOutcome::Adopted(_)), "{outcome:?}");
}

/// The foreign keys that lead from the tables into which the operator inserts.
const FOREIGN_KEYS: &str = "
SELECT jsonb_build_array(c.conrelid::regclass::text, a.attname, c.confrelid::regclass::text)
FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
WHERE c.contype = 'f' AND c.conrelid = ANY ('{environments,environment_leases,activity_log}'::regclass[])";

#[tokio::test]
async fn every_foreign_key_of_an_insert_is_one_that_the_statements_lock_beforehand() {
    let known: BTreeSet<[&str; 3]> = [
        ["environments", "company_id", "companies"],
        ["environment_leases", "company_id", "companies"],
        ["environment_leases", "environment_id", "environments"],
        ["environment_leases", "execution_workspace_id", "execution_workspaces"],
        ["environment_leases", "issue_id", "issues"],
        ["environment_leases", "heartbeat_run_id", "heartbeat_runs"],
        ["activity_log", "company_id", "companies"],
        ["activity_log", "agent_id", "agents"],
        ["activity_log", "run_id", "heartbeat_runs"],
    ]
    .into();
    for (world, all) in [
        (TestEnvironment::attached().await, true),
        (TestEnvironment::new().await, false),
    ] {
        let rows = world.rows(FOREIGN_KEYS).await;
        let keys: BTreeSet<[&str; 3]> = rows
            .iter()
            .map(|row| [0, 1, 2].map(|place| row[place].as_str().unwrap()))
            .collect();
        assert!(keys.is_subset(&known), "{keys:?}");
        assert!(!all || keys == known, "{keys:?}");
    }
}
