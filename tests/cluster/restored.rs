//! The database is not what it was: restored from a backup, or moved to another server.

use environment_operator::api::{EnvironmentPhase, LeasePhase, Reason};
use harness::guard::fresh_directory;
use harness::postgres::Postgres;
use kube::ResourceExt;
use serde_json::json;

use crate::support::{GRACE, TestEnvironment, id_of, lease};

/// The highest token that was ever given.
async fn highest_token(world: &TestEnvironment<'_>) -> i64 {
    sqlx::query_scalar("SELECT max(fencing_token) FROM environment_operator.lease_object")
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_database_that_is_restored_to_an_earlier_state_settles_and_gives_no_token_twice() {
    let world = TestEnvironment::new("restored").await;
    let backup = fresh_directory("backup").unwrap().join("dump");
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let of_box = |name| lease(name).environment("box");
    let run = world.insert_run().await;
    let kept = world.granted(of_box("kept").heartbeat_run(run)).await;
    let released = world.granted(of_box("released")).await;
    let deleted = world.granted(of_box("deleted")).await;
    world.database.back_up(&backup).await.unwrap();

    world.release("released").await;
    world.lease_in("released", LeasePhase::Released).await;
    world.delete_lease("deleted").await;
    world.lease_row_is(id_of(&deleted), "released").await;
    let later = world.ssh_environment("later").await;
    let lost = world.granted(lease("lost").environment("later")).await;
    world.granted(of_box("lost-and-released")).await;
    world.release("lost-and-released").await;
    let over = world.lease_in("lost-and-released", LeasePhase::Released).await;
    // What gave the highest token leaves no trace, neither as an object nor in the backup.
    world.granted(of_box("lost-and-gone")).await;
    world.delete_lease("lost-and-gone").await;
    let highest = highest_token(&world).await;
    operator.stop(GRACE).await.unwrap();

    world.database.restore(&backup).await.unwrap();
    assert!(highest_token(&world).await < highest);
    operator.start_again().unwrap();
    operator.wait_ready().await;

    // What was granted before goes on, or ends again as it ended.
    world.lease_row_is(id_of(&released), "released").await;
    world.lease_row_is(id_of(&deleted), "released").await;
    assert_eq!(
        world.record(id_of(&released)).await.unwrap()["reason"],
        "ReleaseRequested"
    );
    assert_eq!(world.record(id_of(&deleted)).await.unwrap()["reason"], "LeaseDeleted");
    world.lease_row_is(id_of(&kept), "active").await;
    // What was granted afterwards has no row any more, and gets none.
    let ended = world
        .lease_because("lost", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
    let (before, after) = (lost.status.clone().unwrap(), ended.status.unwrap());
    assert_eq!(
        after.fencing_token, before.fencing_token,
        "the first grant was the only one"
    );
    assert_eq!(world.lease_row(id_of(&lost)).await, None);
    assert_eq!(world.lease_row(id_of(&over)).await, None);
    // Environments get their rows again, and what comes next gets a token that nobody has had.
    let again = world.environment_in("later", EnvironmentPhase::Active).await;
    assert_eq!(again.uid(), later.uid());
    let next = world.granted(lease("next").environment("later")).await;
    assert!(next.status.unwrap().fencing_token.unwrap() > highest);
    let status = |lease: &environment_operator::api::EnvironmentLease| json!(lease.status);
    let (now_kept, now_over) = (
        world.leases().get("kept").await.unwrap(),
        world.leases().get("lost-and-released").await.unwrap(),
    );
    assert_eq!(status(&now_kept), status(&kept));
    assert_eq!(status(&now_over), status(&over));
    world.set_run_status(&[run], "succeeded").await;
    world
        .lease_because("kept", LeasePhase::Released, Reason::RunFinished)
        .await;
    let endings = "environment_operator_lease_endings_total";
    let counted = operator.metric(endings, "reason=\"EndedInDatabase\"").await.unwrap();
    assert!(
        (counted - 1.0).abs() < f64::EPSILON,
        "{counted}: what was lost is counted once, however often it is looked at"
    );
}

#[tokio::test]
async fn a_database_that_moves_to_another_server_takes_its_leases_along_unwritten() {
    let world = TestEnvironment::new("moved").await;
    let directory = fresh_directory("moved").unwrap();
    let backup = directory.join("dump");
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let held = world.granted(lease("held").environment("box").heartbeat_run(run)).await;
    world.granted(lease("over").environment("box")).await;
    world.release("over").await;
    world.lease_in("over", LeasePhase::Released).await;
    operator.stop(GRACE).await.unwrap();
    world.database.back_up(&backup).await.unwrap();

    let server = Postgres::start(&directory.join("server")).await.unwrap();
    let elsewhere = world.moved_to(server.database().await.unwrap());
    elsewhere.database.restore(&backup).await.unwrap();
    let mark = elsewhere.mark();
    let moved = elsewhere.start().await;
    let next = elsewhere.granted(lease("next").environment("box")).await;
    let (token, before) = (next.status.unwrap().fencing_token, held.status.unwrap().fencing_token);
    assert!(token > before);
    let written: Vec<String> = elsewhere
        .writes_since(mark)
        .iter()
        .map(|event| event.request_uri.clone())
        .filter(|path| path.contains("environmentleases/") && !path.contains("/next"))
        .collect();
    assert_eq!(written, Vec::<String>::new(), "nothing of what was there has changed");
    elsewhere.set_run_status(&[run], "failed").await;
    elsewhere
        .lease_because("held", LeasePhase::Failed, Reason::RunFailed)
        .await;
    elsewhere.settles().await;
    drop(moved);
}
