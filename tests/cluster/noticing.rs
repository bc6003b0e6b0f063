//! Each way of noticing an ending works alone: with the others off, and the sweep at an hour where it is not the one.

use environment_operator::api::{LeasePhase, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;

use crate::support::{Expected, LIMIT, TestEnvironment, lease};

/// What the fifth way looks at, once a second.
const SWEEP_ALONE: [&str; 2] = ["--notice-by=sweep", "--sweep-interval=1s"];

#[tokio::test]
async fn run_rows_are_noticed_by_listening_alone() {
    let world = TestEnvironment::new("notice-runs").await;
    let _operator = world.start_with(&["--notice-by=runs"]).await;
    world.notices_runs().await;
}

#[tokio::test]
async fn run_objects_are_noticed_by_their_watch_alone() {
    let world = TestEnvironment::new("notice-objects").await;
    let _operator = world.start_with(&["--notice-by=objects"]).await;
    for name in ["ends", "vanishes"] {
        world.job(name, json!({})).await;
        world.granted(lease(name).job(name)).await;
    }
    world.end_job("ends", "Failed").await;
    world.lease_because("ends", LeasePhase::Failed, Reason::RunFailed).await;
    world.delete_job("vanishes").await;
    world
        .lease_because("vanishes", LeasePhase::Expired, Reason::RunGone)
        .await;
}

#[tokio::test]
async fn expiry_is_noticed_by_the_deadline_queue_alone() {
    let world = TestEnvironment::new("notice-deadlines").await;
    let _operator = world.start_with(&["--notice-by=deadlines"]).await;
    world.granted(lease("short").set("ttlSeconds", 1)).await;
    world
        .lease_because("short", LeasePhase::Expired, Reason::TtlExpired)
        .await;
}

#[tokio::test]
async fn changes_of_leases_and_environments_are_noticed_by_their_watches_alone() {
    let world = TestEnvironment::new("notice-watches").await;
    let _operator = world.start_with(&["--notice-by=watches"]).await;
    world.ssh_environment("builder").await;
    world.granted(lease("orphaned").environment("builder")).await;
    let deleted = world.granted(lease("deleted")).await;
    world.granted(lease("released")).await;
    world.release("released").await;
    world
        .lease_because("released", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.delete_environment("builder").await;
    world
        .lease_because("orphaned", LeasePhase::Failed, Reason::EnvironmentDeleted)
        .await;
    world.delete_lease("deleted").await;
    let message = "the lease object was deleted";
    let expected = Expected {
        phase: LeasePhase::Released,
        reason: Reason::LeaseDeleted,
        message,
    };
    expected
        .of_row(&world, deleted.metadata.uid.unwrap().parse().unwrap())
        .await;
}

#[tokio::test]
async fn run_rows_deadlines_and_other_writers_are_noticed_by_the_sweep_alone() {
    let world = TestEnvironment::new("notice-sweep").await;
    let operator = world.start_with(&SWEEP_ALONE).await;
    let (ends, vanishes) = (world.insert_run().await, world.insert_run().await);
    world.granted(lease("ends").heartbeat_run(ends)).await;
    world.granted(lease("vanishes").heartbeat_run(vanishes)).await;
    world.granted(lease("short").set("ttlSeconds", 1)).await;
    let [released, deleted] = ["released-in-sql", "deleted-in-sql"].map(|name| world.granted(lease(name)));
    let (released, deleted) = (released.await, deleted.await);
    world.set_run_status(&[ends], "cancelled").await;
    world.delete_run(vanishes).await;
    world
        .set_lease_status(released.metadata.uid.unwrap().parse().unwrap(), "released")
        .await;
    world
        .delete_lease_row(deleted.metadata.uid.unwrap().parse().unwrap())
        .await;
    for (name, phase, reason) in [
        ("ends", LeasePhase::Expired, Reason::RunCancelled),
        ("vanishes", LeasePhase::Expired, Reason::RunGone),
        ("short", LeasePhase::Expired, Reason::TtlExpired),
        ("released-in-sql", LeasePhase::Released, Reason::EndedInDatabase),
        ("deleted-in-sql", LeasePhase::Expired, Reason::EndedInDatabase),
    ] {
        world.lease_because(name, phase, reason).await;
    }
    assert!(candidates(&operator).await >= 5.0);
}

#[tokio::test]
async fn a_source_that_is_off_ends_nothing_and_what_it_would_have_seen_counts_when_another_looks() {
    let world = TestEnvironment::new("notice-off").await;
    let _operator = world.start_with(&["--notice-by=deadlines"]).await;
    let run = world.insert_run().await;
    world
        .granted(lease("held").heartbeat_run(run).set("ttlSeconds", 3))
        .await;
    world.set_run_status(&[run], "failed").await;
    // Of two causes that are visible at once, the run's goes before the time's.
    let ended = world
        .lease_because("held", LeasePhase::Failed, Reason::RunFailed)
        .await
        .status
        .unwrap();
    assert!(
        ended.released_at.unwrap() >= ended.expires_at.unwrap(),
        "nobody looked before its time was over"
    );
}

#[tokio::test]
async fn the_sweep_ends_what_a_killed_listener_was_not_told() {
    let world = TestEnvironment::new("notice-deaf").await;
    let operator = world
        .start_with(&["--notice-by=runs,sweep", "--sweep-interval=1s"])
        .await;
    let run = world.insert_run().await;
    world.granted(lease("unheard").heartbeat_run(run)).await;
    let first = listener(&world).await.unwrap();
    sqlx::query("ALTER TABLE heartbeat_runs DISABLE TRIGGER USER")
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(first)
        .execute(&world.pool)
        .await
        .unwrap();
    eventually("another connection listens", LIMIT, async || {
        match listener(&world).await {
            Some(pid) if pid != first => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Whatever it looked at when it began to listen, it has looked at once it has granted another lease.
    world.granted(lease("marker")).await;
    world.set_run_status(&[run], "succeeded").await;
    world
        .lease_because("unheard", LeasePhase::Released, Reason::RunFinished)
        .await;
    assert!(candidates(&operator).await >= 1.0, "it was the sweep");
}

#[tokio::test]
async fn an_operator_that_was_cut_off_looks_at_what_it_was_not_told() {
    let world = TestEnvironment::new("notice-again").await;
    let role = Role::create(&world).await;
    let _operator = role.start(&world, &["--notice-by=runs"]).await;
    let run = world.insert_run().await;
    world.granted(lease("missed").heartbeat_run(run)).await;
    role.cut_off(&world).await;
    world.set_run_status(&[run], "succeeded").await;
    role.admit(&world, -1).await;
    world
        .lease_because("missed", LeasePhase::Released, Reason::RunFinished)
        .await;
}

/// The process that the operator's LISTEN runs in.
async fn listener(world: &TestEnvironment<'_>) -> Option<i32> {
    let select = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
    sqlx::query_scalar(select).fetch_optional(&world.pool).await.unwrap()
}

async fn candidates(operator: &Operator) -> f64 {
    operator
        .metric("environment_operator_sweep_candidates_total", "")
        .await
        .unwrap()
}

/// A database user of the operator's own, who can be shut out.
struct Role {
    name: String,
}

impl Role {
    async fn create(world: &TestEnvironment<'_>) -> Self {
        let role = Self {
            name: format!("role_{}", world.database.name()),
        };
        let database = world.database.name();
        role.execute(world, format!("CREATE ROLE {} LOGIN PASSWORD 'secret'", role.name))
            .await;
        role.execute(world, format!("ALTER DATABASE {database} OWNER TO {}", role.name))
            .await;
        role
    }

    async fn start(&self, world: &TestEnvironment<'_>, arguments: &[&str]) -> Operator {
        let server: PgConnectOptions = world.database.options().unwrap();
        let (host, port, database) = (server.get_host(), server.get_port(), world.database.name());
        let url = format!("postgres://{}:secret@{host}:{port}/{database}", self.name);
        let options = world.operator().database_url(&url);
        let operator = arguments
            .iter()
            .fold(options, |options, argument| options.arg(*argument))
            .start()
            .unwrap();
        operator.wait_ready().await;
        operator
    }

    /// How many connections it may make; -1: any number.
    async fn admit(&self, world: &TestEnvironment<'_>, connections: i32) {
        self.execute(
            world,
            format!("ALTER ROLE {} CONNECTION LIMIT {connections}", self.name),
        )
        .await;
    }

    /// Kills all its connections and lets it make no other.
    async fn cut_off(&self, world: &TestEnvironment<'_>) {
        self.admit(world, 0).await;
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1";
        eventually("the operator is cut off", LIMIT, async || {
            match sqlx::query_scalar::<_, i64>(kill)
                .bind(&self.name)
                .fetch_one(&world.pool)
                .await
            {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn execute(&self, world: &TestEnvironment<'_>, statement: String) {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&world.pool)
            .await
            .unwrap();
    }
}
