//! `environment_operator.lease_object`: what the operator remembers of each lease object that it has granted.

use serde::Deserialize;
use uuid::Uuid;

use super::{Access, Leader, Request, Store, StoreError, column, encoding};
use crate::api::{FreeObject, Reason};
use crate::lifecycle::{Ending, LeaseState};

mod granted;
mod look;

pub use granted::{GrantProof, WasGranted};
pub use look::{Capacity, EnvironmentChoice, Holder, LeaseQuery, LeaseSnapshot, RunLook};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LeaseObjectRow {
    /// uid of the object, id of the lease.
    pub id: Uuid,
    /// Company of the lease.
    pub company_id: Uuid,
    /// Environment of the lease.
    pub environment_id: Uuid,
    /// Cluster of the object.
    pub cluster: String,
    /// Installation that granted it.
    pub installation: String,
    /// Incarnation of the cluster when it was last written.
    pub incarnation: i64,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// resourceVersion that was last written.
    pub rv: String,
    /// Generation that was last written.
    pub generation: i64,
    /// Heartbeat run of the grant; survives the run's row.
    pub run_id: Option<Uuid>,
    /// apiVersion of the run's object.
    pub run_api_version: Option<String>,
    /// Kind of the run's object.
    pub run_kind: Option<String>,
    /// Name of the run's object.
    pub run_name: Option<String>,
    /// uid of the run's object, pinned at the grant.
    pub run_uid: Option<String>,
    /// Rises with every grant.
    pub fencing_token: i64,
    /// What the run was told at the grant (`paperclipEnvironment`).
    pub context: FreeObject,
    /// Keys of `spec.metadata` that were last written.
    pub metadata_keys: Vec<String>,
    pub ttl_seconds_after_finished: i32,
    /// Status that the lease ended in.
    #[serde(deserialize_with = "encoding::read_optional_lease_state")]
    pub ended_status: Option<LeaseState>,
    /// Why it ended.
    #[serde(deserialize_with = "encoding::read_reason")]
    pub reason: Option<Reason>,
    /// Why it ended, as a sentence.
    pub message: Option<String>,
    /// When it ended.
    #[serde(deserialize_with = "encoding::read_optional_moment")]
    pub ended_at: Option<jiff::Timestamp>,
    /// When the object was seen to be deleted.
    #[serde(deserialize_with = "encoding::read_optional_moment")]
    pub deleted_at: Option<jiff::Timestamp>,
}

impl LeaseObjectRow {
    /// The recorded ending.
    pub fn ending(&self) -> Option<Ending> {
        Some(Ending {
            state: self.ended_status?,
            reason: self.reason?,
            message: self.message.clone().unwrap_or_default(),
        })
    }
}

/// The object of this uid is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkGone(pub Uuid);

/// Remembers the objects of ended leases as deleted. Those still held are left alone.
impl Request for MarkGone {
    type Outcome = ();

    const NAME: &'static str = "mark_gone";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.0
    }

    async fn carry_out(store: &Store, leader: &Leader, objects: &[Self]) -> Result<Vec<()>, StoreError> {
        let led: bool = sqlx::query_scalar(
            "WITH leader AS MATERIALIZED (
               SELECT epoch FROM environment_operator.lead
               WHERE cluster = $1 AND installation = $2 AND epoch = $3
               FOR KEY SHARE
             ),
             own AS MATERIALIZED (
               SELECT o.id FROM leader CROSS JOIN environment_operator.lease_object AS o
               WHERE o.id = ANY ($4) AND o.deleted_at IS NULL AND o.ended_status <> 'retained'
               ORDER BY o.id FOR NO KEY UPDATE OF o
             ),
             remembered AS (
               UPDATE environment_operator.lease_object AS o
               SET deleted_at = date_trunc('milliseconds', clock_timestamp()), epoch = $3
               WHERE o.id = ANY (ARRAY (SELECT id FROM own))
             )
             SELECT EXISTS (SELECT FROM leader)",
        )
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(leader.epoch)
        .bind(column(objects, |object| object.0))
        .fetch_one(&store.pool)
        .await?;
        if led {
            Ok(vec![(); objects.len()])
        } else {
            Err(StoreError::Deposed)
        }
    }
}
