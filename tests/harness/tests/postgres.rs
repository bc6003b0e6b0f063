//! Postgres: databases, restarts, kills.

use harness::guard;
use harness::postgres::Postgres;
use sqlx::Row;

#[tokio::test]
async fn each_database_is_empty_and_goes_with_its_value() {
    let postgres = Postgres::shared().await;
    let (one, other) = (postgres.database().await.unwrap(), postgres.database().await.unwrap());
    assert_ne!(one.name(), other.name());
    let mut connection = one.connect().await.unwrap();
    sqlx::query("CREATE TABLE mine (id int)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut neighbour = other.connect().await.unwrap();
    let count = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'";
    assert_eq!(
        sqlx::query(count)
            .fetch_one(&mut neighbour)
            .await
            .unwrap()
            .get::<i64, _>(0),
        0
    );
    let name = one.name().to_owned();
    drop(one);
    let gone = sqlx::query("SELECT count(*) FROM pg_database WHERE datname = $1").bind(name);
    assert_eq!(gone.fetch_one(&mut neighbour).await.unwrap().get::<i64, _>(0), 0);
}

#[tokio::test]
async fn what_is_committed_outlives_a_restart_and_a_kill() {
    let postgres = Postgres::start(&guard::fresh_directory("postgres").unwrap())
        .await
        .unwrap();
    let database = postgres.database().await.unwrap();
    let mut connection = database.connect().await.unwrap();
    sqlx::query("CREATE TABLE kept (id int)")
        .execute(&mut connection)
        .await
        .unwrap();
    postgres.restart().await.unwrap();
    let mut connection = database.connect().await.unwrap();
    sqlx::query("INSERT INTO kept VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();
    postgres.kill().await.unwrap();
    assert!(
        sqlx::query("SELECT 1").execute(&mut connection).await.is_err(),
        "a killed server must not answer"
    );
    postgres.run_again().await.unwrap();
    let mut connection = database.connect().await.unwrap();
    let count = sqlx::query("SELECT count(*) FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(count.get::<i64, _>(0), 1);
}
