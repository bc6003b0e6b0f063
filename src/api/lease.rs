//! `EnvironmentLease`: the record that a run holds an environment, from acquire to release.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Condition, Driver, FreeObject, Reason, Timestamp};

/// A run's hold on an environment.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "paperclip.ing",
    version = "v1alpha1",
    kind = "EnvironmentLease",
    namespaced,
    status = "EnvironmentLeaseStatus"
)]
#[kube(derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentLeaseSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_ref: Option<EnvironmentRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_workspace_id: Option<Uuid>,
    #[serde(default)]
    pub policy: LeasePolicy,
    #[serde(default = "default_ttl_seconds")]
    pub ttl_seconds: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout_seconds: Option<i32>,
    #[serde(default)]
    pub release: bool,
    #[serde(default = "default_acquire_timeout_seconds")]
    pub acquire_timeout_seconds: i32,
    #[serde(default = "default_ttl_seconds_after_finished")]
    pub ttl_seconds_after_finished: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<FreeObject>,
}

fn default_ttl_seconds() -> i32 {
    86_400
}

fn default_acquire_timeout_seconds() -> i32 {
    600
}

fn default_ttl_seconds_after_finished() -> i32 {
    3_600
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentRef {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRef {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_run_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LeasePolicy {
    #[default]
    Ephemeral,
    ReuseByEnvironment,
    ReuseByExecutionWorkspace,
    RetainOnFailure,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentLeaseStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<LeasePhase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<LeasedEnvironment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<LeasedRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquired_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<FreeObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LeasePhase {
    Pending,
    Active,
    Released,
    Expired,
    Failed,
    Retained,
    PendingCleanup,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeasedEnvironment {
    pub name: String,
    pub id: Uuid,
    pub driver: Driver,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeasedRun {
    pub display: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}
