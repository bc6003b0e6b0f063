//! A world in which nothing happens costs nothing: no write to the API server, no row in the database.

use std::collections::BTreeMap;

use environment_operator::api::{EnvironmentPhase, LeasePhase, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::json;

use crate::support::{GRACE, LIMIT, TestEnvironment, lease};

/// Every way of looking again, at its fastest.
const RESTLESS: [&str; 3] = ["--resync-interval=2s", "--sweep-interval=1s", "--watch-timeout=2s"];

/// Complete lists of each of the four kinds, the first one included: at least three resyncs.
const LISTS: f64 = 4.0;

#[tokio::test]
async fn three_resyncs_of_an_unchanged_world_write_nothing() {
    let world = TestEnvironment::new("idle").await;
    let mut operator = world.start_with(&RESTLESS).await;
    build(&world).await;
    rest(&mut operator).await;

    let (mark, rows) = (world.mark(), row_changes(&world).await);
    operator.start_again().unwrap();
    operator.wait_ready().await;
    rest(&mut operator).await;
    assert_eq!(world.writes_since(mark).len(), 0, "{:#?}", world.writes_since(mark));
    assert_eq!(row_changes(&world).await, rows);

    // The counters are no good unless they see one deliberate write.
    operator.start_again().unwrap();
    operator.wait_ready().await;
    world.release("held").await;
    world
        .lease_because("held", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    rest(&mut operator).await;
    let written: Vec<_> = world
        .writes_since(mark)
        .into_iter()
        .filter_map(|event| event.object_ref)
        .collect();
    let of_held = written
        .iter()
        .filter(|object| object.name == "held" && object.subresource == "status");
    assert_eq!(of_held.count(), 1, "{written:#?}");
    let changed = |table: &str, now: &BTreeMap<String, i64>| now[table] - rows[table];
    let now = row_changes(&world).await;
    let tables = [
        "environment_leases",
        "environment_operator.lease_object",
        "activity_log",
    ];
    assert_eq!(tables.map(|table| changed(table, &now)), [1, 1, 1]);
}

/// Each driver; each phase that a lease reaches; a claim that waits; rows whose objects are gone.
async fn build(world: &TestEnvironment<'_>) {
    world.ssh_environment("box").await;
    world.ssh_environment("gone-box").await;
    let sandbox = json!({ "provider": "kubernetes", "config": { "image": "agent" } });
    world
        .environment("sandbox", json!({ "driver": "Sandbox", "sandbox": sandbox }))
        .await;
    let plugin = json!({ "pluginKey": "acme", "driverKey": "vm", "driverConfig": { "size": 2 } });
    world
        .environment(
            "plugin",
            json!({ "driver": "Plugin", "plugin": plugin, "archived": true }),
        )
        .await;
    world.environment_in("sandbox", EnvironmentPhase::Active).await;
    world.environment_in("plugin", EnvironmentPhase::Archived).await;

    let runs = [
        world.insert_run().await,
        world.insert_run().await,
        world.insert_run().await,
    ];
    world.job("job", json!({})).await;
    world.granted(lease("held")).await; // makes the object `local`
    world
        .granted(lease("held-by-run").environment("box").heartbeat_run(runs[0]))
        .await;
    world
        .granted(lease("held-by-job").environment("sandbox").job("job"))
        .await;
    let metadata = json!({ "purpose": { "nested": [1, 2, { "deep": true }] } });
    world
        .granted(lease("described").environment("box").set("metadata", metadata))
        .await;
    world.granted(lease("released").environment("box")).await;
    world
        .granted(lease("failed").environment("box").heartbeat_run(runs[1]))
        .await;
    world
        .granted(lease("expired").environment("box").heartbeat_run(runs[2]))
        .await;
    world.granted(lease("in-gone-box").environment("gone-box")).await;
    world.granted(lease("gone").environment("box")).await;
    world.claim(lease("waiting").environment("not-there")).await;
    world.claim(lease("refused").environment("plugin")).await;

    world.release("released").await;
    world.set_run_status(&runs[1..2], "failed").await;
    world.set_run_status(&runs[2..], "cancelled").await;
    world.delete_environment("gone-box").await;
    world.delete_lease("gone").await;
    for (name, phase, reason) in [
        ("released", LeasePhase::Released, Reason::ReleaseRequested),
        ("failed", LeasePhase::Failed, Reason::RunFailed),
        ("expired", LeasePhase::Expired, Reason::RunCancelled),
        ("in-gone-box", LeasePhase::Failed, Reason::EnvironmentDeleted),
        ("waiting", LeasePhase::Pending, Reason::EnvironmentNotFound),
        ("refused", LeasePhase::Failed, Reason::EnvironmentArchived),
    ] {
        world.lease_because(name, phase, reason).await;
    }
    let settled = world.environment_in("local", EnvironmentPhase::Active).await;
    assert_eq!(settled.name_any(), "local");
    world.settles().await;
}

/// Waits for three resyncs, then ends the operator, and with it all that it might still do.
async fn rest(operator: &mut Operator) {
    let seen = operator
        .metric("environment_operator_watch_lists_total", "")
        .await
        .unwrap();
    eventually("three resyncs", LIMIT, async || {
        let lists = operator
            .metric("environment_operator_watch_lists_total", "")
            .await
            .unwrap();
        if lists >= seen + 4.0 * LISTS {
            Ok(())
        } else {
            Err(lists - seen)
        }
    })
    .await;
    operator.stop(GRACE).await.unwrap();
}

/// Rows inserted, updated and deleted so far, by table; those that tell of each start and each term left out.
///
/// A session tells its counts late, but at its end at the latest: so every other session of the database is ended first.
async fn row_changes(world: &TestEnvironment<'_>) -> BTreeMap<String, i64> {
    let mut connection = world.database.connect().await.unwrap();
    eventually("no other session is left", LIMIT, async || {
        let others: Result<i64, sqlx::Error> = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut connection)
        .await;
        match others {
            Ok(0) => Ok(()),
            others => Err(format!("{others:?}")),
        }
    })
    .await;
    let changes: Vec<(String, i64)> = sqlx::query_as(
        "SELECT CASE schemaname WHEN 'public' THEN '' ELSE schemaname || '.' END || relname,
           n_tup_ins + n_tup_upd + n_tup_del
         FROM pg_stat_user_tables WHERE NOT (schemaname = 'environment_operator' AND relname IN ('lead', 'installation'))",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    changes.into_iter().collect()
}
