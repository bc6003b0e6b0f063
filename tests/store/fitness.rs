//! A database that does not fit is named and not led from, and what it does not show is not taken for absent.

use environment_operator::api::Driver;
use environment_operator::store::environment_leases::Grant;
use environment_operator::store::environment_object::{EnvironmentQuery, EnvironmentSnapshot};
use environment_operator::store::lease_object::LeaseQuery;
use environment_operator::store::{Mode, Store, StoreError, cluster, lead};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::rights::rights;
use crate::support::*;

#[track_caller]
fn unfit<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Unfit(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

/// What a statement says that has failed for what only a look at the database tells.
#[track_caller]
fn suspect<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Suspect(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

async fn execute(world: &TestEnvironment, statement: &str) {
    let mut owner = world.connect().await;
    owner
        .execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned())))
        .await
        .unwrap();
}

/// A world in mode attached, with a held lease, whose store speaks as a role with the documented rights.
async fn attached() -> (TestEnvironment, String, Grant) {
    let mut world = TestEnvironment::attached().await;
    let role = format!("operator_{}", Uuid::new_v4().simple());
    let make = format!("CREATE ROLE {role} LOGIN;\n{}", rights(&role));
    execute(&world, &make).await;
    let options = world.database.options().unwrap();
    let (host, port) = (options.get_host(), options.get_port());
    let url = format!("postgres://{role}@{host}:{port}/{}", world.database.name());
    world.store = Store::open(&address(&url), Mode::Attached, 4).await.unwrap();
    let environment = world.environment().await;
    let claim = world.claim(environment);
    granted(world.grant(&claim).await);
    (world, role, claim)
}

async fn drop_role(world: &TestEnvironment, role: &str) {
    world.store.close().await;
    let text = format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}");
    execute(world, &text).await;
}

/// As the mirror asks.
async fn look(world: &TestEnvironment, id: Uuid) -> Result<Option<Uuid>, StoreError> {
    let views = LeaseQuery::carry_out(&world.store, &world.leader, &[world.look_at(id)]).await?;
    Ok(views[0].row.as_ref().map(|row| row.id))
}

async fn environment_view(world: &TestEnvironment, id: Uuid) -> Result<EnvironmentSnapshot, StoreError> {
    let look = EnvironmentQuery {
        id,
        namespace_uid: None,
        company_id: Some(world.company),
        driver: Driver::Sandbox,
    };
    Ok(EnvironmentQuery::carry_out(&world.store, &world.leader, &[look])
        .await?
        .remove(0))
}

/// Whether its row is there.
async fn look_at_environment(world: &TestEnvironment, id: Uuid) -> Result<bool, StoreError> {
    Ok(environment_view(world, id).await?.row.is_some())
}

#[tokio::test]
async fn a_row_without_a_column_is_not_taken_for_one_that_is_not_there() {
    let (world, role, claim) = attached().await;
    for column in ["config", "driver", "status", "name"] {
        execute(
            &world,
            &format!("ALTER TABLE environments RENAME COLUMN {column} TO former"),
        )
        .await;
        suspect(look(&world, claim.id).await);
        suspect(look_at_environment(&world, claim.environment_id).await);
        let sentence = unfit(world.store.examine().await);
        let begin = format!("the database lacks public.environments.{column}, ");
        assert!(sentence.starts_with(&begin), "{sentence}");
        execute(
            &world,
            &format!("ALTER TABLE environments RENAME COLUMN former TO {column}"),
        )
        .await;
        world.store.examine().await.unwrap();
        assert!(look_at_environment(&world, claim.environment_id).await.unwrap());
    }
    drop_role(&world, &role).await;
}

#[tokio::test]
async fn an_environment_s_row_that_cannot_be_read_is_named_and_is_there_all_the_same() {
    let world = TestEnvironment::attached().await;
    let environment = world.environment().await;
    execute(&world, "UPDATE environments SET status = 'of_the_future'").await;
    let view = environment_view(&world, environment).await.unwrap();
    assert_eq!(view.row, None);
    assert_eq!(
        view.unreadable.unwrap(),
        format!(
            "row {environment} of public.environments, column status, cannot be read: \"of_the_future\" is no environment status"
        )
    );
}

#[tokio::test]
async fn a_row_that_a_policy_hides_is_never_taken_for_one_that_is_not_there() {
    let (world, role, claim) = attached().await;
    let forced = format!(
        "ALTER TABLE environment_leases OWNER TO {role}; ALTER TABLE environment_leases FORCE ROW LEVEL SECURITY"
    );
    for (on, off, table) in [
        (
            "ALTER TABLE environment_leases ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE environment_leases DISABLE ROW LEVEL SECURITY",
            "public.environment_leases",
        ),
        (
            "ALTER TABLE environment_operator.lease_object ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE environment_operator.lease_object DISABLE ROW LEVEL SECURITY",
            "environment_operator.lease_object",
        ),
        (
            "ALTER TABLE environment_leases ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE environment_leases NO FORCE ROW LEVEL SECURITY",
            "public.environment_leases",
        ),
    ] {
        if off.contains("NO FORCE") {
            for statement in forced.split(';') {
                execute(&world, statement).await;
            }
        }
        execute(&world, on).await;
        let sentence = suspect(look(&world, claim.id).await);
        assert!(sentence.starts_with("row-level security hides rows"), "{sentence}");
        let sentence = unfit(world.store.examine().await);
        assert_eq!(
            sentence,
            format!(
                "row-level security hides rows from the operator's role ({table}): disable it on these tables, or give the \
                 role BYPASSRLS"
            )
        );
        execute(&world, off).await;
        world.store.examine().await.unwrap();
        assert_eq!(look(&world, claim.id).await.unwrap(), Some(claim.id));
    }
    drop_role(&world, &role).await;
}

