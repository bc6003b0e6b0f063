//! `environment-operator`: environments and leases of AI agents as Kubernetes resources, mirrored into Postgres.
//!
//! `docs/architecture.md` explains the modules and how data flows through them.
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
