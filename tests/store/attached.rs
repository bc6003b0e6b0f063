//! Attached to a Paperclip server's database, with the rights that the documentation names and none more.

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{Grant, GrantOutcome};
use environment_operator::store::environments::{Archive, EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::{Mode, StartError, Store, cluster, lead, migrate, run_trigger};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::rights::rights;
use crate::support::*;

/// A dump without the rights on what it shows, and how many there were.
fn split_grants(dump: &str) -> (String, usize) {
    let is_grant = |line: &&str| line.starts_with("GRANT ");
    let is_text = |line: &&str| !is_grant(line) && !line.starts_with("--") && !line.is_empty();
    (
        dump.lines().filter(is_text).collect::<Vec<_>>().join("\n"),
        dump.lines().filter(is_grant).count(),
    )
}

#[tokio::test]
async fn an_attached_operator_works_with_the_documented_rights_and_alters_no_table() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    owner.execute(sqlx::raw_sql(ORIGIN)).await.unwrap();
    let (before, _) = split_grants(&database.schema_dump("public").await.unwrap());
    migrate::migrate(&address(database.url()), Mode::Attached)
        .await
        .unwrap();
    let role = format!("operator_{}", Uuid::new_v4().simple());
    let make = format!("CREATE ROLE {role} LOGIN;\n{}", rights(&role));
    owner.execute(sqlx::raw_sql(AssertSqlSafe(make))).await.unwrap();

    let server = database.options().unwrap();
    let url = format!(
        "postgres://{role}@{}:{}/{}",
        server.get_host(),
        server.get_port(),
        database.name()
    );
    assert_eq!(
        migrate::migrate(&address(&url), Mode::Attached).await.unwrap(),
        0,
        "nothing is missing, so no rights are needed"
    );
    let StartError::Refused(sentence) = run_trigger::ensure(&address(&url)).await.unwrap_err() else {
        panic!("not refused")
    };
    assert!(sentence.contains("--mode attached --run-trigger"), "{sentence}");
    let store = Store::open(&address(&url), Mode::Attached, 4).await.unwrap();
    cluster::admit(&store, "cluster", &[]).await.unwrap();
    let leader = lead::acquire(&store, "cluster", "default", HOLDER)
        .await
        .unwrap()
        .unwrap();
    let (company, agent) = (Uuid::new_v4(), Uuid::new_v4());
    let world = TestEnvironment::of(store, leader, company, agent, database);
    world.make_company(company, agent).await;
    let run = world.run("running").await;
    let orphan = EnvironmentSync {
        company_id: Uuid::new_v4(),
        ..world.sandbox("orphan")
    };
    let EnvironmentOutcome::Refused(refusal) = world.sync_environment(&orphan).await else {
        panic!()
    };
    assert_eq!(
        refusal.reason,
        Reason::CompanyNotFound,
        "companies are the Paperclip server's to make"
    );
    world.sync_environment(&world.local()).await;
    let environment = world.environment().await;
    let claim = Grant {
        run_id: Some(run),
        ..world.claim(environment)
    };
    // Without a right to lock them it skips the rows that foreign keys refer to all the same.
    owner
        .execute("BEGIN; SELECT FROM companies FOR UPDATE; SELECT FROM agents FOR UPDATE")
        .await
        .unwrap();
    assert_eq!(world.grant(&claim).await, GrantOutcome::Busy);
    owner.execute("ROLLBACK").await.unwrap();
    granted(world.grant(&claim).await);
    ended(world.end(claim.id, LeaseState::Released, Reason::RunFinished).await);
    Archive::carry_out(&world.store, &world.leader, &[Archive(environment)])
        .await
        .unwrap();
    assert!(lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());

    let (after, granted) = split_grants(&world.database.schema_dump("public").await.unwrap());
    assert_eq!(after, before, "no table is altered, and no trigger is made");
    assert!(granted > 0, "but for the rights of the role");
    world.store.close().await;
    let drop_role = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    owner.execute(sqlx::raw_sql(AssertSqlSafe(drop_role))).await.unwrap();
}

#[tokio::test]
async fn triggers_that_are_asked_for_are_made_once_and_again_if_they_were_taken_away() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    owner.execute(sqlx::raw_sql(ORIGIN)).await.unwrap();
    let way = address(database.url());
    migrate::migrate(&way, Mode::Attached).await.unwrap();
    run_trigger::ensure(&way).await.unwrap();
    let ids = "SELECT array_agg(oid::int8 ORDER BY oid) FROM pg_trigger
        WHERE NOT tgisinternal AND tgrelid = 'heartbeat_runs'::regclass";
    let made: Vec<i64> = sqlx::query_scalar(ids).fetch_one(&mut owner).await.unwrap();
    assert_eq!(made.len(), 2);
    let ensures = (0..4).map(|_| run_trigger::ensure(&way));
    futures::future::try_join_all(ensures).await.unwrap();
    let again: Vec<i64> = sqlx::query_scalar(ids).fetch_one(&mut owner).await.unwrap();
    assert_eq!(again, made, "nothing was made that was there");
    owner
        .execute("DROP TRIGGER environment_operator_run_ended ON heartbeat_runs")
        .await
        .unwrap();
    let ensures = (0..4).map(|_| run_trigger::ensure(&way));
    futures::future::try_join_all(ensures).await.unwrap();
    let mended: Vec<i64> = sqlx::query_scalar(ids).fetch_one(&mut owner).await.unwrap();
    assert_eq!(mended.len(), 2);
}
