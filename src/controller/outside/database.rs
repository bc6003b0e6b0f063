//! The seam to the database: what reconcilers ask of the mirror, and nothing else.

use crate::mirror::Mirror;
use crate::store::environment_leases::{End, ExternalEnding, Grant, LeaseSync, Touch};
use crate::store::environment_object::EnvironmentQuery;
use crate::store::environments::{Archive, EnvironmentSync};
use crate::store::lease_object::{LeaseQuery, MarkGone, WasGranted};
use crate::store::local::{IsSpareLocal, OtherLocals};
use crate::store::local_intent::{AbandonLocal, LocalNeed};
use crate::store::{Request, StoreError};

/// Answers one kind of request. Many requests become one transaction behind it, each proven by the epoch.
pub trait Ask<R: Request>: Send + Sync + 'static {
    /// Hands in a request and waits for its outcome.
    fn ask(&self, request: R) -> impl Future<Output = Result<R::Outcome, StoreError>> + Send;
}

impl<R: Request> Ask<R> for Mirror {
    async fn ask(&self, request: R) -> Result<R::Outcome, StoreError> {
        Self::ask(self, request).await
    }
}

/// What reconcilers ask of the database.
pub trait Database:
    Ask<LeaseQuery>
    + Ask<WasGranted>
    + Ask<Grant>
    + Ask<LeaseSync>
    + Ask<Touch>
    + Ask<End>
    + Ask<ExternalEnding>
    + Ask<MarkGone>
    + Ask<EnvironmentQuery>
    + Ask<EnvironmentSync>
    + Ask<Archive>
    + Ask<LocalNeed>
    + Ask<AbandonLocal>
    + Ask<OtherLocals>
    + Ask<IsSpareLocal>
{
}

impl Database for Mirror {}
