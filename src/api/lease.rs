//! `EnvironmentLease`: the record that a run holds an environment, from acquire to release.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};
use uuid::Uuid;

use super::rules::{api_version, immutable, immutable_optional, kind_name, object_name};
use super::{CompactObject, Condition, Driver, Timestamp};

/// Which environment a run wants to hold, and for how long.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "paperclip.ing",
    version = "v1alpha1",
    kind = "EnvironmentLease",
    namespaced,
    status = "EnvironmentLeaseStatus",
    derive = "PartialEq",
    shortname = "envlease",
    category = "paperclip",
    selectable = ".spec.environmentRef.name",
    selectable = ".status.phase",
    doc = "An EnvironmentLease is a run's hold on an Environment. Create it, wait with kubectl wait --for=condition=Decided, \
           and work while its condition Active is True. It ends by itself when its run is over.",
    validation = Rule::new("!has(oldSelf.status) || has(self.status)")
        .message("the status of a lease never vanishes: write its fields instead of removing it")
        .field_path(".status"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the lease stands"),
    printcolumn(
        name = "Environment",
        type_ = "string",
        // kubectl shows the first value that is found: status.environment, else spec.environmentRef. No other member of an
        // object has one of these names.
        json_path = ".*['environment','environmentRef'].name",
        description = "What is held; of a claim that waits or was refused, what it asks for by name"
    ),
    printcolumn(
        name = "Run",
        type_ = "string",
        json_path = ".status.run.display",
        description = "Who holds it, or waits for it"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.reason",
        description = "Why the lease stands where it stands"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // A string: kubectl shows a future moment in a column of type `date` as `<invalid>`.
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the lease ends at the latest",
        priority = 1
    ),
    printcolumn(
        name = "Token",
        type_ = "integer",
        json_path = ".status.fencingToken",
        description = "Rises with every grant",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "Why the lease stands where it stands, as a sentence",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = immutable_optional("environmentRef", "create another lease for another environment"),
    validation = immutable_optional("run", "create another lease for another run"),
    validation = immutable_optional("agentId", "create another lease for another agent"),
    validation = immutable_optional("issueId", "create another lease for another issue"),
    validation = immutable_optional("executionWorkspaceId", "create another lease for another execution workspace"),
    validation = immutable("policy", "create another lease with another policy"),
    validation = Rule::new("self.release || !oldSelf.release")
        .message("release cannot be taken back: create another lease")
        .field_path(".release"),
)]
pub struct EnvironmentLeaseSpec {
    /// The environment to hold. When absent it is the default environment of the agent (agentId, else the run's agent), else
    /// the company's Local, which is made if it is missing. It cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_ref: Option<EnvironmentRef>,
    /// The run that holds the environment; the lease ends when the run does. When absent the lease ends by release, by
    /// deletion, by ttlSeconds or by heartbeatTimeoutSeconds. It cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRef>,
    /// The id of the agent that the lease is for, a row of the company in the database. It cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Uuid>,
    /// The id of the issue that the lease is for, a row of the company in the database. It cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue_id: Option<Uuid>,
    /// The id of the execution workspace that the lease is for, a row of the company in the database. It cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_workspace_id: Option<Uuid>,
    /// What is kept between runs: Ephemeral (nothing), ReuseByEnvironment (the place is used again by the next lease of the
    /// environment), ReuseByExecutionWorkspace (the same, for one execution workspace) or RetainOnFailure (a lease whose run
    /// failed is kept for inspection). It cannot change.
    #[serde(default)]
    pub policy: LeasePolicy,
    /// How long the lease may be held, in seconds from the grant: 1 to 2592000 (30 days). A change counts from the grant
    /// too.
    #[serde(default = "default_ttl_seconds")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub ttl_seconds: i32,
    /// How long the lease may be held without a heartbeat, in seconds: 1 to 2592000. A heartbeat is any change of the
    /// annotation paperclip.ing/renew-time. When absent no heartbeat is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub heartbeat_timeout_seconds: Option<i32>,
    /// Set it to true to end the lease. It cannot be taken back.
    #[serde(default)]
    pub release: bool,
    /// How long to wait for the grant, in seconds from the creation of this object: 0 to 2592000. It is tried at least once.
    #[serde(default = "default_acquire_timeout_seconds")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub acquire_timeout_seconds: i32,
    /// How long this object stays after the lease has ended, in seconds: 0 to 2592000. The row in the database stays.
    #[serde(default = "default_ttl_seconds_after_finished")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub ttl_seconds_after_finished: i32,
    /// Data of your own, kept beside the lease in the database: any JSON object of at most 64 members and 32 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<CompactObject>,
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

/// An Environment in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRef {
    /// The name of the Environment, in the namespace of this object. The name local, where there is no such object, means
    /// the company's Local.
    #[schemars(length(max = 253))]
    #[x_kube(validation = object_name("an Environment"))]
    pub name: String,
}

/// A run: a row of the database, or an object of the cluster.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.heartbeatRunId) != has(self.objectRef)")
        .message("a run is named by exactly one of heartbeatRunId and objectRef"),
)]
pub struct RunRef {
    /// The id of a heartbeat run, a row of the company in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_run_id: Option<Uuid>,
    /// An object of this namespace that is the run, for instance a Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
}

