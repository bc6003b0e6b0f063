//! How the tables spell what the API spells otherwise (DOMAIN: "Closed sets of values"), and how `serde` reads it.

use serde::{Deserialize, Deserializer, de::Error};

use crate::api::{Driver, LeasePolicy, Reason};
use crate::lifecycle::{EnvironmentState, LeaseState, RunStatus};

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

fn parse_driver(text: &str) -> Option<Driver> {
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

/// Declares readers for `#[serde(deserialize_with)]`: one for a column, one for a column that may be null.
macro_rules! readers {
    ($($type:ty: $read:ident, $read_optional:ident = $parse:expr;)+) => {
        $(
            #[doc = concat!("Reads a column of `", stringify!($type), "`.")]
            pub(crate) fn $read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no {}", stringify!($type))))
            }

            #[doc = concat!("Reads a column of `", stringify!($type), "` that may be null.")]
            pub(crate) fn $read_optional<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<$type>, D::Error> {
                let text = Option::<String>::deserialize(deserializer)?;
                text.map(|text| {
                    $parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no {}", stringify!($type))))
                })
                .transpose()
            }
        )+
    };
}

readers! {
    Driver: read_driver, read_optional_driver = parse_driver;
    LeasePolicy: read_policy, read_optional_policy = parse_policy;
    EnvironmentState: read_environment_state, read_optional_environment_state = EnvironmentState::parse;
    LeaseState: read_lease_state, read_optional_lease_state = LeaseState::parse;
    RunStatus: read_run_status, read_optional_run_status = RunStatus::parse;
}

/// The word of a reason in the operator's own tables: the same as everywhere.
pub fn reason(reason: Reason) -> String {
    format!("{reason:?}")
}
