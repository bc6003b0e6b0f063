//! Moments as the API shows them: RFC 3339 in UTC, cut to milliseconds.

use serde::{Deserialize, Serialize};

/// A moment in UTC with millisecond precision (`2026-01-31T12:00:00.000Z`), the precision of the origin's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Cuts a moment to its millisecond.
    pub fn cut(moment: jiff::Timestamp) -> Self {
        let cut = jiff::Timestamp::from_millisecond(moment.as_millisecond());
        Self(cut.unwrap_or(moment)) // a valid moment's own milliseconds are always in range
    }

    /// The moment itself.
    pub fn get(self) -> jiff::Timestamp {
        self.0
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self::cut(text.parse()?))
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Not `date-time`: a printer column of type `date` shows a future moment as `<invalid>`.
        schemars::json_schema!({ "type": "string" })
    }
}