#[tokio::test]
async fn tables_that_change_beneath_a_running_operator_are_named_and_it_goes_on_once_they_fit() {
    let (world, role, claim) = attached().await;
    // Every connection has its statements prepared for the tables as they are.
    futures::future::join_all((0..8).map(|_| look(&world, claim.id))).await;
    for (change, back, sentence) in [
        (
            "ALTER TABLE environments RENAME COLUMN company_id TO former",
            "ALTER TABLE environments RENAME COLUMN former TO company_id",
            "the database is instance-scoped",
        ),
        (
            "ALTER TABLE heartbeat_runs RENAME COLUMN finished_at TO ended_at",
            "ALTER TABLE heartbeat_runs RENAME COLUMN ended_at TO finished_at",
            "the database lacks public.heartbeat_runs.finished_at",
        ),
        (
            "ALTER TABLE agents RENAME TO workers",
            "ALTER TABLE workers RENAME TO agents",
            "the database lacks public.agents.company_id, public.agents.default_environment_id, public.agents.id",
        ),
        (
            "ALTER SCHEMA environment_operator RENAME TO former",
            "ALTER SCHEMA former RENAME TO environment_operator",
            "the database has not been migrated to this version",
        ),
    ] {
        execute(&world, change).await;
        suspect(look(&world, claim.id).await);
        let said = unfit(world.store.examine().await);
        assert!(said.starts_with(sentence), "{said}");
        execute(&world, back).await;
        world.store.examine().await.unwrap();
        for seen in futures::future::join_all((0..8).map(|_| look(&world, claim.id))).await {
            assert_eq!(seen.unwrap(), Some(claim.id));
        }
    }
    // A change that fits is no hindrance, though every prepared statement is void.
    execute(
        &world,
        "ALTER TABLE heartbeat_runs ALTER COLUMN status TYPE varchar(40)",
    )
    .await;
    world.store.examine().await.unwrap();
    for seen in futures::future::join_all((0..8).map(|_| look(&world, claim.id))).await {
        assert_eq!(seen.unwrap(), Some(claim.id));
    }
    drop_role(&world, &role).await;
}

#[tokio::test]
async fn tables_that_an_origin_gets_later_are_asked_from_then_on() {
    let world = TestEnvironment::new().await;
    let mut claim = world.claim(world.environment().await);
    claim.issue_id = Some(Uuid::new_v4());
    granted(world.grant(&claim).await);
    let table = "CREATE TABLE issues (id uuid PRIMARY KEY, company_id uuid NOT NULL)";
    execute(&world, table).await;
    world.store.examine().await.unwrap();
    claim.id = Uuid::new_v4();
    refusal(world.grant(&claim).await);
}

#[tokio::test]
async fn a_view_in_the_place_of_a_table_is_refused() {
    let world = TestEnvironment::new().await;
    execute(&world, "ALTER TABLE environment_leases RENAME TO all_leases").await;
    execute(
        &world,
        "CREATE VIEW environment_leases AS SELECT * FROM all_leases WHERE false",
    )
    .await;
    let sentence = unfit(world.store.examine().await);
    assert!(
        sentence.starts_with("public.environment_leases is no table"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_cluster_whose_leases_are_held_is_not_led_from_a_database_that_never_knew_it() {
    let world = TestEnvironment::new().await;
    let id = world.store.id();
    let held = [Uuid::new_v4(), Uuid::new_v4()];
    for _ in 0..2 {
        let sentence = unfit(cluster::admit(&world.store, "new", &held).await);
        let begin = format!("this database ({id}) has never known cluster \"new\", where 2 leases are held: ");
        assert!(sentence.starts_with(&begin), "{sentence}");
        unfit(lead::acquire(&world.store, "new", "default", HOLDER).await);
        unfit(cluster::raise_incarnation(&world.store, "new").await);
        assert!(
            !cluster::is_known(&world.store, "new").await.unwrap(),
            "no try makes it known"
        );
    }
    assert!(cluster::accept(&world.store, "new").await.unwrap());
    assert!(!cluster::accept(&world.store, "new").await.unwrap());
    let leader = lead::acquire(&world.store, "new", "default", HOLDER).await.unwrap();
    assert_eq!(leader.unwrap().incarnation, 1);
    // What it knows stays known, whatever is held by then.
    cluster::admit(&world.store, "new", &held).await.unwrap();
}

#[tokio::test]
async fn a_database_that_holds_one_of_the_leases_knows_the_cluster_and_so_does_one_where_none_is_held() {
    let world = TestEnvironment::new().await;
    let held = world.held().await;
    cluster::admit(&world.store, "forgotten", &[Uuid::new_v4(), held.id])
        .await
        .unwrap();
    cluster::admit(&world.store, "fresh", &[]).await.unwrap();
    for name in ["forgotten", "fresh"] {
        assert!(cluster::is_known(&world.store, name).await.unwrap());
    }
}

#[tokio::test]
async fn a_restored_backup_is_the_same_database_and_another_one_is_not() {
    let (first, second) = (TestEnvironment::new().await, TestEnvironment::new().await);
    assert_ne!(first.store.id(), second.store.id());
    let again = Store::open(&address(first.database.url()), Mode::Standalone, 1)
        .await
        .unwrap();
    assert_eq!(again.id(), first.store.id());
    execute(&first, "DELETE FROM environment_operator.database").await;
    let sentence = unfit(first.store.examine().await);
    assert!(
        sentence.starts_with("the row of environment_operator.database is gone"),
        "{sentence}"
    );
}
