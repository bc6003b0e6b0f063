//! Times as the API shows them: RFC 3339 in UTC, cut to milliseconds.

use serde::{Deserialize, Serialize};

/// A moment in UTC with millisecond precision (`2026-01-31T12:00:00.000Z`), the precision of the Paperclip server's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(jiff::Timestamp);

/// 1000-01-01T00:00:00Z, in seconds since 1970.
const FIRST: jiff::Timestamp = jiff::Timestamp::constant(-30_610_224_000, 0);

/// 2999-12-31T23:59:59.999Z.
const LAST: jiff::Timestamp = jiff::Timestamp::constant(32_503_679_999, 999_000_000);

impl Timestamp {
    /// Cuts a moment to its millisecond. One that is not in the years that the schema admits becomes the first or the last that
    /// is: a status that the API server refuses would tell nothing at all.
    pub fn cut(moment: jiff::Timestamp) -> Self {
        let moment = moment.clamp(FIRST, LAST);
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
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Not `format: date-time`: the API server admits spellings under it (99:99:99, year 9999 at its end) that no reader
        // decodes. The rule admits exactly the moments that exist, leap days included, in the one spelling that is written.
        schemars::json_schema!({
            "type": "string",
            "maxLength": super::schema::RULED_TEXT_LENGTH,
            "x-kubernetes-validations": [{
                "rule": concat!(
                    "self.matches('^(",
                    "[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)",
                    "|02-(0[1-9]|1[0-9]|2[0-8]))",
                    "|([12][0-9](0[48]|[2468][048]|[13579][26])|2[048]00|1[26]00)-02-29",
                    ")T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{3}Z$')"
                ),
                "message": "a time is written in UTC with milliseconds: 2026-01-31T12:00:00.000Z",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_the_years_that_the_schema_admits() {
        let shown = |moment| Timestamp::cut(moment).to_string();
        assert_eq!(shown(jiff::Timestamp::MAX), "2999-12-31T23:59:59.999Z");
        assert_eq!(shown(jiff::Timestamp::MIN), "1000-01-01T00:00:00.000Z");
        assert_eq!(shown(jiff::Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
