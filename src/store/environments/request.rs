//! What an Environment object asks of its row, and what becomes of that.

use serde_json::Value;
use uuid::Uuid;

use super::EnvironmentRow;
use crate::api::{Driver, FreeObject};
use crate::lifecycle::EnvironmentState;
use crate::store::{NamespaceBinding, ObjectVersion, Refusal};

/// An Environment object that is to stand in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentSync {
    /// uid of the object: id of the row, except for an adopted Local.
    pub id: Uuid,
    pub version: ObjectVersion,
    /// Company of its Namespace.
    pub company_id: Uuid,
    /// Given while the Namespace has no recorded company.
    pub binding: Option<NamespaceBinding>,
    pub driver: Driver,
    /// Name of the row. `None` is for Local only: untouched, `Local` at the insert.
    pub name: Option<String>,
    /// Description; `None`: null, for Local untouched.
    pub description: Option<String>,
    /// Status; `None`: active, for Local untouched.
    pub status: Option<EnvironmentState>,
    /// Configuration in the Paperclip server's own shape; not written for Local.
    pub config: serde_json::Value,
    /// Metadata; `None`: null, for Local untouched; a Local's keys are set one by one.
    pub metadata: Option<FreeObject>,
    pub max_active_leases: Option<i32>,
    /// `metadata.creationTimestamp`.
    pub created_at: jiff::Timestamp,
    /// For Local: the intent that the object says it was made for.
    pub local_intent: Option<Uuid>,
}

impl EnvironmentSync {
    /// Whether a Local's object sets anything that its row is to say.
    pub(super) fn sets_fields(&self) -> bool {
        self.name.is_some() || self.description.is_some() || self.status.is_some() || self.metadata.is_some()
    }

    /// Whether the row says what the object says, for a driver other than Local.
    pub(super) fn is_row(&self, row: &EnvironmentRow) -> bool {
        let metadata = row.metadata.as_ref();
        row.name == *self.name.as_ref().unwrap_or(&self.version.name)
            && row.description == self.description
            && row.status == self.status.unwrap_or(EnvironmentState::Active)
            && row.config == self.config
            && match &self.metadata {
                Some(wanted) => metadata.and_then(Value::as_object) == Some(wanted),
                None => metadata.is_none(),
            }
    }
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
    /// The row of that id is of another company or driver, which updates never write: nothing is written, nothing remembered.
    OfAnother,
    /// It can't be stored as it is.
    Refused(Refusal),
    /// Another transaction holds the row: retry alone.
    Busy,
}
