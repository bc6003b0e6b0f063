//! `environment_leases`: who holds what.
//!
//! Every write here locks in one order: leadership, environment, run, what foreign keys refer to (company, agent, issue,
//! execution workspace), own row, lease, activity. Rows that other writers
//! change are locked `SKIP LOCKED`; a request that finds one taken is answered `Busy` and tried again alone, so that one held row never
//! holds up its neighbours. Nothing is written for a request that changes nothing: rejecting it in `ON CONFLICT … WHERE`
//! would still lock the row and write to the log.

use serde::Deserialize;
use uuid::Uuid;

use super::encoding;
use super::unreadable::TableRow;
use crate::api::LeasePolicy;
use crate::lifecycle::LeaseState;

mod end;
mod grant;
mod origin;
mod sync;
mod touch;

pub use end::{End, EndOutcome, ExternalEnding, UnmanagedLeaseEnd};
pub use grant::{Grant, GrantOutcome, LEFT};
pub use origin::{end_for_runs, list, update_metadata};
pub use sync::{LeaseSync, SyncOutcome};
pub use touch::{TOUCH_INTERVAL, Touch, is_worth_a_touch};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LeaseRow {
    /// Id of the lease: uid of its object, if it has one.
    pub id: Uuid,
    pub company_id: Uuid,
    pub environment_id: Uuid,
    /// Execution workspace of the Paperclip server.
    pub execution_workspace_id: Option<Uuid>,
    /// Issue of the Paperclip server.
    pub issue_id: Option<Uuid>,
    /// Its heartbeat run; null once the run's row is deleted.
    pub heartbeat_run_id: Option<Uuid>,
    #[serde(deserialize_with = "encoding::read_lease_state")]
    pub status: LeaseState,
    #[serde(deserialize_with = "encoding::read_policy")]
    pub lease_policy: LeasePolicy,
    pub provider: Option<String>,
    /// The provider's own name of the lease.
    pub provider_lease_id: Option<String>,
    /// When it was granted.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub acquired_at: jiff::Timestamp,
    /// When it was last used.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub last_used_at: jiff::Timestamp,
    /// When it expires; none: never.
    #[serde(deserialize_with = "encoding::read_deadline")]
    pub expires_at: Option<jiff::Timestamp>,
    /// When it ended; null while held or retained.
    #[serde(deserialize_with = "encoding::read_optional_moment")]
    pub released_at: Option<jiff::Timestamp>,
    /// Why it ended otherwise than in good order.
    pub failure_reason: Option<String>,
    /// How the removal of the provider's resources went.
    pub cleanup_status: Option<String>,
    /// Free, with `driver`.
    #[serde(deserialize_with = "encoding::read_optional_json")]
    pub metadata: Option<serde_json::Value>,
    /// When the row was made.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub created_at: jiff::Timestamp,
    /// When it was last changed.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub updated_at: jiff::Timestamp,
}

impl TableRow for LeaseRow {
    const TABLE: &'static str = "public.environment_leases";

    fn id(&self) -> Uuid {
        self.id
    }
}
