//! The database is not the one that was meant, does not show its rows, or has changed beneath the operator: nothing ends, readiness
//! says what to mend, and it goes on by itself.

use environment_operator::api::{EnvironmentPhase, LeasePhase, Reason};
use harness::operator::Operator;
use harness::postgres::Postgres;
use harness::wait::eventually;
use sqlx::AssertSqlSafe;

use crate::fixtures;
use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease};

/// Waits until readiness names the database with these words.
async fn names(operator: &Operator, words: &str) {
    eventually(&format!("readiness says {words}"), LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let line = answer.body.lines().find(|line| line.starts_with("database: "));
        let named = answer.status == 503 && line.is_some_and(|line| line.contains(words));
        if named { Ok(()) } else { Err(answer.body) }
    })
    .await;
    let fits = operator.metric("environment_operator_database_fits", "").await;
    assert_eq!(fits.unwrap(), 0.0);
    assert!(operator.log().contains(words));
}

async fn phase(world: &TestEnvironment<'_>, name: &str) -> LeasePhase {
    world.leases().get(name).await.unwrap().status.unwrap().phase.unwrap()
}

#[tokio::test]
async fn an_operator_on_a_database_that_never_knew_the_cluster_ends_nothing_until_a_person_accepts_it() {
    let world = TestEnvironment::new("wrong-database").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let held = world.granted(lease("held").environment("box")).await;
    world.granted(lease("also-held").environment("box")).await;
    operator.stop(GRACE).await.unwrap();

    // A slip of the pen in the URL; two replicas, and a restart.
    let other = Postgres::shared().await.database().await.unwrap();
    let wrong = || world.operator().database_url(other.url()).start().unwrap();
    let (mut first, mut second) = (wrong(), wrong());
    for replica in [&first, &second] {
        names(replica, "has never known cluster").await;
        names(replica, "where 2 leases are held").await;
    }
    first.kill().unwrap();
    first.start_again().unwrap();
    names(&first, "has never known cluster").await;
    assert_eq!(phase(&world, "held").await, LeasePhase::Active);
    first.stop(GRACE).await.unwrap();
    second.stop(GRACE).await.unwrap();

    // With the right one everything goes on.
    operator.start_again().unwrap();
    operator.wait_ready().await;
    world.release("also-held").await;
    world
        .lease_because("also-held", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    assert_eq!(world.lease_row(id_of(&held)).await.unwrap()["status"], "active");
    operator.stop(GRACE).await.unwrap();

    // It is meant: the database was lost, say.
    let anew = wrong();
    names(&anew, "where 1 leases are held").await;
    let url = format!("--database-url={}", other.url());
    let accepted = world.command(&["accept-database", &url]).await;
    assert!(accepted.status.success(), "{accepted:?}");
    anew.wait_ready().await;
    world
        .lease_because("held", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
    world.granted(lease("next").environment("box")).await;
}

#[tokio::test]
async fn rows_that_are_hidden_and_tables_that_change_beneath_the_operator_end_nothing_and_are_named() {
    let world = TestEnvironment::attached("unfit-database").await;
    assert!(world.command(&["migrate"]).await.status.success(), "by the owner");
    let role = format!("role_{}", world.database.name());
    let make = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret';\n{}",
        fixtures::rights(&role)
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&world.pool).await.unwrap();
    let server = world.database.options().unwrap();
    let address = format!("{}:{}/{}", server.get_host(), server.get_port(), world.database.name());
    let mut operator = world
        .operator()
        .database_url(&format!("postgres://{role}:secret@{address}"))
        .arg("--sweep-interval=1s")
        .start()
        .unwrap();
    operator.wait_ready().await;
    world.ssh_environment("box").await;
    world.granted(lease("held").environment("box")).await;

    for (number, (change, back, sentence)) in [
        (
            "ALTER TABLE environment_leases ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE environment_leases DISABLE ROW LEVEL SECURITY",
            "row-level security hides rows from the operator's role (public.environment_leases)",
        ),
        (
            "ALTER TABLE environments RENAME COLUMN company_id TO former",
            "ALTER TABLE environments RENAME COLUMN former TO company_id",
            "the database is instance-scoped",
        ),
        (
            "ALTER TABLE environments RENAME COLUMN config TO former",
            "ALTER TABLE environments RENAME COLUMN former TO config",
            "the database lacks public.environments.config",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let run = world.insert_run().await;
        let ends = format!("ends-{number}");
        world.granted(lease(&ends).environment("box").heartbeat_run(run)).await;
        let held = i32::try_from(2 + number).unwrap(); // and those that waited in the rounds before
        let shown = async || {
            world
                .environments()
                .get("box")
                .await
                .unwrap()
                .status
                .unwrap_or_default()
        };
        eventually("the environment shows its leases", LIMIT, async || {
            let shown = shown().await.active_leases;
            if shown == Some(held) {
                Ok(())
            } else {
                Err(format!("{shown:?}"))
            }
        })
        .await;
        sqlx::query(change).execute(&world.pool).await.unwrap();
        world.set_run_status(&[run], "failed").await;
        let waits = format!("waits-{number}");
        world.claim(lease(&waits).environment("box")).await;
        names(&operator, sentence).await;
        let said = world
            .lease_because(&waits, LeasePhase::Pending, Reason::StoreUnavailable)
            .await;
        let said = said.status.unwrap().message.unwrap_or_default();
        let one = format!("the database can't be used as it is, and nothing is granted until it is mended: {sentence}");
        assert!(said.starts_with(&one), "{said}");
        let events = world.events(&waits, Reason::StoreUnavailable).await;
        for event in &events {
            let note = event.note.as_deref().unwrap_or_default();
            assert!(note.starts_with(&one), "nothing else was ever said: {note}");
        }
        let shown = shown().await;
        assert_eq!(
            (shown.phase, shown.active_leases),
            (Some(EnvironmentPhase::Active), Some(held))
        );
        assert_eq!(phase(&world, "held").await, LeasePhase::Active);
        assert_eq!(phase(&world, &ends).await, LeasePhase::Active);
        sqlx::query(back).execute(&world.pool).await.unwrap();
        operator.wait_ready().await;
        world.lease_in(&waits, LeasePhase::Active).await;
        world.lease_because(&ends, LeasePhase::Failed, Reason::RunFailed).await;
    }
    assert_eq!(phase(&world, "held").await, LeasePhase::Active);
    says_each_reason(&world, &operator).await;
    operator.stop(GRACE).await.unwrap();
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&world.pool).await.unwrap();
}

/// A claim says why the database is refused, and anew once that is for another reason; the log says each once.
async fn says_each_reason(world: &TestEnvironment<'_>, operator: &Operator) {
    let execute = async |statement: &'static str| {
        sqlx::raw_sql(statement).execute(&world.pool).await.unwrap();
    };
    let says = async |sentence: &str| {
        eventually(&format!("the claim says {sentence}"), LIMIT, async || {
            let status = world.leases().get("told").await.unwrap().status.unwrap_or_default();
            let message = status.message.unwrap_or_default();
            if message.contains(sentence) {
                Ok(())
            } else {
                Err(message)
            }
        })
        .await;
    };
    let (lacking, hidden) = (
        "the database lacks public.agents.company_id, which",
        "row-level security hides rows",
    );
    execute("ALTER TABLE agents RENAME COLUMN company_id TO former").await;
    world.claim(lease("told").environment("box")).await;
    says(lacking).await;
    execute("ALTER TABLE agents RENAME COLUMN former TO company_id; ALTER TABLE agents ENABLE ROW LEVEL SECURITY")
        .await;
    says(hidden).await;
    execute("ALTER TABLE agents DISABLE ROW LEVEL SECURITY").await;
    operator.wait_ready().await;
    world.lease_in("told", LeasePhase::Active).await;
    let log = operator.log();
    let refused = log.lines().filter(|line| line.contains("the database is refused"));
    for sentence in [lacking, "public.agents): disable"] {
        assert_eq!(
            refused.clone().filter(|line| line.contains(sentence)).count(),
            1,
            "{sentence}"
        );
    }
}
