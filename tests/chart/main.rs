//! The Helm chart: what it renders, what it refuses, and what a real API server makes of it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test takes names that are new, and real time"
)]

mod accepted;
mod admission;
mod alerts;
mod commands;
mod dashboard;
mod definitions;
mod given;
mod inline;
mod installed;
mod missing;
mod names;
mod operator;
mod parent;
mod pods;
mod program;
mod rendered;
mod restricted;
mod rights;
mod runbooks;
mod settings;
mod support;
mod used;
mod users;
mod values;
