//! Attached to a database whose tables a Paperclip server has made, and goes on using.

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::fixtures;
use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease};

/// The triggers that anybody has made on the Paperclip server's tables.
async fn triggers(world: &TestEnvironment<'_>) -> Vec<String> {
    let select = "SELECT t.tgname::text FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
                  WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace ORDER BY t.tgname";
    sqlx::query_scalar(select).fetch_all(&world.pool).await.unwrap()
}

#[tokio::test]
async fn runs_that_end_are_noticed_by_asking_for_them_alone() {
    let world = TestEnvironment::attached("attached-poll").await;
    let _operator = world.start_with(&["--notice-by=runs"]).await;
    world.notices_runs().await;
    assert_eq!(triggers(&world).await, Vec::<String>::new());
    // A claim that waits is asked for too: its run is over before there is an environment to grant.
    let run = world.insert_run().await;
    world
        .claim(lease("late").environment("absent").heartbeat_run(run))
        .await;
    world
        .lease_because("late", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    world.set_run_status(&[run], "succeeded").await;
    world
        .lease_because("late", LeasePhase::Failed, Reason::RunAlreadyFinished)
        .await;
    world.settles().await;
}

#[tokio::test]
async fn a_trigger_that_is_asked_for_tells_of_runs_and_goes_with_the_operator_s_schema() {
    let world = TestEnvironment::attached("attached-trigger").await;
    let before = world.database.schema_dump("public").await.unwrap();
    let mut operator = world.start_with(&["--notice-by=runs", "--run-trigger"]).await;
    world.notices_runs().await;
    let made = ["environment_operator_run_deleted", "environment_operator_run_ended"];
    assert_eq!(triggers(&world).await, made);
    operator.stop(GRACE).await.unwrap();
    operator.start_again().unwrap();
    operator.wait_ready().await; // they are there already
    operator.stop(GRACE).await.unwrap();

    let printed = world.command(&["uninstall-database"]).await;
    assert!(printed.status.success());
    let sql = String::from_utf8(printed.stdout).unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.pool).await.unwrap();
    assert_eq!(world.database.schema_dump("public").await.unwrap(), before);
    let own = "SELECT count(*) FROM pg_namespace WHERE nspname = 'environment_operator'";
    let own: i64 = sqlx::query_scalar(own).fetch_one(&world.pool).await.unwrap();
    assert_eq!(own, 0);
    assert!(world.lease_rows(world.company()).await.len() == 2, "history stays");
}

#[tokio::test]
async fn an_attached_operator_alters_none_of_the_origin_s_tables() {
    let world = TestEnvironment::attached("attached").await;
    let before = world.database.schema_dump("public").await.unwrap();
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let made = world
        .granted(lease("works").environment("box").heartbeat_run(run))
        .await;
    let row = world.lease_row(id_of(&made)).await.unwrap();
    assert_eq!(
        (&row["status"], &row["heartbeat_run_id"]),
        (&json!("active"), &json!(run))
    );
    world.release("works").await;
    world
        .lease_because("works", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.settles().await;
    operator.stop(GRACE).await.unwrap();
    assert_eq!(world.database.schema_dump("public").await.unwrap(), before);
}

/// Every value that stands in a column of a closed set is in the set: the Paperclip server's readers throw on any other.
async fn origin_can_read(world: &TestEnvironment<'_>) {
    let leases = ["active", "released", "expired", "failed", "retained"];
    let policies = [
        "ephemeral",
        "reuse_by_environment",
        "reuse_by_execution_workspace",
        "retain_on_failure",
    ];
    for (table, column, set) in [
        ("environments", "driver", &["local", "ssh", "sandbox", "plugin"][..]),
        ("environments", "status", &["active", "archived"]),
        ("environment_leases", "status", &leases),
        ("environment_leases", "lease_policy", &policies),
        (
            "environment_leases",
            "cleanup_status",
            &["pending", "success", "failed"],
        ),
        (
            "activity_log",
            "action",
            &["environment.lease_acquired", "environment.lease_released"],
        ),
        ("activity_log", "actor_type", &["agent", "system"]),
    ] {
        let select = format!("SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL");
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(select))
            .fetch_all(&world.pool)
            .await
            .unwrap();
        assert!(
            found.iter().all(|value| set.contains(&value.as_str())),
            "{table}.{column}: {found:?}"
        );
    }
}

