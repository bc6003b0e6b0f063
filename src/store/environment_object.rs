//! `environment_operator.environment_object`: what the operator remembers of each Environment object that it mirrors.

use serde::Deserialize;
use uuid::Uuid;

use super::environments::EnvironmentRow;
use super::{Leader, Store, StoreError, spelling};
use crate::api::Driver;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EnvironmentObjectRow {
    /// uid of the object.
    pub id: Uuid,
    /// Row in `environments`: the uid, except where an existing Local was adopted.
    pub environment_id: Uuid,
    /// Company of the row.
    pub company_id: Uuid,
    /// Cluster of the object.
    pub cluster: String,
    /// Installation that mirrors it.
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
    /// Driver; immutable.
    #[serde(deserialize_with = "spelling::read_driver")]
    pub driver: Driver,
    /// `spec.maxActiveLeases`.
    pub max_active_leases: Option<i32>,
    /// Whether the operator itself made the object (a lazily made Local).
    pub operator_made: bool,
    /// When the object was seen to be deleted.
    pub deleted_at: Option<jiff::Timestamp>,
}

/// What is asked about one Environment object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentLook {
    /// uid of the object.
    pub id: Uuid,
    /// uid of its Namespace.
    pub namespace_uid: Option<Uuid>,
    /// Company by the Namespace's label or uid, used while none is recorded.
    pub company_id: Option<Uuid>,
    /// Its driver.
    pub driver: Driver,
}

/// What the database knows about one Environment object.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentView {
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
    /// What is remembered of the object.
    pub object: Option<EnvironmentObjectRow>,
    /// Its row: by the remembered id; for a Local that is not remembered, the company's Local.
    pub row: Option<EnvironmentRow>,
    /// Leases of that row that are active, whoever made them.
    pub active_leases: i64,
}

/// Looks without locks.
///
/// # Errors
/// Any category but `Deposed`: a deposed replica may look (`leading` tells).
pub async fn look(
    store: &Store,
    leader: &Leader,
    looks: &[EnvironmentLook],
) -> Result<Vec<EnvironmentView>, StoreError> {
    let _ = (store, leader, looks);
    unimplemented!("follows with the migrations")
}

/// What is remembered of an object that a complete list does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MissingObject {
    /// uid of the object.
    pub id: Uuid,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}
