//! The database, connected and known: what the rest of the store is given.

use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use super::address::Address;
use super::connection::check_server;
use super::fitness::{self, Fit};
use super::pool::{Pool, PoolUse};
use super::references::References;
use super::unreadable::UnreadableRows;
use super::{Mode, StartError, StoreError};

/// The database, connected and known.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: Pool,
    pub(crate) mode: Mode,
    known: Arc<RwLock<Fit>>,
    /// Which rows are known to be ones that cannot be read.
    pub(crate) unreadable: UnreadableRows,
}

impl Store {
    /// Connects to a database that [`super::migrate::migrate`] has made ready.
    ///
    /// # Errors
    /// `Refused` for a transaction pooler, a server that is too old, settings that cannot be changed, and a database that does not
    /// fit.
    pub async fn open(address: &Address, mode: Mode, connections: u32) -> Result<Self, StartError> {
        check_server(address).await?;
        let pool = Pool::new(address.clone(), connections);
        let fit = fitness::examine(&mut pool.session().await?, mode).await?;
        let known = Arc::new(RwLock::new(fit));
        Ok(Self {
            pool,
            mode,
            known,
            unreadable: UnreadableRows::default(),
        })
    }

    /// A store that leads nowhere, for tests of what stands before it.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        let fit = Fit {
            id: Uuid::nil(),
            references: References::default(),
            shape: String::new(),
        };
        let address: Address = "postgres://nobody@nowhere/none".parse().expect("this is an address");
        Self {
            pool: Pool::new(address, 1),
            mode: Mode::Standalone,
            known: Arc::new(RwLock::new(fit)),
            unreadable: UnreadableRows::default(),
        }
    }

    /// Looks again whether the database fits. Asks the catalog; takes no lock, writes nothing.
    ///
    /// # Errors
    /// `Unfit` with a sentence that says what to do; any other category but `Deposed` where the database does not answer.
    pub async fn examine(&self) -> Result<(), StoreError> {
        let fit = fitness::examine(&mut self.pool.session().await?, self.mode).await?;
        let mut known = self.known.write();
        if known.id != fit.id {
            tracing::warn!(before = %known.id, now = %fit.id, "this is another database than before");
        }
        if known.shape != fit.shape {
            tracing::info!("the tables have changed, and fit");
            // They hold statements that were prepared for tables that are no more.
            self.pool.replace_sessions();
        }
        *known = fit;
        Ok(())
    }

    /// The database's own id; a restored backup has the same.
    pub fn id(&self) -> Uuid {
        self.known.read().id
    }

    /// Names an unmanaged lease that cannot be judged in the log, once until something else is wrong with it.
    pub fn pass_over(&self, unmanaged_lease: Uuid, error: &StoreError) {
        if self.unreadable.is_news(unmanaged_lease, &error.to_string()) {
            tracing::warn!(lease = %unmanaged_lease, %error, "unmanaged lease passed over");
        }
    }

    /// Which tables exist that need not.
    pub(crate) fn references(&self) -> References {
        self.known.read().references
    }

    /// Who owns the Paperclip server's tables.
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
