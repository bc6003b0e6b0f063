//! The seam to the database: what reconcilers ask of the mirror, and nothing else.

use uuid::Uuid;

use crate::mirror::Mirror;
use crate::store::StoreError;
use crate::store::environment_leases::{
    End, EndOutcome, ForeignEnd, Grant, GrantOutcome, LeaseSync, SyncOutcome, Touch,
};
use crate::store::environment_object::{EnvironmentLook, EnvironmentView};
use crate::store::environments::{ArchiveOutcome, EnvironmentOutcome, EnvironmentSync};
use crate::store::lease_object::{LeaseLook, LeaseView};
use crate::store::local_intent::{LocalAnswer, LocalNeed};

/// Declares the seam and forwards it to the mirror: each method is the mirror's of the same name.
macro_rules! seam {
    ($($(#[$doc:meta])* $name:ident($argument:ty) -> $answer:ty;)+) => {
        /// What reconcilers ask of the database. Many requests become one transaction behind it, each proven by the epoch.
        pub trait Database: Send + Sync + 'static {
            $($(#[$doc])* fn $name(&self, of: $argument) -> impl Future<Output = Result<$answer, StoreError>> + Send;)+
        }

        impl Database for Mirror {
            $(async fn $name(&self, of: $argument) -> Result<$answer, StoreError> {
                Mirror::$name(self, of).await
            })+
        }
    };
}

seam! {
    /// Reads everything that is known about a lease.
    look_lease(LeaseLook) -> LeaseView;
    /// Reads everything that is known about an environment.
    look_environment(EnvironmentLook) -> EnvironmentView;
    /// Grants a claim.
    grant(Grant) -> GrantOutcome;
    /// Writes what has changed of a lease that is held.
    sync_lease(LeaseSync) -> SyncOutcome;
    /// Shows in the row of a lease that it has beaten.
    touch_lease(Touch) -> ();
    /// Ends a lease.
    end(End) -> EndOutcome;
    /// Remembers the ending that another writer gave a lease.
    record_foreign_end(ForeignEnd) -> ();
    /// Inserts or updates the row of an environment.
    sync_environment(EnvironmentSync) -> EnvironmentOutcome;
    /// Archives the row of an environment whose object is gone.
    archive_environment(Uuid) -> ArchiveOutcome;
    /// Intends a Local object for a company that has none in this cluster.
    intend_local(LocalNeed) -> LocalAnswer;
    /// Abandons the intent with this nonce.
    abandon_local(Uuid) -> ();
    /// Reads which other Local objects the company of this one has in this cluster.
    other_locals(Uuid) -> Vec<Uuid>;
    /// Proves that this Local object is one of the operator's own that nobody needs.
    is_spare_local(Uuid) -> bool;
    /// Remembers that the object of an ended lease is gone.
    mark_gone(Uuid) -> ();
}
