//! The database, connected and known: what the rest of the store is given.

use super::StoreError;
use super::address::{Address, AddressError};
use super::pool::{Pool, PoolUse};
use super::references::References;
use super::session::{ConnectError, check_server};

/// Who owns the origin's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The operator makes and migrates them.
    Standalone,
    /// The origin's server does; the operator alters none.
    Attached,
}

/// Why the operator does not start on a database.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database, its server or the way to it does not fit; one sentence says what to do.
    #[error("{0}")]
    Refused(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for StartError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<AddressError> for StartError {
    fn from(error: AddressError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<ConnectError> for StartError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(sentence) => Self::Refused(sentence),
            error => sqlx::Error::from(error).into(),
        }
    }
}

/// The database, connected and known.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: Pool,
    pub(crate) mode: Mode,
    pub(crate) references: References,
}

impl Store {
    /// Connects to a database that [`super::migrate::migrate`] has made ready.
    ///
    /// # Errors
    /// `Refused` for a transaction pooler, a server that is too old, and settings that cannot be changed.
    pub async fn open(address: &Address, mode: Mode, connections: u32) -> Result<Self, StartError> {
        check_server(address).await?;
        let pool = Pool::new(address.clone(), connections);
        let references = References::find(&pool).await?;
        Ok(Self { pool, mode, references })
    }

    /// Who owns the origin's tables.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How the pool stands. Asks nobody.
    pub fn pool_use(&self) -> PoolUse {
        self.pool.usage()
    }

    /// The sessions, for reads of the caller's own.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Lends no more sessions, and closes those that nobody uses; within a second.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
