//! The mirror: the group-commit writer. Requests of many reconciles become one transaction; each caller gets its own answer.

use tokio::sync::watch;
use uuid::Uuid;

use crate::store::environment_leases::{End, EndOutcome, ForeignEnd, Grant, GrantOutcome, LeaseSync, SyncOutcome};
use crate::store::environment_object::{EnvironmentLook, EnvironmentView};
use crate::store::environments::{ArchiveOutcome, EnvironmentOutcome, EnvironmentSync};
use crate::store::lease_object::{LeaseLook, LeaseView};
use crate::store::{Leader, Store, StoreError};

/// Handle of the mirror; cheap to clone. Every method waits while the mirror is full (back pressure).
///
/// A request is bound to the leadership under which it was made: while there is none, or once it has changed, the answer is
/// [`StoreError::Deposed`].
#[derive(Clone, Debug)]
pub struct Mirror {
    leader: watch::Receiver<Option<Leader>>,
    store: Store,
}

impl Mirror {
    /// Starts the mirror's tasks; they end when the last handle is dropped and all that was taken in is written.
    pub fn start(store: Store, leader: watch::Receiver<Option<Leader>>) -> Self {
        Self { leader, store }
    }

    /// The store behind it, for reads.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The leadership under which a request made now would be bound.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    /// See [`crate::store::lease_object::look`].
    ///
    /// # Errors
    /// Any category.
    pub async fn look_lease(&self, look: LeaseLook) -> Result<LeaseView, StoreError> {
        let _ = look;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environment_object::look`].
    ///
    /// # Errors
    /// Any category.
    pub async fn look_environment(&self, look: EnvironmentLook) -> Result<EnvironmentView, StoreError> {
        let _ = look;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environment_leases::grant`].
    ///
    /// # Errors
    /// Any category but `Data`, which is a refusal.
    pub async fn grant(&self, grant: Grant) -> Result<GrantOutcome, StoreError> {
        let _ = grant;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environment_leases::sync`].
    ///
    /// # Errors
    /// Any category; `Data` says what the object's author should change.
    pub async fn sync_lease(&self, sync: LeaseSync) -> Result<SyncOutcome, StoreError> {
        let _ = sync;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environment_leases::end`].
    ///
    /// # Errors
    /// Any category.
    pub async fn end(&self, end: End) -> Result<EndOutcome, StoreError> {
        let _ = end;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environment_leases::record_foreign_end`].
    ///
    /// # Errors
    /// Any category.
    pub async fn record_foreign_end(&self, end: ForeignEnd) -> Result<(), StoreError> {
        let _ = end;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environments::sync`].
    ///
    /// # Errors
    /// Any category but `Data`, which is a refusal.
    pub async fn sync_environment(&self, sync: EnvironmentSync) -> Result<EnvironmentOutcome, StoreError> {
        let _ = sync;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::environments::archive_deleted`].
    ///
    /// # Errors
    /// Any category.
    pub async fn archive_environment(&self, id: Uuid) -> Result<ArchiveOutcome, StoreError> {
        let _ = id;
        unimplemented!("follows with the batcher")
    }

    /// See [`crate::store::lease_object::mark_gone`].
    ///
    /// # Errors
    /// Any category.
    pub async fn mark_gone(&self, id: Uuid) -> Result<(), StoreError> {
        let _ = id;
        unimplemented!("follows with the batcher")
    }
}
