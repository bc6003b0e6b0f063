//! What one sweep costs beside a long history. Not among the tests that are always run: it makes a million leases.
//!
//! `cargo test --workspace --test store scale -- --ignored --nocapture` prints the plans and the times.

use std::time::{Duration, Instant};

use environment_operator::api::{LeasePolicy, Reason};
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{Grant, LEFT};
use environment_operator::store::sweep::{self, LEAKED};
use environment_operator::store::unmanaged_leases;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::support::*;

/// A million leases of a million runs in 1,000 environments of 100 companies, half of them of objects; 9,901 are active, and
/// the runs of 100 of these are over.
const HISTORY: &str = "
SET session_replication_role = replica; -- no foreign keys while it is made
INSERT INTO companies (id, name, issue_prefix)
  SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'c' || n, 'c' || n FROM generate_series(0, 99) AS n;
INSERT INTO environments (id, company_id, name, driver)
  SELECT ('00000000-0000-4000-8001-' || lpad(n::text, 12, '0'))::uuid,
    ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid, 'e' || n, 'ssh' FROM generate_series(0, 999) AS n;
INSERT INTO heartbeat_runs (id, company_id, agent_id, status, finished_at)
  SELECT md5('run' || n)::uuid, ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid, gen_random_uuid(),
    CASE WHEN n % 101 = 0 AND n % 10100 <> 0 THEN 'running' ELSE 'succeeded' END, now() - interval '1 h'
  FROM generate_series(0, 999999) AS n;
INSERT INTO environment_leases (id, company_id, environment_id, heartbeat_run_id, status, expires_at, metadata)
  SELECT md5('lease' || n)::uuid, ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid,
    ('00000000-0000-4000-8001-' || lpad((((n / 100) * 100 + n) % 1000)::text, 12, '0'))::uuid, md5('run' || n)::uuid,
    CASE WHEN n % 101 = 0 THEN 'active' ELSE 'released' END, now() + interval '1 day', '{\"driver\": \"ssh\"}'
  FROM generate_series(0, 999999) AS n;
INSERT INTO environment_operator.lease_object (
    id, company_id, environment_id, cluster, installation, incarnation, namespace, name, rv, generation, epoch, run_id,
    fencing_token, context, metadata_keys, ttl_seconds_after_finished, ended_status, reason, message, ended_at
  )
  SELECT id, company_id, environment_id, 'cluster', 'default', 1, 'team', 'lease', '1', 1, 1, heartbeat_run_id, 1, '{}', '{}', 60,
    nullif(status, 'active'), CASE WHEN status <> 'active' THEN 'RunFinished' END,
    CASE WHEN status <> 'active' THEN 'it was so' END, CASE WHEN status <> 'active' THEN now() END
  FROM (SELECT *, row_number() OVER (ORDER BY id) AS number FROM environment_leases) AS leases WHERE number % 2 = 0;
SET session_replication_role = DEFAULT;
";

async fn explain(world: &TestEnvironment, name: &str, statement: &str) {
    let text = format!("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) {statement}");
    let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(text));
    let query = if statement.contains("$3") {
        query.bind("cluster").bind("default").bind(Vec::<String>::new())
    } else {
        query
    };
    println!("== {name}\n{}", query.fetch_all(world.pool()).await.unwrap().join("\n"));
}

/// The middle one of seven runs, after two that warm up.
async fn time(name: &str, mut once: impl AsyncFnMut() -> usize) {
    let mut times: Vec<Duration> = Vec::new();
    let mut rows = 0;
    for _ in 0..9 {
        let began = Instant::now();
        rows = once().await;
        times.push(began.elapsed());
    }
    let mut warm = times.split_off(2);
    warm.sort();
    println!("{name}: {rows} rows, median {:?} of 7 (slowest {:?})", warm[3], warm[6]);
}

async fn sweep_once(world: &TestEnvironment) {
    time("own candidates", async || {
        sweep::candidates(&world.store, &world.leader, &[]).await.unwrap().len()
    })
    .await;
    time("unmanaged candidates", async || {
        unmanaged_leases::candidates(&world.store).await.unwrap().len()
    })
    .await;
    time("leak gauge", async || {
        let leaked = sweep::leaked(&world.store, &[]).await.unwrap();
        usize::try_from(leaked.operator + leaked.unmanaged).unwrap()
    })
    .await;
    explain(world, "own candidates", sweep::CANDIDATES).await;
    explain(world, "unmanaged candidates", unmanaged_leases::CANDIDATES).await;
    explain(world, "leak gauge", LEAKED).await;
}

