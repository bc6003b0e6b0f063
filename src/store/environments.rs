//! `environments`: the places where runs may execute.

use serde::Deserialize;
use uuid::Uuid;

use super::{Leader, ObjectVersion, Refusal, Settle, Store, StoreError, spelling};
use crate::api::{Driver, FreeObject};
use crate::lifecycle::EnvironmentState;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EnvironmentRow {
    /// Id of the environment.
    pub id: Uuid,
    /// Its company.
    pub company_id: Uuid,
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
    /// Driver.
    #[serde(deserialize_with = "spelling::read_driver")]
    pub driver: Driver,
    /// Whether it grants.
    #[serde(deserialize_with = "spelling::read_environment_state")]
    pub status: EnvironmentState,
    /// Configuration in the origin's own shape.
    pub config: serde_json::Value,
    /// Free.
    pub metadata: Option<serde_json::Value>,
    /// When the row was made.
    pub created_at: jiff::Timestamp,
    /// When it was last changed.
    pub updated_at: jiff::Timestamp,
}

/// An Environment object that is to stand in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentSync {
    /// uid of the object: id of the row, except for an adopted Local.
    pub id: Uuid,
    /// Version of the object.
    pub version: ObjectVersion,
    /// Company of its Namespace.
    pub company_id: Uuid,
    /// Given while the Namespace has no recorded company.
    pub settle: Option<Settle>,
    /// Driver.
    pub driver: Driver,
    /// Name of the row. `None` is for Local only: untouched, `Local` at the insert.
    pub name: Option<String>,
    /// Description; `None`: null, for Local untouched.
    pub description: Option<String>,
    /// Status; `None`: active, for Local untouched.
    pub status: Option<EnvironmentState>,
    /// Configuration in the origin's own shape; not written for Local.
    pub config: serde_json::Value,
    /// Metadata; `None`: null, for Local untouched; a Local's keys are set one by one.
    pub metadata: Option<FreeObject>,
    /// `spec.maxActiveLeases`.
    pub max_active_leases: Option<i32>,
    /// Whether the operator itself made the object.
    pub operator_made: bool,
}

/// What became of an [`EnvironmentSync`].
#[derive(Clone, Debug, PartialEq)]
pub enum EnvironmentOutcome {
    /// The row was made.
    Inserted(EnvironmentRow),
    /// The row was changed.
    Updated(EnvironmentRow),
    /// Nothing had to be changed.
    AlreadySo(EnvironmentRow),
    /// The company had a Local before: it stands for the object, untouched but for what the spec sets.
    Adopted(EnvironmentRow),
    /// A newer version of the object is there already, or the object is known to be deleted.
    Older,
    /// It can't be stored as it is.
    Refused(Refusal),
    /// Another transaction holds the row: retry alone.
    Busy,
}

/// Inserts or updates the rows of Environment objects, fenced by their resourceVersion.
///
/// The outcomes stand in the order of `syncs`.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn sync(
    store: &Store,
    leader: &Leader,
    syncs: &[EnvironmentSync],
) -> Result<Vec<EnvironmentOutcome>, StoreError> {
    let _ = (store, leader, syncs);
    unimplemented!("follows with the migrations")
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveOutcome {
    /// The object is remembered as deleted and its row is archived (a Local's row stays as it is).
    Archived,
    /// The object never was in the database.
    Unknown,
    /// Another transaction holds the row: retry alone.
    Busy,
}

/// Remembers Environment objects as deleted and archives their rows, except those of Local. Idempotent.
///
/// # Errors
/// Any category. Nothing is changed then.
pub async fn archive_deleted(store: &Store, leader: &Leader, ids: &[Uuid]) -> Result<Vec<ArchiveOutcome>, StoreError> {
    let _ = (store, leader, ids);
    unimplemented!("follows with the migrations")
}