/// An object in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The group and version of the object, for instance batch/v1. Only the group is compared.
    #[schemars(length(max = 317))]
    #[x_kube(validation = api_version())]
    pub api_version: String,
    /// The kind of the object: Job, or any other that the operator is told to watch (--run-kinds).
    #[schemars(length(max = 63))]
    #[x_kube(validation = kind_name())]
    pub kind: String,
    /// The name of the object, in the namespace of this object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = object_name("the run's object"))]
    pub name: String,
    /// The uid of the object. When absent it is pinned at the grant; an object of that name with another uid is another run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub uid: Option<String>,
}

/// What is kept between runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum LeasePolicy {
    /// Nothing is kept.
    #[default]
    Ephemeral,
    /// The place is used again by the next lease of the environment.
    ReuseByEnvironment,
    /// The place is used again by the next lease of the execution workspace.
    ReuseByExecutionWorkspace,
    /// A lease whose run failed is kept for inspection.
    RetainOnFailure,
}

/// A lease as the operator has found or made it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(oldSelf.phase) || !(oldSelf.phase in ['Released', 'Expired', 'Failed']) \
         || (has(self.phase) && self.phase == oldSelf.phase)"
    )
    .message("an ended lease stays ended: create another lease instead of changing its phase")
    .field_path(".phase"),
    validation = Rule::new(
        "!has(oldSelf.phase) || oldSelf.phase != 'PendingCleanup' \
         || (has(self.phase) && self.phase in ['PendingCleanup', 'Released', 'Expired', 'Failed'])"
    )
    .message("a lease whose cleanup is pending has ended: only its final phase follows, Released, Expired or Failed")
    .field_path(".phase"),
    validation = Rule::new(
        "!has(oldSelf.fencingToken) || (has(self.fencingToken) && self.fencingToken >= oldSelf.fencingToken)"
    )
    .message("fencingToken never falls: write one that is not below the present one")
    .field_path(".fencingToken"),
)]
pub struct EnvironmentLeaseStatus {
    /// Where the lease stands: Pending (waits for its grant), Active (is held), Retained (is kept for inspection after its
    /// run failed), or ended: PendingCleanup (its provider's resources wait for their removal, then one of the next three
    /// follows), Released (in good order), Expired (by time, cancellation or disappearance) or Failed (its run failed, its
    /// environment went, or it was refused). Released, Expired and Failed never change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<LeasePhase>,
    /// The id of the lease's row in the database: the uid of this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<Uuid>,
    /// The tenant that the lease belongs to. The Namespace decides: its label paperclip.ing/company-id, else its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<Uuid>,
    /// The environment that is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<LeasedEnvironment>,
    /// The run that holds the lease. Of a claim that waits or was refused: only how the run that it names is displayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<LeasedRun>,
    /// When the lease was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquired_at: Option<Timestamp>,
    /// When the lease ends at the latest: acquiredAt and spec.ttlSeconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When the lease ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
    /// Why the lease stands where it stands, as one word of the closed set of reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<super::Reason>, // a bare `Reason` is kube's own inside the derived schema
    /// Why the lease stands where it stands, as a sentence for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How far the removal of the provider's resources is, as found in the database: pending, success or failed. Absent
    /// where there is nothing to remove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup_status: Option<String>,
    /// A number that rises with every grant. A resource that remembers the highest one it has seen can refuse a holder that
    /// was deposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = super::LARGEST_INTEGER))]
    pub fencing_token: Option<i64>,
    /// What the run needs to know of its environment: id, name, driver and leaseId; over SSH also remoteCwd, host, port and
    /// username.
    #[serde(
        default,
        deserialize_with = "super::compact::fit",
        skip_serializing_if = "Option::is_none"
    )]
    pub context: Option<CompactObject>,
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = super::LARGEST_INTEGER))]
    pub observed_generation: Option<i64>,
    /// What is known in detail: Decided (the claim was granted or refused), Active (the lease is held; a runner works only
    /// while it is True), Finished (it has ended, or was refused) and Mirrored (the row in the database agrees).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum LeasePhase {
    /// Waits for its grant.
    Pending,
    /// Is held.
    Active,
    /// Ended in good order.
    Released,
    /// Ended by time, cancellation or disappearance.
    Expired,
    /// Ended because its run failed or its environment went, or was refused.
    Failed,
    /// Kept for inspection after its run failed; holds no slot.
    Retained,
    /// Its provider's resources wait for their removal.
    PendingCleanup,
}

/// The environment that a lease holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeasedEnvironment {
    /// The name of the Environment object, or of the row where there is no object in this namespace.
    pub name: String,
    /// The id of the environment's row in the database.
    pub id: Uuid,
    /// How the place is reached: Local, SSH, Sandbox or Plugin.
    pub driver: Driver,
}

/// The run that holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeasedRun {
    /// The run in a few characters, for instance job/build or run/1a2b3c4d.
    pub display: String,
    /// The kind of the run's object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The name of the run's object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The uid of the run's object as it was pinned at the grant, or the id of the heartbeat run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}
