use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::{Mode, StartError, Store, migrate};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::rights::rights;
use crate::support::*;

async fn refused(url: &str, mode: Mode) -> String {
    match migrate::migrate(&address(url), mode).await {
        Err(StartError::Refused(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_run_has_nothing_to_do_and_needs_no_rights_to_make() {
    let database = fresh_database().await;
    assert!(
        migrate::migrate(&address(database.url()), Mode::Standalone)
            .await
            .unwrap()
            > 0
    );
    assert_eq!(
        migrate::migrate(&address(database.url()), Mode::Standalone)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn several_processes_migrate_one_database_at_once() {
    let database = fresh_database().await;
    let way = address(database.url());
    let migrations = (0..4).map(|_| migrate::migrate(&way, Mode::Standalone));
    for outcome in futures::future::join_all(migrations).await {
        outcome.unwrap();
    }
    Store::open(&address(database.url()), Mode::Standalone, 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn each_mode_refuses_the_others_database_with_one_sentence() {
    let database = fresh_database().await;
    assert_eq!(
        refused(database.url(), Mode::Attached).await,
        "the database holds no environments of a Paperclip server: start that first, or use --mode standalone"
    );
    migrate::migrate(&address(database.url()), Mode::Standalone)
        .await
        .unwrap();
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
        "the database belongs to a Paperclip server, and standalone mode would make its tables: use --mode attached"
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
    migrate::migrate(&address(database.url()), Mode::Standalone)
        .await
        .unwrap();
    let mut connection = database.connect().await.unwrap();
    sqlx::query(
        "INSERT INTO environment_operator.operator_migrations (version, description, success, checksum, execution_time)
         VALUES (29990101000000, 'of the future', true, '', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        migrate::migrate(&address(database.url()), Mode::Standalone)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn the_closed_sets_are_held_by_named_checks() {
    let world = TestEnvironment::new().await;
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

/// As if these versions of the operator's own migrations had not been there yet.
async fn unmade(connection: &mut sqlx::PgConnection, undo: &'static str) {
    connection.execute(sqlx::raw_sql(undo)).await.unwrap();
}

#[tokio::test]
async fn what_leases_of_before_have_left_is_found_after_an_upgrade_and_by_a_role_of_before() {
    let world = TestEnvironment::attached().await;
    let mut owner = world.connect().await;
    let environment = world.environment().await;
    let (first, second) = (
        granted(world.grant(&world.claim(environment)).await),
        granted(world.grant(&world.claim(environment)).await),
    );
    for lease in [&first, &second] {
        ended(
            world
                .end(lease.id, LeaseState::Released, Reason::ReleaseRequested)
                .await,
        );
    }
    let role = format!("operator_{}", Uuid::new_v4().simple());
    let make = format!("CREATE ROLE {role} LOGIN;\n{}", rights(&role));
    unmade(
        &mut owner,
        "UPDATE environment_leases SET provider_lease_id = 'left';
         DROP TABLE environment_operator.provider_lease;
         DROP FUNCTION environment_operator.lease_object_recorded, environment_operator.lease_object_removed CASCADE;
         DROP FUNCTION environment_operator.remember_provider_leases;
         DELETE FROM environment_operator.operator_migrations WHERE version = 20261127000031",
    )
    .await;
    owner.execute(sqlx::raw_sql(AssertSqlSafe(make))).await.unwrap();
    assert_eq!(
        migrate::migrate(&address(world.database.url()), Mode::Attached)
            .await
            .unwrap(),
        1
    );
    let known = "SELECT lease_id FROM environment_operator.provider_lease WHERE look_after IS NOT NULL";
    let known: Vec<Uuid> = sqlx::query_scalar(known).fetch_all(&mut owner).await.unwrap();
    assert_eq!(known, [second.id], "the last used of both");
    let may: bool = sqlx::query_scalar(
        "SELECT bool_and(has_table_privilege($1, 'environment_operator.provider_lease', right_))
         FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS right_",
    )
    .bind(&role)
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert!(may);

    // A version that knows nothing of it grants and ends with the rights that it has.
    let revoke =
        format!("REVOKE ALL ON environment_operator.provider_lease FROM {role}; SET SESSION AUTHORIZATION {role}");
    owner.execute(sqlx::raw_sql(AssertSqlSafe(revoke))).await.unwrap();
    owner
        .execute("UPDATE environment_operator.lease_object SET epoch = epoch + 1")
        .await
        .unwrap();
    owner
        .execute("DELETE FROM environment_operator.lease_object")
        .await
        .unwrap();
    owner.execute("RESET SESSION AUTHORIZATION").await.unwrap();
    assert_eq!(
        world
            .count("SELECT count(*) FROM environment_operator.provider_lease")
            .await,
        0
    );
    let drop_role = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    owner.execute(sqlx::raw_sql(AssertSqlSafe(drop_role))).await.unwrap();
}

#[tokio::test]
async fn rows_that_an_index_of_the_origins_refuses_keep_no_operator_from_starting() {
    let world = TestEnvironment::new().await;
    let mut owner = world.connect().await;
    for metadata in [
        "{\"managedByPaperclip\": true}",
        "{\"managedByPaperclip\": \"perhaps\"}",
    ] {
        unmade(
            &mut owner,
            "DROP INDEX IF EXISTS environments_company_managed_sandbox_idx;
             DROP INDEX agents_company_default_environment_idx;
             ALTER TABLE companies RENAME CONSTRAINT companies_issue_prefix_idx TO companies_issue_prefix_key;
             DELETE FROM environment_operator.origin_migrations WHERE version = 20261127000032",
        )
        .await;
        let insert =
            "INSERT INTO environments (company_id, name, driver, metadata) VALUES ($1, 'a', 'sandbox', $2::jsonb),
          ($1, 'b', 'sandbox', $2::jsonb)";
        sqlx::query(insert)
            .bind(world.company)
            .bind(metadata)
            .execute(&mut owner)
            .await
            .unwrap();
        assert_eq!(
            migrate::migrate(&address(world.database.url()), Mode::Standalone)
                .await
                .unwrap(),
            1
        );
        let made = "SELECT count(*) FROM pg_indexes WHERE indexname = 'environments_company_managed_sandbox_idx'";
        assert_eq!(world.count(made).await, 0, "{metadata}");
        sqlx::query("DELETE FROM environments")
            .execute(&mut owner)
            .await
            .unwrap();
    }
}
