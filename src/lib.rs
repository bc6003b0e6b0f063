//! `environment-operator`: environments and leases of AI agents as Kubernetes resources, mirrored into Postgres.
//!
//! The rooms of the house and the way the data flows through them stand in `docs/architecture.md`.
#![forbid(unsafe_code)]

pub mod api;
pub mod cache;
pub mod cli;
mod clock;
pub mod controller;
#[cfg(test)]
mod documentation;
pub mod lifecycle;
pub mod mirror;
pub mod projection;
mod random;
pub mod runtime;
pub mod store;
