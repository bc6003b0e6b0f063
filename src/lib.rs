//! `environment-operator`: environments and leases of AI agents as Kubernetes resources, mirrored into Postgres.
//!
//! The rooms of the house and the way the data flows through them stand in `docs/architecture.md`.
#![deny(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::unwrap_used)]

pub mod api;
mod cache;
pub mod cli;
mod clock;
mod controller;
#[cfg(test)]
mod documentation;
pub mod lifecycle;
pub mod mirror;
mod projection;
mod random;
mod runtime;
pub mod store;
