//! Conditions of both kinds, after the Kubernetes API conventions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

use super::{Reason, Timestamp};

/// What a condition speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum ConditionType {
    /// Environment: its spec is valid and mirrored. Also `True` when archived or a duplicate, so that installers do
    /// not wait for ever.
    Ready,
    /// Environment: new leases are granted.
    Accepting,
    /// Both kinds: the row in the database agrees with the object.
    Mirrored,
    /// Environment of driver Local: this object stands for the company's one row.
    Canonical,
    /// Environment: the last probe reached it.
    Reachable,
    /// Lease: the claim was granted or refused. Once `True` it stays so.
    Decided,
    /// Lease: it is held. A runner works only while it is `True`, and stops its work when it turns `False`.
    Active,
    /// Lease: it has ended, or was refused.
    Finished,
}

/// Truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
#[derive(Display, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It cannot be told.
    Unknown,
}

/// One observed aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition speaks of. For an Environment: Ready, Accepting, Mirrored, Canonical (driver Local) or Reachable
    /// (when probed); for a lease: Decided, Active, Finished or Mirrored.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// True, False, or Unknown.
    pub status: ConditionStatus,
    /// Why, as one word of the closed set of reasons. The same word stands in Events, in the activity log and in metrics.
    pub reason: Reason,
    /// Why, as a sentence for a person. It says what to change where something can be changed.
    pub message: String,
    /// When status last changed.
    pub last_transition_time: Timestamp,
    /// The generation of the spec that the condition speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = super::LARGEST_INTEGER))]
    pub observed_generation: Option<i64>,
}
