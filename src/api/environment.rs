//! `Environment`: a place where a run may execute.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};
use uuid::Uuid;

use super::rules::{immutable, member_of_driver, object_name, plugin_word, provider_word, secret_key};
use super::{CompactObject, Condition, Timestamp};

/// Where and how runs may execute, as the user wants it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "paperclip.ing",
    version = "v1alpha1",
    kind = "Environment",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    shortname = "penv",
    category = "paperclip",
    selectable = ".status.phase",
    doc = "An Environment is a place where runs of agents execute: the machine of the server itself, a machine reached over \
           SSH, a provider's sandbox, or what a plugin offers. A run holds it through an EnvironmentLease.",
    validation = Rule::new("self.metadata.name != 'local' || self.spec.driver == 'Local'")
        .message("the name local belongs to driver Local: choose another name, or set spec.driver to Local")
        .field_path(".spec.driver"),
    printcolumn(
        name = "Driver",
        type_ = "string",
        json_path = ".spec.driver",
        description = "How the place is reached"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Whether it grants leases"
    ),
    printcolumn(
        name = "Leases",
        type_ = "integer",
        json_path = ".status.activeLeases",
        description = "Leases that are held now"
    ),
    printcolumn(
        name = "Company",
        type_ = "string",
        json_path = ".status.companyId",
        description = "The tenant that it belongs to"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = immutable("driver", "create another Environment for another driver"),
    validation = member_of_driver("ssh", "SSH"),
    validation = member_of_driver("sandbox", "Sandbox"),
    validation = member_of_driver("plugin", "Plugin"),
)]
pub struct EnvironmentSpec {
    /// How the place is reached: Local (the machine of the server itself), SSH (a machine over SSH), Sandbox (a provider's
    /// sandbox) or Plugin (what a plugin offers). It cannot change. Every driver but Local needs the member of its name:
    /// ssh, sandbox or plugin.
    pub driver: Driver,
    /// The name that people see, 1 to 512 bytes. When absent it is the name of this object; for driver Local, the name
    /// stays as it is in the database, and is "Local" at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub display_name: Option<String>,
    /// What the place is for, in a few words, up to 4096 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// How to reach the machine. Needed for driver SSH, refused for any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshSpec>,
    /// Which sandbox to ask for. Needed for driver Sandbox, refused for any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
    /// Which plugin to ask. Needed for driver Plugin, refused for any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSpec>,
    /// Whether the place is out of use: it grants nothing new and lets what it has run out. When absent the place is in
    /// use; for driver Local, the state in the database stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// How many leases may be held at once. When absent there is no limit; 1 makes every lease exclusive. Claims beyond it
    /// wait in line, the oldest first. Lowering it ends no lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = i32::MAX))]
    pub max_active_leases: Option<i32>,
    /// Data of your own, kept beside the environment in the database: any JSON object of at most 64 members and 32 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<CompactObject>,
}

/// How an environment is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum Driver {
    /// The machine of the server itself.
    Local,
    /// A machine over SSH.
    #[serde(rename = "SSH")]
    #[strum(serialize = "SSH")]
    Ssh,
    /// A provider's sandbox.
    Sandbox,
    /// What a plugin offers.
    Plugin,
}

/// How to reach a machine over SSH.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshSpec {
    /// The machine's host name or IP address, without user, port or scheme.
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new("self != ''").message("SSH environments require a host."),
        validation = Rule::new("self == '' || isIP(self) || self.matches('^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9.])?$')")
            .message("a host is a host name or an IP address: user and port have fields of their own"),
    )]
    pub host: String,
    /// The port of the machine's SSH server, 1 to 65535.
    #[serde(default = "default_ssh_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The user to log in as.
    #[schemars(length(max = 255))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*[$]?$')")
            .message("a username has letters, digits, '.', '_' and '-' and begins with a letter, a digit or '_'"),
    )]
    pub username: String,
    /// The directory on the machine that holds the workspace: an absolute path.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("SSH remote workspace path must be absolute."))]
    pub remote_workspace_path: String,
    /// The Secret that holds the private key. The key is read where it is used and never stored in the database. When
    /// absent, the server's own keys are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretKeyRef>,
    /// The machine's public keys in the format of OpenSSH's known_hosts, up to 16384 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub known_hosts: Option<String>,
    /// Whether a machine that is not in knownHosts is refused.
    #[serde(default = "default_true")]
    pub strict_host_key_checking: bool,
}

fn default_ssh_port() -> i32 {
    22
}

fn default_true() -> bool {
    true
}

/// One key of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKeyRef {
    /// The name of the Secret, in the namespace of this object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = object_name("a Secret"))]
    pub name: String,
    /// The key within the Secret's data.
    #[schemars(length(max = 253))]
    #[x_kube(validation = secret_key())]
    pub key: String,
}

/// A provider's sandbox.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The provider that makes the sandbox, for instance kubernetes.
    #[schemars(length(max = 128))]
    #[x_kube(validation = provider_word())]
    pub provider: String,
    /// What the provider wants to know, in its own keys: any JSON object of at most 64 members and 32 KiB. The key provider
    /// is not among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<CompactObject>,
}

/// What a plugin offers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginSpec {
    /// The key of the plugin.
    #[schemars(length(max = 128))]
    #[x_kube(validation = plugin_word("pluginKey"))]
    pub plugin_key: String,
    /// The key of the driver within the plugin.
    #[schemars(length(max = 128))]
    #[x_kube(validation = plugin_word("driverKey"))]
    pub driver_key: String,
    /// What the plugin's driver wants to know: any JSON object of at most 64 members and 32 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<CompactObject>,
}

/// An environment as the operator has found it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// The id of the environment's row in the database: the uid of this object, except where a Local that was there before
    /// is adopted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<Uuid>,
    /// The tenant that the environment belongs to. The Namespace decides: its label paperclip.ing/company-id, else its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<Uuid>,
    /// The environment's name as it stands in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the environment stands: Pending (has no row in the database yet), Active (grants leases), Archived (grants
    /// nothing new) or Duplicate (another Local stands for the company, see canonicalRef).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<EnvironmentPhase>,
    /// The Local that stands for the company, where this one is its duplicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_ref: Option<CanonicalRef>,
    /// How many leases are held now, brought up to date at most once a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub active_leases: Option<i32>,
    /// What the last attempt to reach the place found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<Probe>,
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = super::LARGEST_INTEGER))]
    pub observed_generation: Option<i64>,
    /// What is known in detail: Ready (the spec is valid and mirrored; True also when archived or a duplicate), Accepting
    /// (new leases are granted), Mirrored (the row in the database agrees), Canonical (driver Local: this object stands for
    /// the company's row) and Reachable (when probed).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where an environment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum EnvironmentPhase {
    /// Has no row in the database yet.
    Pending,
    /// Grants leases.
    Active,
    /// Grants nothing new; what is held runs out.
    Archived,
    /// Another Local stands for the company.
    Duplicate,
}

/// Where the canonical Local of a company is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanonicalRef {
    /// The namespace of the canonical Environment.
    pub namespace: String,
    /// The name of the canonical Environment.
    pub name: String,
}

/// What an attempt to reach an environment found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// Whether the place was reached and can be worked in.
    pub ok: bool,
    /// What was found, as a sentence for a person.
    pub summary: String,
    /// When it was tried.
    pub at: Timestamp,
}
