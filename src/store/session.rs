//! One session with the database: the one way to open it, and statements that all have an end.
//!
//! The driver opens its own sockets, so neither keepalive nor `TCP_USER_TIMEOUT` can be set on them (see
//! docs/decisions/0020-every-wait-on-the-database-ends.md). What they are for is done here: each statement has a limit on this
//! side, above the server's own, and a session that has not answered in time is closed, never used again.

use std::time::Duration;

use deadpool::managed::Object;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::time::timeout;

use super::connection::Manager;

mod watch;

pub(super) use watch::lost;

/// Longest wait for the answer to one statement: above the server's `statement_timeout`, below a term of leadership.
const STATEMENT_LIMIT: Duration = Duration::from_secs(12);

/// Longest wait for a session to be closed in good order.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// One session. Statements are run on `&mut Session` as on the driver's own connection; each of them has an end.
#[derive(Debug)]
pub struct Session {
    /// There until the session is dropped.
    held: Option<Held>,
    limit: Duration,
    /// A statement has not been answered, or the server is not to be written to: the connection is of no more use.
    is_spoiled: bool,
}

#[derive(Debug)]
enum Held {
    Pooled(Object<Manager>),
    Own(Box<PgConnection>),
}

impl Held {
    fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Pooled(object) => object,
            Self::Own(connection) => connection,
        }
    }
}

impl Session {
    fn new(held: Held) -> Self {
        Self {
            held: Some(held),
            limit: STATEMENT_LIMIT,
            is_spoiled: false,
        }
    }

    pub(super) fn pooled(object: Object<Manager>) -> Self {
        Self::new(Held::Pooled(object))
    }

    /// A session of the caller's own, opened by [`super::connection::open`] or, in tests, by hand.
    pub fn own(connection: PgConnection) -> Self {
        Self::new(Held::Own(Box::new(connection)))
    }

    /// Runs one operation of the driver within the limit. While it runs the session counts as spoiled: if the caller goes
    /// away meanwhile, nobody takes an answer for that to another question.
    async fn bounded<'s, T>(
        &'s mut self,
        operation: impl FnOnce(&'s mut PgConnection) -> BoxFuture<'s, Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let Self {
            held,
            limit,
            is_spoiled,
        } = self;
        let connection = held.as_mut().ok_or_else(unanswered)?.connection();
        if std::mem::replace(is_spoiled, true) {
            return Err(unanswered());
        }
        let outcome = timeout(*limit, operation(connection))
            .await
            .unwrap_or_else(|_| Err(unanswered()));
        *is_spoiled = match &outcome {
            Ok(_) => false,
            Err(sqlx::Error::Database(error)) => ends_session(error.code().as_deref().unwrap_or_default()),
            Err(sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_)) => false,
            Err(_) => true,
        };
        outcome
    }

    /// Runs a statement of no parameters and no answer.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.bounded(|connection| async move { connection.execute(sqlx::raw_sql(statement)).await.map(drop) }.boxed())
            .await
    }

    /// Has the connection closed when the session is dropped.
    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
    }

    /// The driver's connection, for an operation that has no limit of time by itself, as a migration has none: to be ended
    /// when [`lost`] does.
    pub(super) fn unbounded(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        Ok(self.held.as_mut().ok_or_else(unanswered)?.connection())
    }

    /// Ends the session in good order, and with it what it has locked.
    pub(crate) async fn close(mut self) {
        if let Some(Held::Own(connection)) = self.held.take() {
            // The server notices a socket that is simply closed as well, only later.
            let _polite = timeout(CLOSE_LIMIT, connection.close()).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_spoiled
            && let Some(Held::Pooled(object)) = self.held.take()
        {
            drop(Object::take(object)); // closes the socket, and leaves its place to another
        }
    }
}

/// Whether a session is of no more use after an error of this SQLSTATE: the server has ended it, or may not be written to
/// any more, as after a fail-over.
fn ends_session(code: &str) -> bool {
    matches!(
        code,
        "25006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05"
    ) || code.starts_with("08")
}

fn unanswered() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "it did not answer in time, and the connection was given up",
    ))
}

type Steps = Vec<Either<PgQueryResult, PgRow>>;

/// Answers are gathered before they are handed on: then the limit is one of the server's time alone.
pub(super) fn steps<'e>(
    gathered: impl Future<Output = Result<Steps, sqlx::Error>> + Send + 'e,
) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>> {
    stream::once(gathered)
        .map_ok(|steps| stream::iter(steps.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        steps(self.bounded(move |connection| connection.fetch_many(query).try_collect().boxed()))
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.bounded(move |connection| connection.fetch_optional(query)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.bounded(move |connection| connection.prepare_with(sql, parameters))
            .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.bounded(move |connection| connection.describe(sql)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::ends_session;

    #[test]
    fn a_session_that_the_server_has_ended_or_that_can_only_be_read_is_not_used_again() {
        for code in ["25006", "57P01", "57P05", "25P03", "08006"] {
            assert!(ends_session(code), "{code}");
        }
        for code in ["40P01", "55P03", "57014", "23505", ""] {
            assert!(!ends_session(code), "{code}");
        }
    }
}