#[tokio::test]
async fn with_the_documented_rights_every_ending_is_written_and_the_origin_can_read_all_of_it() {
    let world = TestEnvironment::attached("attached-rights").await;
    assert!(world.command(&["migrate"]).await.status.success(), "by the owner");
    let role = format!("role_{}", world.database.name());
    let make = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret';\n{}",
        fixtures::rights(&role)
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&world.pool).await.unwrap();
    let before = world.database.schema_dump("public").await.unwrap();
    let server = world.database.options().unwrap();
    let address = format!("{}:{}/{}", server.get_host(), server.get_port(), world.database.name());
    let theirs = world.insert_environment("theirs", "ssh").await;
    let over = world.insert_past_run("failed", "1 day").await;
    let unmanaged = world
        .insert_unmanaged_lease(theirs, json!({ "heartbeat_run_id": over }))
        .await;
    let mut operator = world
        .operator()
        .database_url(&format!("postgres://{role}:secret@{address}"))
        .arg("--unmanaged-leases=end")
        .arg("--sweep-interval=1s")
        .start()
        .unwrap();
    operator.wait_ready().await;

    world.ssh_environment("box").await;
    for (name, status, phase, reason) in [
        ("finished", "succeeded", LeasePhase::Released, Reason::RunFinished),
        ("failed", "failed", LeasePhase::Failed, Reason::RunFailed),
        ("kept", "timed_out", LeasePhase::Retained, Reason::RunFailed),
        ("cancelled", "cancelled", LeasePhase::Expired, Reason::RunCancelled),
    ] {
        let run = world.insert_run().await;
        let policy = if name == "kept" { "RetainOnFailure" } else { "Ephemeral" };
        let claim = lease(name).environment("box").heartbeat_run(run).set("policy", policy);
        world.granted(claim).await;
        world.set_run_status(&[run], status).await;
        world.lease_because(name, phase, reason).await;
    }
    let gone = world.insert_run().await;
    world.granted(lease("gone").heartbeat_run(gone)).await;
    world.delete_run(gone).await;
    world.lease_because("gone", LeasePhase::Expired, Reason::RunGone).await;
    world.granted(lease("short").set("ttlSeconds", 1)).await;
    world
        .lease_because("short", LeasePhase::Expired, Reason::TtlExpired)
        .await;
    world.granted(lease("released")).await;
    world.release("released").await;
    world
        .lease_because("released", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    let deleted = id_of(&world.granted(lease("deleted")).await);
    world.delete_lease("deleted").await;
    world.lease_row_is(deleted, "released").await;
    world.granted(lease("orphaned").environment("box")).await;
    world.delete_environment("box").await;
    world
        .lease_because("orphaned", LeasePhase::Failed, Reason::EnvironmentDeleted)
        .await;
    world.lease_row_is(unmanaged, "failed").await;

    world.settles().await;
    let by_another = id_of(&world.granted(lease("by-another")).await);
    world.set_lease_status(by_another, "released").await;
    world
        .lease_because("by-another", LeasePhase::Released, Reason::EndedInDatabase)
        .await;
    origin_can_read(&world).await;
    operator.stop(GRACE).await.unwrap();
    assert_eq!(world.database.schema_dump("public").await.unwrap(), before);
    assert!(!operator.log().contains("SQLSTATE 42501"), "a right is missing");
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&world.pool).await.unwrap();
}

