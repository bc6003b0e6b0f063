//! Attached to a database whose tables an origin's server has made, and goes on using.

use environment_operator::api::{LeasePhase, Reason};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::{GRACE, World, id_of, lease};

/// The triggers that anybody has made on the origin's tables.
async fn triggers(world: &World<'_>) -> Vec<String> {
    let select = "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname";
    sqlx::query_scalar(select).fetch_all(&world.pool).await.unwrap()
}

/// Ends and deletes runs, with leases that nothing but their rows can tell of.
async fn runs_are_noticed(world: &World<'_>) {
    let (ends, vanishes) = (world.insert_run().await, world.insert_run().await);
    world.granted(lease("ends").heartbeat_run(ends)).await;
    world.granted(lease("vanishes").heartbeat_run(vanishes)).await;
    world.set_run_status(&[ends], "failed").await;
    world.lease_because("ends", LeasePhase::Failed, Reason::RunFailed).await;
    world.delete_run(vanishes).await;
    world
        .lease_because("vanishes", LeasePhase::Expired, Reason::RunGone)
        .await;
}

#[tokio::test]
async fn runs_that_end_are_noticed_by_asking_for_them_alone() {
    let world = World::attached("attached-poll").await;
    let _operator = world.start_with(&["--notice-by=runs"]).await;
    runs_are_noticed(&world).await;
    assert_eq!(triggers(&world).await, Vec::<String>::new());
    // A claim that waits is asked for too: its run is over before there is an environment to grant.
    let run = world.insert_run().await;
    world
        .claim(lease("late").environment("absent").heartbeat_run(run))
        .await;
    world
        .lease_because("late", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    world.set_run_status(&[run], "succeeded").await;
    world
        .lease_because("late", LeasePhase::Failed, Reason::RunAlreadyFinished)
        .await;
    world.settles().await;
}

#[tokio::test]
async fn a_trigger_that_is_asked_for_tells_of_runs_and_goes_with_the_operator_s_schema() {
    let world = World::attached("attached-trigger").await;
    let before = world.database.schema_dump("public").await.unwrap();
    let mut operator = world.start_with(&["--notice-by=runs", "--run-trigger"]).await;
    runs_are_noticed(&world).await;
    let made = ["environment_operator_run_deleted", "environment_operator_run_ended"];
    assert_eq!(triggers(&world).await, made);
    operator.stop(GRACE).await.unwrap();
    operator.start_again().unwrap();
    operator.wait_ready().await; // they are there already
    operator.stop(GRACE).await.unwrap();

    let printed = world.command(&["uninstall-database"]).await;
    assert!(printed.status.success());
    let sql = String::from_utf8(printed.stdout).unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.pool).await.unwrap();
    assert_eq!(world.database.schema_dump("public").await.unwrap(), before);
    let own = "SELECT count(*) FROM pg_namespace WHERE nspname = 'environment_operator'";
    let own: i64 = sqlx::query_scalar(own).fetch_one(&world.pool).await.unwrap();
    assert_eq!(own, 0);
    assert!(world.lease_rows(world.company()).await.len() == 2, "history stays");
}

#[tokio::test]
async fn an_attached_operator_alters_none_of_the_origin_s_tables() {
    let world = World::attached("attached").await;
    let before = world.database.schema_dump("public").await.unwrap();
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let made = world
        .granted(lease("works").environment("box").heartbeat_run(run))
        .await;
    let row = world.lease_row(id_of(&made)).await.unwrap();
    assert_eq!(
        (&row["status"], &row["heartbeat_run_id"]),
        (&json!("active"), &json!(run))
    );
    world.release("works").await;
    world
        .lease_because("works", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.settles().await;
    operator.stop(GRACE).await.unwrap();
    assert_eq!(world.database.schema_dump("public").await.unwrap(), before);
}