#[tokio::test]
#[ignore = "makes a million leases, which takes a minute or more; it prints and asserts nothing but that it finds what is due"]
async fn a_sweep_among_a_million_leases() {
    let world = TestEnvironment::new().await;
    let mut connection = world.connect().await;
    connection.execute(sqlx::raw_sql(HISTORY)).await.unwrap();
    for table in [
        "environment_leases",
        "heartbeat_runs",
        "environment_operator.lease_object",
        "environments",
    ] {
        let vacuum = format!("VACUUM ANALYZE {table}");
        connection.execute(AssertSqlSafe(vacuum)).await.unwrap();
    }
    println!("# standalone, with the operator's index");
    sweep_once(&world).await;
    let own = sweep::candidates(&world.store, &world.leader, &[]).await.unwrap().len();
    let unmanaged = unmanaged_leases::candidates(&world.store).await.unwrap().len();
    assert_eq!(own + unmanaged, 100, "{own} {unmanaged}");
    connection
        .execute("DROP INDEX environment_leases_active_heartbeat_run_idx")
        .await
        .unwrap();
    println!("# attached, with the Paperclip server's indexes alone");
    sweep_once(&world).await;
}

async fn reuse_once(world: &TestEnvironment, environment: Uuid) {
    time("search for what is left, past what is being removed", async || {
        let mut transaction = world.pool().begin().await.unwrap(); // rolled back: it is met each time
        transaction.execute("SET LOCAL jit = off").await.unwrap(); // as the operator's sessions
        sqlx::query(LEFT)
            .bind(vec![world.company])
            .bind(vec![environment])
            .bind(vec![None::<Uuid>])
            .bind(vec![1_i64])
            .fetch_all(&mut *transaction)
            .await
            .unwrap()
            .len()
    })
    .await;
    time("grant that takes it over, and ending", async || {
        let claim = Grant {
            policy: LeasePolicy::ReuseByEnvironment,
            ..world.claim(environment)
        };
        let row = granted(world.grant(&claim).await);
        assert_eq!(row.provider_lease_id.as_deref(), Some("one"));
        ended(world.end(row.id, LeaseState::Released, Reason::ReleaseRequested).await);
        1
    })
    .await;
    time("grant and ending without a policy of reuse", async || {
        let row = granted(world.grant(&world.claim(environment)).await);
        ended(world.end(row.id, LeaseState::Released, Reason::ReleaseRequested).await);
        1
    })
    .await;
}

#[tokio::test]
#[ignore = "makes 200,000 leases; it prints, and asserts nothing but that what is left is taken over"]
async fn a_claim_of_reuse_after_a_hundred_thousand_leases_of_one_sandbox() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    println!("# after 20 leases");
    world.history(environment, 20, 0).await;
    let removing = "INSERT INTO environment_leases (
        company_id, environment_id, status, provider, provider_lease_id, cleanup_status
      ) VALUES ($1, $2, 'released', 'their-provider', 'being-removed', 'pending') RETURNING id";
    let removing: Uuid = sqlx::query_scalar(removing)
        .bind(world.company)
        .bind(environment)
        .fetch_one(world.pool())
        .await
        .unwrap();
    world.record(&[removing]).await;
    world.pool().execute("VACUUM ANALYZE").await.unwrap();
    reuse_once(&world, environment).await;
    println!("# after 100,000 of the sandbox, as many others, and 300,000 other sandboxes");
    world.history(environment, 100_000, 100_000).await;
    for name in 0..30 {
        world.remember_others(environment, name * 10_000, 10_000).await;
    }
    world.pool().execute("VACUUM ANALYZE").await.unwrap();
    reuse_once(&world, environment).await;
    println!("# where 1,000 others have been used since, each time");
    sqlx::query(
        "INSERT INTO environment_leases (company_id, environment_id, status, last_used_at)
         SELECT $1, $2, 'released', now() + interval '1 h' FROM generate_series(1, 1000)",
    )
    .bind(world.company)
    .bind(environment)
    .execute(world.pool())
    .await
    .unwrap();
    reuse_once(&world, environment).await;
}
