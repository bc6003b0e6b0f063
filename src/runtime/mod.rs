//! The process around the controller: settings, logs, metrics, health, leadership, supervision, shutdown.

pub mod client;
pub mod configuration;
pub mod health;
pub mod leadership;
mod leadership_state;
pub mod metrics;
pub mod shutdown;
pub mod supervision;
pub mod telemetry;

/// The name under which the process shows itself: field manager, user agent, application name in Postgres.
pub const NAME: &str = "environment-operator";
