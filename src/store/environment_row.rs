//! A row of `environments`, for all that read one.

use serde::Deserialize;
use uuid::Uuid;

use super::encoding;
use super::unreadable::TableRow;
use crate::api::Driver;
use crate::lifecycle::EnvironmentState;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EnvironmentRow {
    /// Id of the environment.
    pub id: Uuid,
    pub company_id: Uuid,
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
    #[serde(deserialize_with = "encoding::read_driver")]
    pub driver: Driver,
    /// Whether it grants.
    #[serde(deserialize_with = "encoding::read_environment_state")]
    pub status: EnvironmentState,
    /// Configuration in the Paperclip server's own shape.
    #[serde(deserialize_with = "encoding::read_json")]
    pub config: serde_json::Value,
    /// Free.
    #[serde(deserialize_with = "encoding::read_optional_json")]
    pub metadata: Option<serde_json::Value>,
    /// When the row was made.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub created_at: jiff::Timestamp,
    /// When it was last changed.
    #[serde(deserialize_with = "encoding::read_moment")]
    pub updated_at: jiff::Timestamp,
}

impl TableRow for EnvironmentRow {
    const TABLE: &'static str = "public.environments";

    fn id(&self) -> Uuid {
        self.id
    }
}
