//! `environment_operator.lease_object`: what the operator remembers of each lease object that it has granted.

use serde::Deserialize;
use uuid::Uuid;

use super::environment_leases::LeaseRow;
use super::environments::EnvironmentRow;
use super::{Leader, Store, StoreError, spelling};
use crate::api::{FreeObject, Reason};
use crate::lifecycle::{Ending, LeaseState, RunStatus};

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
    /// `spec.ttlSecondsAfterFinished`.
    pub ttl_seconds_after_finished: i32,
    /// Status that the lease ended in.
    #[serde(deserialize_with = "spelling::read_optional_lease_state")]
    pub ended_status: Option<LeaseState>,
    /// Why it ended.
    pub reason: Option<Reason>,
    /// Why it ended, as a sentence.
    pub message: Option<String>,
    /// When it ended.
    pub ended_at: Option<jiff::Timestamp>,
    /// When the object was seen to be deleted.
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

/// Which environment a claim chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentChoice {
    /// This Environment object, by uid.
    Object(Uuid),
    /// The company's Local.
    Local,
    /// The default environment of the claim's agent, else of the run's agent, else the company's Local.
    Default,
}

/// What is asked about one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseLook {
    /// uid of the object.
    pub id: Uuid,
    /// uid of its Namespace.
    pub namespace_uid: Option<Uuid>,
    /// Company by the Namespace's label or uid, used while none is recorded.
    pub company_id: Option<Uuid>,
    /// Which environment a claim chooses (a granted lease has its row's own).
    pub environment: EnvironmentChoice,
    /// `spec.agentId`.
    pub agent_id: Option<Uuid>,
    /// `spec.run.heartbeatRunId` (a granted lease has the one of its grant).
    pub run_id: Option<Uuid>,
    /// `spec.issueId`.
    pub issue_id: Option<Uuid>,
    /// `spec.executionWorkspaceId`.
    pub execution_workspace_id: Option<Uuid>,
}

/// What the database knows of a heartbeat run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLook {
    /// The lease names none.
    None,
    /// No such run in this company.
    Missing,
    /// It is there.
    Found {
        /// Its status.
        status: RunStatus,
        /// Its agent.
        agent_id: Uuid,
    },
}

/// What the database knows about one lease.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseView {
    /// uid of the object.
    pub id: Uuid,
    /// The database's clock.
    pub now: jiff::Timestamp,
    /// Whether the asking leader's term still runs.
    pub leading: bool,
    /// Company recorded for the Namespace.
    pub recorded_company: Option<Uuid>,
    /// Whether the company (recorded, else given) has its row.
    pub company_exists: bool,
    /// The lease's row.
    pub row: Option<LeaseRow>,
    /// What is remembered of the grant.
    pub object: Option<LeaseObjectRow>,
    /// The heartbeat run.
    pub run: RunLook,
    /// A granted lease's environment, else the one that the claim chooses, if it has a row.
    pub environment: Option<EnvironmentRow>,
    /// Whether every Environment object of that row was deleted (never said of a Local).
    pub environment_deleted: bool,
    /// Whether `spec.agentId` is no agent of this company.
    pub agent_missing: bool,
    /// Whether `spec.issueId` is no issue of this company, as far as the database has issues.
    pub issue_missing: bool,
    /// Whether `spec.executionWorkspaceId` is no workspace of this company, as far as the database has workspaces.
    pub execution_workspace_missing: bool,
}

/// Looks without locks: writes nothing, not even to the write-ahead log.
///
/// # Errors
/// Any category but `Deposed`: a deposed replica may look (`leading` tells).
pub async fn look(store: &Store, leader: &Leader, looks: &[LeaseLook]) -> Result<Vec<LeaseView>, StoreError> {
    let _ = (store, leader, looks);
    unimplemented!("follows with the migrations")
}

/// Remembers the objects of ended leases as deleted. Those still held are left alone.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn mark_gone(store: &Store, leader: &Leader, ids: &[Uuid]) -> Result<(), StoreError> {
    let _ = (store, leader, ids);
    unimplemented!("follows with the migrations")
}
