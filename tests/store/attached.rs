//! Attached to an origin's database, with the rights that the documentation names and none more.

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::{Mode, Store, lead, migrate};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::support::*;

/// The origin's tables, made by its own server.
const ORIGIN: [&str; 6] = [
    include_str!("../../migrations/origin/20261122000001_companies.sql"),
    include_str!("../../migrations/origin/20261122000002_environments.sql"),
    include_str!("../../migrations/origin/20261122000003_agents.sql"),
    include_str!("../../migrations/origin/20261122000004_heartbeat_runs.sql"),
    include_str!("../../migrations/origin/20261122000005_environment_leases.sql"),
    include_str!("../../migrations/origin/20261122000006_activity_log.sql"),
];

/// The rights as `docs/database.md` lists them.
fn rights() -> String {
    let page = include_str!("../../docs/database.md");
    let (_, after) = page.split_once("```sql\n-- rights").expect("the page has the rights");
    let (rights, _) = after.split_once("```").expect("the block ends");
    rights.lines().skip(1).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn an_attached_operator_works_with_the_documented_rights_and_alters_no_table() {
    let database = fresh_database().await;
    let mut owner = database.connect().await.unwrap();
    for statements in ORIGIN {
        owner.execute(sqlx::raw_sql(statements)).await.unwrap();
    }
    let tables = "SELECT jsonb_agg(to_jsonb(c) ORDER BY table_name, ordinal_position) FROM information_schema.columns c
         WHERE table_schema = 'public'";
    let before: serde_json::Value = sqlx::query_scalar(tables).fetch_one(&mut owner).await.unwrap();
    migrate::migrate(database.url(), Mode::Attached).await.unwrap();
    let role = format!("operator_{}", Uuid::new_v4().simple());
    let grants = rights().replace("environment_operator_role", &role);
    let make = format!("CREATE ROLE {role} LOGIN;\n{grants}");
    owner.execute(sqlx::raw_sql(AssertSqlSafe(make))).await.unwrap();

    let address = database.options().unwrap();
    let url = format!(
        "postgres://{role}@{}:{}/{}",
        address.get_host(),
        address.get_port(),
        address.get_database().unwrap()
    );
    assert_eq!(
        migrate::migrate(&url, Mode::Attached).await.unwrap(),
        0,
        "nothing is missing, so no rights are needed"
    );
    let admin = Store::open(database.url(), Mode::Attached, 2).await.unwrap();
    let store = Store::open(&url, Mode::Attached, 4).await.unwrap();
    let leader = lead::acquire(&store, "cluster", "default", HOLDER)
        .await
        .unwrap()
        .unwrap();
    let (company, agent) = (Uuid::new_v4(), Uuid::new_v4());
    let mut world = World {
        store: admin,
        leader,
        company,
        agent,
        namespace_uid: company,
        database,
    };
    world.make_company(company, agent).await;
    let run = world.run("running").await;
    world.store = store;

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
        "companies are the origin's to make"
    );
    world.sync_environment(&world.local()).await;
    let environment = world.environment().await;
    let claim = environment_operator::store::environment_leases::Grant {
        run_id: Some(run),
        ..world.claim(environment)
    };
    granted(world.grant(&claim).await);
    ended(world.end(claim.id, LeaseState::Released, Reason::RunFinished).await);
    environment_operator::store::environments::archive_deleted(&world.store, &world.leader, &[environment])
        .await
        .unwrap();
    assert!(lead::renew(&world.store, &world.leader, HOLDER).await.unwrap());

    let after: serde_json::Value = sqlx::query_scalar(tables).fetch_one(&mut owner).await.unwrap();
    assert_eq!(before, after);
    let triggers: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(triggers, 0, "the trigger is opt-in here");
    world.pool().close().await;
    let drop_role = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    owner.execute(sqlx::raw_sql(AssertSqlSafe(drop_role))).await.unwrap();
}
