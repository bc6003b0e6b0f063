//! The pool of sessions. A connection gets into it by the one way to a session, and is asked whether it still answers before
//! it is handed out again.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, PoolError, TimeoutType, Timeouts};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, TryStreamExt as _};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::time::timeout;

use super::address::Address;
use super::connection::Manager;
use super::session::{Session, steps};

/// Longest wait for another user's session.
const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// Longest wait for a new session, over all hosts.
const CREATE_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for an idle session's sign of life. Whoever asks may find several dead ones in a row.
const RECYCLE_LIMIT: Duration = Duration::from_secs(1);

/// Longest wait for idle sessions to be closed in good order.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How a pool of connections stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that are open, used or not.
    pub open: u32,
    /// Those of them that nobody uses.
    pub idle: u32,
    /// How many there may be.
    pub max: u32,
}

/// Sessions for many users. Statements are run on `&Pool` as on the driver's own; each of them has an end, the wait for a
/// session included.
#[derive(Clone, Debug)]
pub struct Pool(managed::Pool<Manager>);

impl Pool {
    /// A pool that has opened nothing yet.
    pub(super) fn new(address: Address, connections: u32) -> Self {
        let manager = Manager::new(address);
        #[expect(
            clippy::expect_used,
            reason = "a pool with time limits lacks nothing but a runtime, and is given one"
        )]
        let pool = managed::Pool::builder(manager)
            .max_size(usize::try_from(connections.max(1)).unwrap_or(1))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT_LIMIT),
                create: Some(CREATE_LIMIT),
                recycle: Some(RECYCLE_LIMIT),
            })
            .build()
            .expect("built with a runtime");
        Self(pool)
    }

    /// Where its sessions lead.
    pub(super) fn address(&self) -> &Address {
        self.0.manager().address()
    }

    /// Hands out none of the sessions again that were opened until now.
    pub(super) fn replace_sessions(&self) {
        self.0.manager().replace_sessions();
    }

    /// A session for one user.
    ///
    /// # Errors
    /// The driver's: none is free in time, or none can be opened.
    pub async fn session(&self) -> Result<Session, sqlx::Error> {
        self.0.get().await.map(Session::pooled).map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Closed => sqlx::Error::PoolClosed,
            PoolError::Timeout(TimeoutType::Wait | TimeoutType::Recycle) => sqlx::Error::PoolTimedOut,
            PoolError::Timeout(TimeoutType::Create) => sqlx::Error::Io(std::io::Error::other(format!(
                "no connection to {} could be made within {} s",
                self.address(),
                CREATE_LIMIT.as_secs()
            ))),
            error => sqlx::Error::Io(std::io::Error::other(error.to_string())),
        })
    }

    /// Begins a transaction; it is rolled back when it is dropped before its commit.
    ///
    /// # Errors
    /// The driver's.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        let mut session = self.session().await?;
        session.run("BEGIN").await?;
        Ok(Transaction { open: Some(session) })
    }

    /// How it stands. Asks nobody.
    pub fn usage(&self) -> PoolUse {
        let status = self.0.status();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PoolUse {
            open: number(status.size),
            idle: number(status.available),
            max: number(status.max_size),
        }
    }

    /// Lends no more sessions, and closes those that nobody uses in good order; within a second.
    pub async fn close(&self) {
        let idle = self.0.retain(|_, _| false).removed;
        self.0.close();
        let closings = idle.into_iter().map(PgConnection::close);
        let _polite = timeout(CLOSE_LIMIT, futures::future::join_all(closings)).await;
    }
}

/// A transaction on a session of a pool.
#[derive(Debug)]
pub struct Transaction {
    /// There until it is committed or dropped.
    open: Option<Session>,
}

impl Transaction {
    /// Commits.
    ///
    /// # Errors
    /// The driver's; whether it is committed is not known then.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await?;
        self.open = None;
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = Session;

    #[expect(
        clippy::expect_used,
        reason = "only the commit and the end take it, and both take the transaction"
    )]
    fn deref(&self) -> &Session {
        self.open.as_ref().expect("there until the commit")
    }
}

impl DerefMut for Transaction {
    #[expect(
        clippy::expect_used,
        reason = "only the commit and the end take it, and both take the transaction"
    )]
    fn deref_mut(&mut self) -> &mut Session {
        self.open.as_mut().expect("there until the commit")
    }
}

impl Drop for Transaction {
    /// Rolls back in the background; a session that cannot answer any more is closed instead, which does it as well.
    fn drop(&mut self) {
        let Some(mut session) = self.open.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { session.run("ROLLBACK").await })),
            Err(_) => session.spoil(),
        }
    }
}

impl<'c> Executor<'c> for &'c Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        steps(async move { self.session().await?.fetch_many(query).try_collect().await })
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.session().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        async move { self.session().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        async move { self.session().await?.describe(sql).await }.boxed()
    }
}
