//! `Environment`: a place where a run may execute.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Condition, FreeObject, Timestamp};

/// A place where runs of agents execute: this machine, a box over SSH, a provider's sandbox, a plugin's.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "paperclip.ing",
    version = "v1alpha1",
    kind = "Environment",
    namespaced,
    status = "EnvironmentStatus"
)]
#[kube(derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSpec {
    pub driver: Driver,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_active_leases: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<FreeObject>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Driver {
    Local,
    #[serde(rename = "SSH")]
    Ssh,
    Sandbox,
    Plugin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SshSpec {
    pub host: String,
    #[serde(default = "default_ssh_port")]
    pub port: i32,
    pub username: String,
    pub remote_workspace_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretKeyRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    #[serde(default = "default_true")]
    pub strict_host_key_checking: bool,
}

fn default_ssh_port() -> i32 {
    22
}

fn default_true() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    pub name: String,
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxSpec {
    pub provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<FreeObject>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSpec {
    pub plugin_key: String,
    pub driver_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<FreeObject>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<EnvironmentPhase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_ref: Option<CanonicalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_leases: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EnvironmentPhase {
    Pending,
    Active,
    Archived,
    Duplicate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanonicalRef {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    pub ok: bool,
    pub summary: String,
    pub at: Timestamp,
}
