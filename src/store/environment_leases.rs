//! `environment_leases`: who holds what.

use serde::Deserialize;
use uuid::Uuid;

use super::{Leader, ObjectVersion, Refusal, Settle, Store, StoreError, spelling};
use crate::api::{FreeObject, LeasePolicy, ObjectRef};
use crate::lifecycle::{Ending, LeaseState};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LeaseRow {
    /// Id of the lease: uid of its object, if it has one.
    pub id: Uuid,
    /// Its company.
    pub company_id: Uuid,
    /// Its environment.
    pub environment_id: Uuid,
    /// Execution workspace of the origin.
    pub execution_workspace_id: Option<Uuid>,
    /// Issue of the origin.
    pub issue_id: Option<Uuid>,
    /// Its heartbeat run; null once the run's row is deleted.
    pub heartbeat_run_id: Option<Uuid>,
    /// Status.
    #[serde(deserialize_with = "spelling::read_lease_state")]
    pub status: LeaseState,
    /// Policy.
    #[serde(deserialize_with = "spelling::read_policy")]
    pub lease_policy: LeasePolicy,
    /// Provider.
    pub provider: Option<String>,
    /// The provider's own name of the lease.
    pub provider_lease_id: Option<String>,
    /// When it was granted.
    pub acquired_at: jiff::Timestamp,
    /// When it was last used.
    pub last_used_at: jiff::Timestamp,
    /// When it expires.
    pub expires_at: Option<jiff::Timestamp>,
    /// When it ended; null while held or retained.
    pub released_at: Option<jiff::Timestamp>,
    /// Why it ended otherwise than in good order.
    pub failure_reason: Option<String>,
    /// How the removal of the provider's resources went.
    pub cleanup_status: Option<String>,
    /// Free, with `driver`.
    pub metadata: Option<serde_json::Value>,
    /// When the row was made.
    pub created_at: jiff::Timestamp,
    /// When it was last changed.
    pub updated_at: jiff::Timestamp,
}

/// A claim that is to become a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// uid of the object: id of the row.
    pub id: Uuid,
    /// Version of the object.
    pub version: ObjectVersion,
    /// Company of its Namespace.
    pub company_id: Uuid,
    /// Given while the Namespace has no recorded company.
    pub settle: Option<Settle>,
    /// Row of the environment.
    pub environment_id: Uuid,
    /// Heartbeat run.
    pub run_id: Option<Uuid>,
    /// Run object, its uid pinned.
    pub run_object: Option<ObjectRef>,
    /// `spec.agentId`.
    pub agent_id: Option<Uuid>,
    /// `spec.issueId`.
    pub issue_id: Option<Uuid>,
    /// `spec.executionWorkspaceId`.
    pub execution_workspace_id: Option<Uuid>,
    /// Policy.
    pub policy: LeasePolicy,
    /// Provider: `local`, `ssh`, the sandbox's, `plugin:<pluginKey>:<driverKey>`.
    pub provider: Option<String>,
    /// For ssh `ssh://user@host:port<remoteCwd>`.
    pub provider_lease_id: Option<String>,
    /// Seconds from the grant to `expires_at`.
    pub ttl_seconds: i32,
    /// `spec.metadata`; the store adds `driver`.
    pub metadata: FreeObject,
    /// What the run's context holds beside id, name, driver and leaseId (for ssh remoteCwd, host, port, username).
    pub context: FreeObject,
    /// `spec.ttlSecondsAfterFinished`.
    pub ttl_seconds_after_finished: i32,
}

/// What became of a [`Grant`].
#[derive(Clone, Debug, PartialEq)]
pub enum GrantOutcome {
    /// The lease is held from now on.
    Granted {
        /// The new row.
        row: Box<LeaseRow>,
        /// Higher than that of every grant before.
        fencing_token: i64,
        /// What the run is told (`paperclipEnvironment`).
        context: FreeObject,
    },
    /// It was granted before and is held: look again.
    AlreadySo,
    /// It was granted before and has ended, or its row was deleted: it is never granted again.
    EndedMeanwhile,
    /// It can't be granted as things are.
    Refused(Refusal),
    /// Another transaction holds the environment or the run: retry alone.
    Busy,
}

/// Grants claims. The outcomes stand in the order of `grants`.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn grant(store: &Store, leader: &Leader, grants: &[Grant]) -> Result<Vec<GrantOutcome>, StoreError> {
    let _ = (store, leader, grants);
    unimplemented!("follows with the migrations")
}

/// A newer version of a granted lease's object.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSync {
    /// uid of the object.
    pub id: Uuid,
    /// Version of the object.
    pub version: ObjectVersion,
    /// Seconds from the grant to `expires_at`.
    pub ttl_seconds: i32,
    /// `spec.metadata`: its keys are set, keys that the spec had before and has no more are removed, all others stay.
    pub metadata: FreeObject,
    /// `spec.ttlSecondsAfterFinished`.
    pub ttl_seconds_after_finished: i32,
}

/// What became of a [`LeaseSync`].
#[derive(Clone, Debug, PartialEq)]
pub enum SyncOutcome {
    /// The row was changed.
    Updated(Box<LeaseRow>),
    /// Nothing of the row had to be changed.
    AlreadySo,
    /// A newer version was written before.
    Older,
    /// The row has ended, or is gone, or never was: look again.
    NotHeld,
    /// Another transaction holds the row: retry alone.
    Busy,
}

/// Writes what may change of a held lease. The outcomes stand in the order of `syncs`.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn sync(store: &Store, leader: &Leader, syncs: &[LeaseSync]) -> Result<Vec<SyncOutcome>, StoreError> {
    let _ = (store, leader, syncs);
    unimplemented!("follows with the migrations")
}

/// A lease that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Id of the row.
    pub id: Uuid,
    /// How it ends; for a row of ours that another writer has set back to active, the recorded ending.
    pub ending: Ending,
    /// End it only if `expires_at` has passed, judged in the UPDATE by the database's clock.
    pub only_if_expired: bool,
}

/// What became of an [`End`].
#[derive(Clone, Debug, PartialEq)]
pub enum EndOutcome {
    /// It is ended.
    Ended(Box<LeaseRow>),
    /// It had ended before, by whomever: that ending stands.
    AlreadyEnded(Box<LeaseRow>),
    /// Its time has not passed yet.
    NotYetExpired(Box<LeaseRow>),
    /// Another transaction holds the row: retry alone.
    Busy,
    /// There is no such row.
    RowMissing,
}

/// Ends held leases and remembers why. The outcomes stand in the order of `ends`.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn end(store: &Store, leader: &Leader, ends: &[End]) -> Result<Vec<EndOutcome>, StoreError> {
    let _ = (store, leader, ends);
    unimplemented!("follows with the migrations")
}

/// An ending by another writer that is to be remembered; the row is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignEnd {
    /// Id of the lease.
    pub id: Uuid,
    /// The row's own status (or `expired` for a deleted row), with the reason that the object shows.
    pub ending: Ending,
}

/// Remembers endings of other writers, each once: what is recorded already stays.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn record_foreign_end(store: &Store, leader: &Leader, ends: &[ForeignEnd]) -> Result<(), StoreError> {
    let _ = (store, leader, ends);
    unimplemented!("follows with the migrations")
}
