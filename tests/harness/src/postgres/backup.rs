//! Backups of a database, by the programs that an administrator would use.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Database, binaries};

impl Database {
    /// Writes everything that is in it to a file, as `pg_dump --format=custom` does.
    ///
    /// # Errors
    /// When `pg_dump` is not installed or fails; what it said is part of the message.
    pub async fn back_up(&self, file: &Path) -> Result<()> {
        run("pg_dump", |command| {
            command.arg("--format=custom").arg("--file").arg(file).arg(&self.url)
        })
        .await
    }

    /// Makes it what a backup holds, of this database or of another one: every connection is cut, it is dropped, made afresh and
    /// filled by `pg_restore`.
    ///
    /// # Errors
    /// When the server refuses, or `pg_restore` is not installed or fails; what it said is part of the message.
    pub async fn restore(&self, file: &Path) -> Result<()> {
        let mut connection = PgConnection::connect(&self.administration)
            .await
            .context("connect to drop a database")?;
        for statement in [
            format!("DROP DATABASE {} WITH (FORCE)", self.name),
            format!("CREATE DATABASE {}", self.name),
        ] {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .context("make the database afresh")?;
        }
        connection.close().await?;
        run("pg_restore", |command| {
            command
                .args(["--exit-on-error", "--single-transaction", "--dbname", &self.url])
                .arg(file)
        })
        .await
    }
}

async fn run(
    program: &str,
    arguments: impl FnOnce(&mut tokio::process::Command) -> &mut tokio::process::Command,
) -> Result<()> {
    let mut command = tokio::process::Command::new(binaries::find()?.join(program));
    let output = arguments(&mut command)
        .output()
        .await
        .with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
