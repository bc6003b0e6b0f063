//! How a pool's sessions are opened, and when one is no longer used.

use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection};

use super::{ConnectError, Purpose, open};
use crate::store::address::Address;

/// Age at which a session is replaced: after a fail-over and back all of them find their way by themselves.
const LIFETIME: Duration = Duration::from_secs(1_800);

/// How the pool's sessions are opened, and when one is no longer used.
#[derive(Debug)]
pub(in crate::store) struct Manager {
    address: Address,
    /// Sessions that were opened before are replaced.
    replaced: Mutex<Option<Instant>>,
}

impl managed::Manager for Manager {
    type Type = PgConnection;
    type Error = ConnectError;

    async fn create(&self) -> Result<PgConnection, ConnectError> {
        open(&self.address, Purpose::Work).await
    }

    async fn recycle(&self, connection: &mut PgConnection, metrics: &Metrics) -> RecycleResult<ConnectError> {
        let replaced = *self.replaced.lock();
        if metrics.age() > LIFETIME || replaced.is_some_and(|at| metrics.created <= at) {
            return Err(RecycleError::message("it is old"));
        }
        connection
            .ping()
            .await
            .map_err(|error| RecycleError::Backend(ConnectError::Driver(error)))
    }
}

impl Manager {
    /// Opens sessions there.
    pub(in crate::store) fn new(address: Address) -> Self {
        Self {
            address,
            replaced: Mutex::default(),
        }
    }

    /// Where its sessions lead.
    pub(in crate::store) fn address(&self) -> &Address {
        &self.address
    }

    /// Hands out none of the sessions again that were opened until now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the pool notes by this clock when a session was opened"
    )]
    pub(in crate::store) fn replace_sessions(&self) {
        let now = Some(Instant::now());
        *self.replaced.lock() = now;
    }
}
