//! What a session is set to, and on which host it is opened, whatever the role, the database and the address say.

use environment_operator::store::{Mode, StartError, Store, migrate};
use harness::postgres::Database;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

use crate::support::*;

/// A role with settings of its own, as an administrator may have made it; it owns the database.
struct Role {
    name: String,
    url: String,
}

impl Role {
    async fn create(database: &Database, settings: &[(&str, &str)]) -> Self {
        let name = format!("role_{}", Uuid::new_v4().simple());
        let mut statements = format!(
            "CREATE ROLE {name} LOGIN; ALTER DATABASE {0} OWNER TO {name};",
            database.name()
        );
        for (setting, value) in settings {
            statements += &format!("ALTER ROLE {name} SET {setting} = '{value}';");
        }
        let mut admin = database.connect().await.unwrap();
        admin.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
        let server = database.options().unwrap();
        let url = format!(
            "postgres://{name}@{}:{}/{}",
            server.get_host(),
            server.get_port(),
            database.name()
        );
        Self { name, url }
    }

    async fn remove(self, database: &Database) {
        let mut admin = database.connect().await.unwrap();
        let drop = format!(
            "REASSIGN OWNED BY {0} TO postgres; DROP OWNED BY {0}; DROP ROLE {0}",
            self.name
        );
        admin.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await.unwrap();
    }
}

async fn shown(store: &Store, setting: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(setting)
        .fetch_one(store.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn settings_of_a_role_or_a_database_reach_neither_migrations_nor_sessions() {
    let database = fresh_database().await;
    let role = Role::create(
        &database,
        &[
            ("statement_timeout", "300ms"),
            ("lock_timeout", "300ms"),
            ("idle_session_timeout", "300ms"),
            ("idle_in_transaction_session_timeout", "300ms"),
            ("default_transaction_isolation", "serializable"),
            ("default_transaction_deferrable", "on"),
            ("default_transaction_read_only", "on"),
            ("synchronous_commit", "off"),
            ("row_security", "on"),
            ("search_path", "pg_temp, nowhere"),
            ("TimeZone", "Asia/Kathmandu"),
            ("DateStyle", "German"),
            ("IntervalStyle", "sql_standard"),
            ("bytea_output", "escape"),
            ("extra_float_digits", "-15"),
            ("standard_conforming_strings", "off"),
            ("exit_on_error", "on"),
            ("transform_null_equals", "on"),
            ("array_nulls", "off"),
            ("client_min_messages", "debug5"),
            ("jit", "on"),
        ],
    )
    .await;
    let way = address(&role.url);
    assert!(migrate::migrate(&way, Mode::Standalone).await.unwrap() > 0);
    let store = Store::open(&way, Mode::Standalone, 1).await.unwrap();
    for (setting, value) in [
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_session_timeout", "0"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("synchronous_commit", "on"),
        ("row_security", "off"),
        ("search_path", "public"),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, MDY"),
        ("standard_conforming_strings", "on"),
        ("jit", "off"),
    ] {
        assert_eq!(shown(&store, setting).await, value, "{setting}");
    }
    store.close().await;
    role.remove(&database).await;
}

#[tokio::test]
async fn a_setting_that_the_role_has_and_may_not_change_is_refused_with_its_name_and_the_reason() {
    let database = fresh_database().await;
    let role = Role::create(&database, &[("session_replication_role", "replica")]).await;
    let Err(StartError::Refused(sentence)) = migrate::migrate(&address(&role.url), Mode::Standalone).await else {
        panic!("not refused")
    };
    assert!(sentence.contains("\"session_replication_role\""), "{sentence}");
    assert!(sentence.contains("no foreign key is looked at"), "{sentence}");
    assert!(sentence.contains("ALTER ROLE … RESET"), "{sentence}");
    role.remove(&database).await;
}

#[tokio::test]
async fn a_stricter_commit_than_the_operator_needs_stays() {
    let database = fresh_database().await;
    let role = Role::create(&database, &[("synchronous_commit", "remote_apply")]).await;
    migrate::migrate(&address(&role.url), Mode::Standalone).await.unwrap();
    let store = Store::open(&address(&role.url), Mode::Standalone, 1).await.unwrap();
    assert_eq!(shown(&store, "synchronous_commit").await, "remote_apply");
    store.close().await;
    role.remove(&database).await;
}
