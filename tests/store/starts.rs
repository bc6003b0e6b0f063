//! What an administrator can mend ends no process: it runs, is not ready, names it, and goes on once it is mended.

use std::process::Output;
use std::time::Duration;

use environment_operator::store::{Mode, StartError, StoreError, migrate};
use harness::guard;
use harness::operator::Operator;
use harness::postgres::Database;
use harness::wait::eventually;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use uuid::Uuid;

use crate::support::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_environment-operator");

const LIMIT: Duration = Duration::from_secs(60);

/// An operator that never reaches an API server, and needs none to open its database.
fn start(url: &str) -> Operator {
    let file = guard::fresh_directory("kubeconfig").unwrap().join("config");
    let nowhere = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": "http://127.0.0.1:9" } }],
        "users": [{ "name": "x", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    std::fs::write(&file, nowhere.to_string()).unwrap();
    Operator::of(PROGRAM.as_ref())
        .kubeconfig(&file)
        .database_url(url)
        .arg("--cluster-id=cluster")
        .start()
        .unwrap()
}

/// Waits until readiness names the database with these words, the process alive.
async fn names(operator: &mut Operator, words: &str) {
    eventually(&format!("/readyz says {words}"), LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let line = answer.body.lines().find(|line| line.starts_with("database: "));
        match line {
            Some(line) if answer.status == 503 && line.contains(words) => Ok(()),
            _ => Err(answer.body),
        }
    })
    .await;
    assert!(operator.is_running());
    // The log quotes what it quotes.
    let logged = operator.log().replace("\\\"", "\"");
    assert!(logged.contains(words), "{logged}");
}

/// Waits until readiness has nothing to say of the database.
async fn opens(operator: &Operator) {
    eventually("the database is opened", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let led = answer.body.contains("database: this database (");
        let waits = answer.body.lines().any(|line| line.starts_with("database: "));
        // Without an API server nobody tells whether leases are held: so far it comes, and no further.
        if led || !waits { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

/// The address of another database or user on the same server.
fn url(database: &Database, user: &str, name: &str) -> String {
    let options = database.options().unwrap();
    format!("postgres://{user}@{}:{}/{name}", options.get_host(), options.get_port())
}

async fn execute(connection: &mut PgConnection, statement: String) {
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
}

async fn schemas(database: &Database) -> i64 {
    let mut connection = database.connect().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'environment_operator'")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_database_that_is_missing_or_closed_to_the_role_is_waited_for() {
    let database = fresh_database().await;
    let mut admin = database.connect().await.unwrap();
    let name = format!("late_{}", Uuid::new_v4().simple());
    let role = format!("role_{}", Uuid::new_v4().simple());
    execute(&mut admin, format!("CREATE ROLE {role} LOGIN")).await;
    let mut operator = start(&url(&database, &role, &name));
    names(&mut operator, &format!("database \"{name}\" does not exist")).await;
    execute(&mut admin, format!("CREATE DATABASE {name}")).await;
    // The role may connect, and since PostgreSQL 15 it may not make tables in the schema public.
    names(
        &mut operator,
        "the operator's role lacks a right (permission denied for ",
    )
    .await;
    execute(&mut admin, format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")).await;
    names(&mut operator, "permission denied for database").await;
    execute(&mut admin, format!("ALTER DATABASE {name} OWNER TO {role}")).await;
    opens(&operator).await;
    operator.kill().unwrap();
    execute(&mut admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    execute(&mut admin, format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn another_mode_s_database_is_named_and_taken_up_once_it_fits() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    owner
        .execute("CREATE TABLE environments (id uuid, company_id uuid)")
        .await
        .unwrap();
    let mut operator = start(database.url());
    names(&mut operator, "the database belongs to a Paperclip server").await;
    owner.execute("DROP TABLE environments").await.unwrap();
    opens(&operator).await;
    operator.kill().unwrap();
}

#[tokio::test]
async fn a_migration_that_waits_in_vain_for_a_lock_is_tried_again_whatever_limits_the_role_has() {
    let database = fresh_database().await;
    let (mut owner, mut other) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let limit = format!("ALTER DATABASE {} SET statement_timeout = '1s'", database.name());
    owner.execute("CREATE SCHEMA environment_operator").await.unwrap();
    owner.execute("BEGIN").await.unwrap();
    owner
        .execute("CREATE TABLE environment_operator.cluster (id uuid)")
        .await
        .unwrap();
    execute(&mut other, limit).await;
    let mut operator = start(database.url());
    names(&mut operator, "canceling statement due to lock timeout").await;
    owner.execute("ROLLBACK").await.unwrap();
    opens(&operator).await;
    operator.kill().unwrap();
}

#[test]
fn a_password_that_no_server_takes_can_be_mended_and_is_not_quoted() {
    let error = StoreError::from(sqlx::Error::Configuration(
        "Failed to saslprep password: ProhibitedCharacter('\\n')".into(),
    ));
    let StartError::Refused(sentence) = StartError::from(error) else {
        panic!("it can be mended")
    };
    assert!(
        sentence.ends_with("does its Secret end with a line break?"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_database_in_another_encoding_than_utf8_is_refused_before_anything_is_made_in_it() {
    let database = fresh_database().await;
    let mut admin = database.connect().await.unwrap();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = format!("encoded_{}", Uuid::new_v4().simple());
        let make = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        execute(&mut admin, make).await;
        let options = database.options().unwrap();
        let refused = migrate::migrate(
            &address(&url(&database, options.get_username(), &name)),
            Mode::Standalone,
        )
        .await;
        let Err(StartError::Refused(sentence)) = refused else {
            panic!("{refused:?}")
        };
        let begin = format!("the database's encoding is {encoding}, ");
        assert!(sentence.starts_with(&begin), "{sentence}");
        execute(&mut admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
}

#[tokio::test]
async fn a_start_that_fails_in_any_migration_leaves_nothing_behind() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    owner.execute("CREATE TABLE companies (id uuid)").await.unwrap();
    let refused = migrate::migrate(&address(database.url()), Mode::Standalone).await;
    let Err(StartError::Refused(sentence)) = refused else {
        panic!("{refused:?}")
    };
    let begin = "standalone mode makes its own tables, and public.companies is there already";
    assert!(sentence.starts_with(begin), "{sentence}");
    assert_eq!(schemas(&database).await, 0);
    owner.execute("DROP TABLE companies").await.unwrap();

    // What fails late fails the same: the last of the Paperclip server's tables finds its index's name taken.
    owner
        .execute("CREATE TABLE activity_log_entity_idx (id uuid)")
        .await
        .unwrap();
    migrate::migrate(&address(database.url()), Mode::Standalone)
        .await
        .unwrap_err();
    assert_eq!(schemas(&database).await, 0);
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(tables, 1);
    owner.execute("DROP TABLE activity_log_entity_idx").await.unwrap();
    migrate::migrate(&address(database.url()), Mode::Standalone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_migration_that_is_killed_leaves_nothing_behind_and_the_next_one_goes_on() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    // It stops at the first statement that needs this lock, in the midst of the migrations.
    owner.execute("CREATE SCHEMA environment_operator").await.unwrap();
    owner.execute("BEGIN").await.unwrap();
    owner
        .execute("CREATE TABLE environment_operator.cluster (id uuid)")
        .await
        .unwrap();
    let mut other = database.connect().await.unwrap();
    let killed = eventually("the migration waits", LIMIT, async || {
        let ended: Option<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND backend_type = 'client backend'",
        )
        .fetch_optional(&mut other)
        .await
        .unwrap();
        if ended == Some(true) {
            Ok(())
        } else {
            Err("it does not")
        }
    });
    let way = address(database.url());
    let (migration, ()) = tokio::join!(migrate::migrate(&way, Mode::Standalone), killed);
    migration.unwrap_err();
    owner.execute("ROLLBACK").await.unwrap();
    let made: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'environment_operator')")
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert_eq!(made, 0);
    migrate::migrate(&address(database.url()), Mode::Standalone)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_failed_start_of_an_older_version_has_left_brands_the_database_for_neither_mode() {
    let left = "CREATE SCHEMA environment_operator;
        CREATE TABLE environment_operator.origin_migrations (
          version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),
          success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL
        )";
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    owner.execute(sqlx::raw_sql(left)).await.unwrap();
    owner.execute(sqlx::raw_sql(ORIGIN)).await.unwrap();
    migrate::migrate(&address(database.url()), Mode::Attached)
        .await
        .unwrap();
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    owner.execute(sqlx::raw_sql(left)).await.unwrap();
    migrate::migrate(&address(database.url()), Mode::Standalone)
        .await
        .unwrap();
}

/// Runs a subcommand to its end.
async fn command(url: &str, arguments: &[&str]) -> Output {
    tokio::process::Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", url)
        .env("ENVIRONMENT_OPERATOR_CLUSTER_ID", "cluster")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_subcommand_says_in_one_sentence_why_a_database_does_not_fit() {
    let unmigrated = fresh_database().await;
    let scoped = fresh_database().await;
    let mut owner = scoped.connect().await.unwrap();
    owner.execute("CREATE TABLE environments (id uuid)").await.unwrap();
    for arguments in [&["sweep", "--dry-run"][..], &["new-incarnation"], &["accept-database"]] {
        for (database, sentence) in [
            (&unmigrated, "the database has not been migrated to this version: "),
            (
                &scoped,
                "the database is instance-scoped (environments.company_id is gone)",
            ),
        ] {
            let output = command(database.url(), arguments).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{arguments:?}");
            let begin = format!("environment-operator: {sentence}");
            assert!(said.starts_with(&begin), "{arguments:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    // One that fits, and is another cluster's: an empty table would be no answer.
    migrate::migrate(&address(unmigrated.url()), Mode::Standalone)
        .await
        .unwrap();
    for arguments in [&["sweep", "--dry-run"][..], &["new-incarnation"]] {
        let output = command(unmigrated.url(), arguments).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        let begin =
            "environment-operator: this database does not know cluster \"cluster\": mend DATABASE_URL or --cluster-id";
        assert!(said.starts_with(begin), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let accepted = command(unmigrated.url(), &["accept-database"]).await;
    assert!(accepted.status.success(), "{accepted:?}");
    let output = command(unmigrated.url(), &["sweep", "--dry-run"]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("COMPANY"));
    let output = command(scoped.url(), &["migrate"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("environment-operator: the database is instance-scoped"),
        "{said}"
    );
    assert_eq!(schemas(&scoped).await, 0);
}
