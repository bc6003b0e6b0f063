//! The API of the two kinds: what is generated from the types, and how a real API server holds users to it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test takes names that are new, and real time"
)]

mod admitted;
mod definitions;
mod examples;
mod generated;
mod manifests;
mod necessity;
mod reference;
mod refused;
mod support;
