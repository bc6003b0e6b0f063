use environment_operator::store::{Mode, StartError, Store, migrate};

use crate::support::*;

async fn refused(url: &str, mode: Mode) -> String {
    match migrate::migrate(url, mode).await {
        Err(StartError::Refused(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_run_has_nothing_to_do_and_needs_no_rights_to_make() {
    let database = fresh_database().await;
    assert!(migrate::migrate(database.url(), Mode::Standalone).await.unwrap() > 0);
    assert_eq!(migrate::migrate(database.url(), Mode::Standalone).await.unwrap(), 0);
}

#[tokio::test]
async fn several_processes_migrate_one_database_at_once() {
    let database = fresh_database().await;
    let migrations = (0..4).map(|_| migrate::migrate(database.url(), Mode::Standalone));
    for outcome in futures::future::join_all(migrations).await {
        outcome.unwrap();
    }
    Store::open(database.url(), Mode::Standalone, 1).await.unwrap();
}

#[tokio::test]
async fn each_mode_refuses_the_others_database_with_one_sentence() {
    let database = fresh_database().await;
    assert_eq!(
        refused(database.url(), Mode::Attached).await,
        "the database holds no environments of an origin's server: start that first, or use --mode standalone"
    );
    migrate::migrate(database.url(), Mode::Standalone).await.unwrap();
    assert_eq!(
        refused(database.url(), Mode::Attached).await,
        "the database's tables were made by this operator in standalone mode: use --mode standalone"
    );
    let origins = fresh_database().await;
    let mut connection = origins.connect().await.unwrap();
    sqlx::query("CREATE TABLE environments (id uuid, company_id uuid)")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        refused(origins.url(), Mode::Standalone).await,
        "the database belongs to an origin's server, and standalone mode would make its tables: use --mode attached"
    );
    sqlx::query("ALTER TABLE environments DROP COLUMN company_id")
        .execute(&mut connection)
        .await
        .unwrap();
    for mode in [Mode::Standalone, Mode::Attached] {
        let sentence = refused(origins.url(), mode).await;
        assert!(sentence.starts_with("the database is instance-scoped"), "{sentence}");
    }
}

#[tokio::test]
async fn an_older_version_runs_on_a_newer_schema() {
    let database = fresh_database().await;
    migrate::migrate(database.url(), Mode::Standalone).await.unwrap();
    let mut connection = database.connect().await.unwrap();
    sqlx::query(
        "INSERT INTO environment_operator.operator_migrations (version, description, success, checksum, execution_time)
         VALUES (29990101000000, 'of the future', true, '', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    assert_eq!(migrate::migrate(database.url(), Mode::Standalone).await.unwrap(), 0);
}

#[tokio::test]
async fn the_closed_sets_are_held_by_named_checks() {
    let world = World::new().await;
    let environment = world.environment().await;
    for (statement, constraint) in [
        (
            "UPDATE environments SET driver = 'kubernetes'",
            "environments_driver_check",
        ),
        ("UPDATE environments SET status = 'gone'", "environments_status_check"),
        (
            "UPDATE environment_leases SET status = 'pending_cleanup'",
            "environment_leases_status_check",
        ),
        (
            "UPDATE environment_leases SET lease_policy = 'x'",
            "environment_leases_lease_policy_check",
        ),
        (
            "UPDATE environment_leases SET cleanup_status = 'x'",
            "environment_leases_cleanup_status_check",
        ),
        ("UPDATE heartbeat_runs SET status = 'x'", "heartbeat_runs_status_check"),
    ] {
        if statement.contains("leases") {
            world.grant(&world.claim(environment)).await;
        }
        world.run("queued").await;
        let error = sqlx::query(statement).execute(world.pool()).await.unwrap_err();
        assert_eq!(error.into_database_error().unwrap().constraint(), Some(constraint));
    }
}
