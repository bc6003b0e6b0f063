//! How the tables spell what the API spells otherwise (DOMAIN: "Closed sets of values"), and how `serde` reads it.

use serde::{Deserialize, Deserializer, de::Error};

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
    [Driver::Local, Driver::Ssh, Driver::Sandbox, Driver::Plugin]
        .into_iter()
        .find(|candidate| driver(*candidate) == text)
}

fn parse_policy(text: &str) -> Option<LeasePolicy> {
    [
        LeasePolicy::Ephemeral,
        LeasePolicy::ReuseByEnvironment,
        LeasePolicy::ReuseByExecutionWorkspace,
        LeasePolicy::RetainOnFailure,
    ]
    .into_iter()
    .find(|candidate| policy(*candidate) == text)
}

fn read<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Option<T>,
    set: &str,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no {set}")))
}

/// Reads `environments.driver`.
pub(crate) fn read_driver<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Driver, D::Error> {
    read(deserializer, parse_driver, "driver")
}

/// Reads `environment_leases.lease_policy`.
pub(crate) fn read_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeasePolicy, D::Error> {
    read(deserializer, parse_policy, "lease policy")
}

/// Reads `environments.status`.
pub(crate) fn read_environment_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EnvironmentState, D::Error> {
    read(deserializer, EnvironmentState::parse, "environment status")
}

/// Reads `environment_leases.status`.
pub(crate) fn read_lease_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeaseState, D::Error> {
    read(deserializer, LeaseState::parse, "lease status")
}

/// Reads a lease status that may be null.
pub(crate) fn read_optional_lease_state<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LeaseState>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| LeaseState::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no lease status"))))
        .transpose()
}

/// The word of a reason in the operator's own tables: the same as everywhere.
pub fn reason(reason: Reason) -> String {
    format!("{reason:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        for value in [Driver::Local, Driver::Ssh, Driver::Sandbox, Driver::Plugin] {
            assert_eq!(parse_driver(driver(value)), Some(value));
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
        assert_eq!(reason(Reason::RunFinished), "RunFinished");
    }
}
