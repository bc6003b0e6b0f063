//! `environment_operator.lead`: which replica may write, by the database's own clock.
//!
//! Each writing transaction locks its leader's row `FOR KEY SHARE`. A takeover changes the epoch, which is part of a unique
//! key, so it waits for the batches in flight; a renewal does not change the key and waits for nothing. Therefore each batch
//! of epoch n commits before the takeover to n + 1 commits, or changes nothing.

use super::{Store, StoreError};

/// Proof of leadership: what a batch shows inside its own transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Id of the cluster.
    pub cluster: String,
    /// Name of the installation within the cluster.
    pub installation: String,
    /// Number of the term; rises with each takeover.
    pub epoch: i64,
    /// Incarnation of the cluster: raised by hand after its etcd was restored.
    pub incarnation: i64,
}

/// Seconds that a term lasts without renewal.
pub const TERM_SECONDS: u32 = 15;

/// Tries to become leader: `Some` if nobody leads or the term of the one who did has passed.
///
/// # Errors
/// When the database cannot be asked; nothing has changed then, or the term begins unused and passes by itself.
pub async fn acquire(
    store: &Store,
    cluster: &str,
    installation: &str,
    holder: &str,
) -> Result<Option<Leader>, StoreError> {
    let _ = (store, cluster, installation, holder);
    unimplemented!("follows with the migrations")
}

/// Prolongs the term by [`TERM_SECONDS`] from now. `false`: another one leads, step down.
///
/// # Errors
/// When the database cannot be asked: the term goes on until it passes.
pub async fn renew(store: &Store, leader: &Leader, holder: &str) -> Result<bool, StoreError> {
    let _ = (store, leader, holder);
    unimplemented!("follows with the migrations")
}

/// Ends the term at once, so that a follower need not wait for its expiry.
///
/// # Errors
/// When the database cannot be asked: the term passes by itself.
pub async fn release(store: &Store, leader: &Leader, holder: &str) -> Result<(), StoreError> {
    let _ = (store, leader, holder);
    unimplemented!("follows with the migrations")
}