#[tokio::test]
async fn an_instance_scoped_database_is_refused_with_a_sentence() {
    let world = TestEnvironment::attached("attached-instance").await;
    let newer = "ALTER TABLE environments DROP COLUMN company_id, ADD COLUMN env_vars jsonb";
    sqlx::query(newer).execute(&world.pool).await.unwrap();
    let mut operator = world.operator().start().unwrap();
    let sentence = "database: the database is instance-scoped (environments.company_id is gone)";
    eventually("readiness names it", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let named = answer.status == 503 && answer.body.contains(sentence);
        if named { Ok(()) } else { Err(answer.body) }
    })
    .await;
    assert!(operator.is_running(), "it waits for a database that fits");
    let own = "SELECT count(*) FROM pg_namespace WHERE nspname = 'environment_operator'";
    let own: i64 = sqlx::query_scalar(own).fetch_one(&world.pool).await.unwrap();
    assert_eq!(own, 0, "nothing was made in it");
}

#[tokio::test]
async fn a_dry_run_of_the_sweep_prints_by_company_and_reason_what_it_would_do_and_changes_nothing() {
    let world = TestEnvironment::attached("attached-dry").await;
    let mut operator = world.start_with(&["--notice-by=watches"]).await;
    let runs = [world.insert_run().await, world.insert_run().await];
    world.granted(lease("over").heartbeat_run(runs[0])).await;
    world.granted(lease("gone").heartbeat_run(runs[1])).await;
    let held = id_of(&world.granted(lease("held")).await);
    let row = world.lease_row(held).await.unwrap();
    let local = row["environment_id"].as_str().unwrap().parse().unwrap();
    operator.stop(GRACE).await.unwrap();
    world.set_run_status(&runs[..1], "failed").await;
    world.delete_run(runs[1]).await;
    let cloud = world.insert_environment("cloud", "sandbox").await;
    let unmanaged = world.insert_unmanaged_lease(local, json!({})).await;
    world.insert_unmanaged_lease(local, json!({})).await;
    world.insert_unmanaged_lease(cloud, json!({})).await;

    let before = world.lease_rows(world.company()).await;
    let printed = world
        .command(&["sweep", "--dry-run", "--unmanaged-leases=end", "--verbose"])
        .await;
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let company = world.company().to_string();
    assert_eq!(words[0], ["COMPANY", "OWNER", "ACTION", "STATUS", "REASON", "LEASES"]);
    for (owner, action, status, reason, leases) in [
        ("unmanaged", "end", "expired", "RunGone", "2"),
        ("unmanaged", "report", "expired", "RunGone", "1"),
        ("operator", "end", "expired", "RunGone", "1"),
        ("operator", "end", "failed", "RunFailed", "1"),
    ] {
        let line = vec![company.as_str(), owner, action, status, reason, leases];
        assert!(words[1..5].contains(&line), "{line:?} is missing in\n{text}");
    }
    assert_eq!(words.len(), 1 + 4 + 5, "{text}");
    assert!(text.contains(&format!("{unmanaged}  end  RunGone: ")), "{text}");
    assert_eq!(world.lease_rows(world.company()).await, before);

    let without = world.command(&["sweep"]).await;
    assert!(!without.status.success(), "it is a dry run or none");

    let operator = world
        .start_with(&["--sweep-interval=1s", "--unmanaged-leases=end"])
        .await;
    world.lease_because("over", LeasePhase::Failed, Reason::RunFailed).await;
    world.lease_because("gone", LeasePhase::Expired, Reason::RunGone).await;
    world.lease_row_is(unmanaged, "expired").await;
    eventually("nothing is left to do", LIMIT, async || {
        let printed = world.command(&["sweep", "--dry-run", "--unmanaged-leases=end"]).await;
        let text = String::from_utf8(printed.stdout).unwrap();
        if text.lines().count() == 2 && text.contains("report") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    drop(operator);
}
