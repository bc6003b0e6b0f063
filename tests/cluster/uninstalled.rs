//! What is left of an operator that was taken away, and what becomes of it when it comes back.

use environment_operator::api::{LeasePhase, Reason};
use sqlx::AssertSqlSafe;

use crate::support::{Expected, GRACE, TestEnvironment, id_of, lease};

#[tokio::test]
async fn a_standalone_database_is_left_as_it_is_or_emptied_as_a_whole_and_taken_up_again_either_way() {
    let world = TestEnvironment::new("uninstalled").await;
    let mut operator = world.start().await;
    let run = world.insert_run().await;
    world.granted(lease("held").heartbeat_run(run)).await;
    operator.stop(GRACE).await.unwrap();
    let printed = world.command(&["uninstall-database"]).await;
    let printed = String::from_utf8(printed.stdout).unwrap();
    let rows = world.lease_rows(world.company()).await;
    sqlx::raw_sql(AssertSqlSafe(printed.clone()))
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(world.lease_rows(world.company()).await, rows, "history stays");
    world.set_run_status(&[run], "succeeded").await;
    operator.start_again().unwrap();
    world
        .lease_because("held", LeasePhase::Released, Reason::RunFinished)
        .await;
    world.settles().await;
    operator.stop(GRACE).await.unwrap();

    let (_, statements) = printed.split_once("hyphens:\n").unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.replace("-- ", "")))
        .execute(&world.pool)
        .await
        .unwrap();
    let left = "SELECT count(*) FROM pg_class
                WHERE relkind IN ('r', 'S') AND relnamespace::regnamespace::text IN ('public', 'environment_operator')";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&world.pool).await.unwrap();
    assert_eq!(left, 0, "nothing is forgotten");
    operator.start_again().unwrap();
    operator.wait_ready().await;
    world.granted(lease("next")).await;
    world.lease_in("held", LeasePhase::Released).await;
}

#[tokio::test]
async fn an_attached_operator_that_has_lost_its_memory_follows_each_row_once_and_forgets_it() {
    let world = TestEnvironment::attached("forgotten").await;
    let mut operator = world.start().await;
    let run = world.insert_run().await;
    world.granted(lease("held").heartbeat_run(run)).await;
    let ended = world.granted(lease("ended")).await;
    world.release("ended").await;
    world.lease_in("ended", LeasePhase::Released).await;
    operator.stop(GRACE).await.unwrap();
    let printed = world.command(&["uninstall-database"]).await;
    let printed = String::from_utf8(printed.stdout).unwrap();
    sqlx::raw_sql(AssertSqlSafe(printed))
        .execute(&world.pool)
        .await
        .unwrap();

    operator.start_again().unwrap();
    operator.wait_ready().await;
    world.delete_lease("ended").await;
    world.set_run_status(&[run], "succeeded").await;
    world
        .lease_because("held", LeasePhase::Released, Reason::RunFinished)
        .await;
    let next = world.granted(lease("next")).await;
    world.delete_lease("next").await;
    Expected {
        phase: LeasePhase::Released,
        reason: Reason::LeaseDeleted,
        message: "the lease object was deleted",
    }
    .of_row(&world, id_of(&next))
    .await;
    let row = world.lease_row(id_of(&ended)).await.unwrap();
    assert_eq!(row["status"], "released");
    for followed in [
        format!("ended by another writer lease={}", id_of(&ended)),
        "another writer".to_owned(),
    ] {
        let times = operator.log().matches(&followed).count();
        assert!(times <= 3, "{followed}: {times} times");
    }
}
