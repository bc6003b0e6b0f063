//! The commands of the documentation that are the operator's own program, run as they stand on databases of their own.

use std::path::Path;

use harness::postgres::{Database, Postgres};
use sqlx::Executor;
use tokio::process::Command;

use crate::commands::commands;
use crate::operator::PROGRAM;
use crate::support::run;

/// Those on a database of the operator's own, in this order.
pub const STANDALONE: &[&str] = &[
    "environment-operator migrate",
    "environment-operator accept-database",
    "environment-operator new-incarnation",
    "environment-operator sweep --dry-run",
    "environment-operator uninstall-database",
    "environment-operator help <subcommand>",
];

/// Those on the database of a Paperclip server.
pub const ATTACHED: &[&str] = &[
    "environment-operator migrate --mode attached",
    "environment-operator migrate --mode attached --run-trigger",
];

const ORIGIN: &str = include_str!("../fixtures/origin.sql");

/// Runs them in a shell that finds the program, and returns what they print.
async fn runs(story: &[&str], database: &Database) -> String {
    let mut printed = String::new();
    for command in story {
        let mut shell = Command::new("/bin/bash");
        shell
            .env_clear()
            .env("PATH", Path::new(PROGRAM).parent().unwrap())
            .env("DATABASE_URL", database.url())
            .env("ENVIRONMENT_OPERATOR_CLUSTER_ID", "cluster");
        let outcome = run(shell.args(["-c", &command.replace("<subcommand>", "sweep")])).await;
        printed += &outcome.unwrap_or_else(|said| panic!("{command}: {said}"));
    }
    printed
}

#[tokio::test]
async fn every_command_of_the_program_in_the_documentation_does_what_it_says() {
    let server = Postgres::shared().await;
    let own = server.database().await.unwrap();
    let printed = runs(STANDALONE, &own).await;
    for word in ["COMPANY", "DROP SCHEMA", "--dry-run"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    let origins = server.database().await.unwrap();
    let mut owner = origins.connect().await.unwrap();
    owner.execute(sqlx::raw_sql(ORIGIN)).await.unwrap();
    runs(ATTACHED, &origins).await;
    let triggers: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'heartbeat_runs'::regclass AND NOT tgisinternal",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert!(triggers > 0, "--run-trigger has made its triggers");
    assert!(commands().contains("environment-operator migrate"));
}
