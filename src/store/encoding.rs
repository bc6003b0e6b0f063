//! How the tables spell what the API spells otherwise (DOMAIN: "Closed sets of values"), and how `serde` reads it.

use std::str::FromStr;

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use strum::VariantArray as _;

use crate::api::{Driver, LeasePolicy, Reason};
use crate::lifecycle::{EnvironmentState, LeaseState};

/// `environments.driver`.
pub const fn driver(driver: Driver) -> &'static str {
    match driver {
        Driver::Local => "local",
        Driver::Ssh => "ssh",
        Driver::Sandbox => "sandbox",
        Driver::Plugin => "plugin",
    }
}

/// `environment_leases.lease_policy`.
pub const fn policy(policy: LeasePolicy) -> &'static str {
    match policy {
        LeasePolicy::Ephemeral => "ephemeral",
        LeasePolicy::ReuseByEnvironment => "reuse_by_environment",
        LeasePolicy::ReuseByExecutionWorkspace => "reuse_by_execution_workspace",
        LeasePolicy::RetainOnFailure => "retain_on_failure",
    }
}

/// Reads a driver as the tables spell it.
pub(crate) fn parse_driver(text: &str) -> Option<Driver> {
    let mut all = Driver::VARIANTS.iter().copied();
    all.find(|candidate| driver(*candidate) == text)
}

fn parse_policy(text: &str) -> Option<LeasePolicy> {
    let mut all = LeasePolicy::VARIANTS.iter().copied();
    all.find(|candidate| policy(*candidate) == text)
}

/// Reads `environments.driver`.
pub(crate) fn read_driver<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Driver, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_driver(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no driver")))
}

/// Reads `environment_leases.lease_policy`. One of which nothing is known asks for nothing: it counts as ephemeral.
pub(crate) fn read_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeasePolicy, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(parse_policy(&text).unwrap_or(LeasePolicy::Ephemeral))
}

/// Whether this is one of the lease policies.
pub(crate) fn is_policy(text: &str) -> bool {
    parse_policy(text).is_some()
}

fn word<T: FromStr, E: Error>(text: &str, set: &str) -> Result<T, E> {
    text.parse().map_err(|_| E::custom(format!("{text:?} is no {set}")))
}

/// Reads `environments.status`.
pub(crate) fn read_environment_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EnvironmentState, D::Error> {
    word(&String::deserialize(deserializer)?, "environment status")
}

/// Reads `environment_leases.status`.
pub(crate) fn read_lease_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeaseState, D::Error> {
    word(&String::deserialize(deserializer)?, "lease status")
}

/// Reads a lease status that may be null.
pub(crate) fn read_optional_lease_state<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LeaseState>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| word(&text, "lease status")).transpose()
}

/// Reads a moment. One that lies beyond all that can be told (`infinity`, years before 1 or after 9999) is the first or the last
/// that can.
pub(crate) fn read_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    moment(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no moment")))
}

/// Reads a moment that may be null.
pub(crate) fn read_optional_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| moment(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no moment"))))
        .transpose()
}

/// Reads a deadline: one that lies beyond all that can be told never comes, like null.
pub(crate) fn read_deadline<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(read_optional_moment(deserializer)?.filter(|moment| *moment != Timestamp::MAX))
}

/// A `timestamptz` as `to_jsonb` spells it.
fn moment(text: &str) -> Option<Timestamp> {
    let year = text.split('-').next().unwrap_or_default();
    match text {
        "infinity" => Some(Timestamp::MAX),
        "-infinity" => Some(Timestamp::MIN),
        _ if text.ends_with(" BC") => Some(Timestamp::MIN),
        _ if year.len() > 4 && year.bytes().all(|byte| byte.is_ascii_digit()) => Some(Timestamp::MAX),
        // The last hours of the year 9999 are beyond what can be told of every time zone.
        _ => text
            .parse()
            .ok()
            .or_else(|| text.starts_with("9999-12-3").then_some(Timestamp::MAX)),
    }
}

/// Reads free JSON. What only the database can hold (numbers beyond every range, nesting without end) reads as null: it is
/// nothing that was ever written from here.
pub(crate) fn read_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or(Value::Null))
}

/// Reads free JSON that may be null in the database.
pub(crate) fn read_optional_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(match raw.get() {
        "null" => None,
        text => Some(serde_json::from_str(text).unwrap_or(Value::Null)),
    })
}

/// Reads a reason of the operator's own. One of which nothing is known was written by a newer version.
pub(crate) fn read_reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reason>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| serde_json::from_value(Value::String(text)).unwrap_or(Reason::EndedInDatabase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        for value in Driver::VARIANTS {
            assert_eq!(parse_driver(driver(*value)), Some(*value));
        }
        let policies = [
            "ephemeral",
            "reuse_by_environment",
            "reuse_by_execution_workspace",
            "retain_on_failure",
        ];
        for text in policies {
            assert_eq!(parse_policy(text).map(policy), Some(text));
        }
        assert_eq!(parse_driver("kubernetes"), None);
        assert_eq!(parse_policy("Ephemeral"), None);
    }

    #[test]
    fn a_moment_beyond_all_that_can_be_told_is_the_first_or_the_last() {
        for text in [
            "infinity",
            "10000-01-01T00:00:00+00:00",
            "9999-12-31T23:59:59+00:00",
            "294276-12-31T23:59:59+00:00",
        ] {
            assert_eq!(moment(text), Some(Timestamp::MAX), "{text}");
        }
        for text in ["-infinity", "0044-03-15T00:00:00+00:00 BC"] {
            assert_eq!(moment(text), Some(Timestamp::MIN), "{text}");
        }
        assert_eq!(moment("1970-01-01T00:00:01+00:00"), Timestamp::from_second(1).ok());
        assert_eq!(moment("soon"), None);
    }
}
