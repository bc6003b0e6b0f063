//! Locks in the database that stop an operator at an exact place, and the passing of a dead leader's term.

use harness::wait::eventually;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{LIMIT, TestEnvironment};

/// A table that nobody can write to while this is held; it can be read all the same.
pub struct Obstruction {
    connection: PgConnection,
    table: &'static str,
}

impl Obstruction {
    /// Waits until an operator's transaction waits for the table.
    pub async fn wait_for_operator(&mut self) {
        let (connection, table) = (&mut self.connection, self.table);
        eventually("the operator waits for the table", LIMIT, async || {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_locks
                 WHERE NOT granted AND relation = $1::regclass AND database = (SELECT oid FROM pg_database
                   WHERE datname = current_database())",
            )
            .bind(table)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| error.to_string())?;
            if waiting > 0 {
                Ok(())
            } else {
                Err("nobody waits".to_owned())
            }
        })
        .await;
    }

    /// Cuts the sessions of a dead operator, so that what they wait to do is never done, and makes way.
    pub async fn discard_operator(mut self) {
        self.cut_operator().await;
        wait_for_no_operator(&mut self.connection).await;
        self.clear().await;
    }

    /// Cuts the sessions of a living operator, which will try again, and makes way.
    pub async fn interrupt_operator(mut self) {
        self.cut_operator().await;
        self.clear().await;
    }

    /// Cuts an operator's sessions; the table stays locked.
    pub async fn cut_operator(&mut self) {
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'environment-operator'",
        )
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    /// Makes way: what waits goes on.
    pub async fn clear(self) {
        // It was a transaction of its own; it ends with its session.
        self.connection.close().await.unwrap();
    }
}

/// Waits until no operator is connected: whatever one had begun is done or undone.
async fn wait_for_no_operator(connection: &mut PgConnection) {
    eventually("no operator is connected to the database", LIMIT, async || {
        // Within a transaction the first look would be the last one.
        sqlx::query("SELECT pg_stat_clear_snapshot()")
            .execute(&mut *connection)
            .await
            .map_err(|error| error.to_string())?;
        let connected: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'environment-operator'",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| error.to_string())?;
        if connected == 0 {
            Ok(())
        } else {
            Err(format!("{connected} connections"))
        }
    })
    .await;
}

impl TestEnvironment<'_> {
    /// Stops every write to a table.
    pub async fn obstruct(&self, table: &'static str) -> Obstruction {
        let mut connection = self.database.connect().await.unwrap();
        for statement in ["BEGIN".to_owned(), format!("LOCK TABLE {table} IN SHARE MODE")] {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Obstruction { connection, table }
    }

    /// Lets the term of a leader pass that is dead: what its followers would wait fifteen seconds for.
    pub async fn pass_term(&self) {
        sqlx::query("UPDATE environment_operator.lead SET expires_at = clock_timestamp()")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// The term that runs.
    pub async fn epoch(&self) -> i64 {
        sqlx::query_scalar("SELECT epoch FROM environment_operator.lead")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}
