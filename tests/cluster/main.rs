//! The operator as it is run: its real binary on a real API server and a real Postgres.
//!
//! Each test has a namespace, a database and an operator process of its own on parts that all of them share.
#![expect(
    clippy::disallowed_methods,
    reason = "a test takes names that are new, and real time"
)]

mod agreement;
mod api_server;
mod attached;
mod benchmark;
mod capacity;
mod choice;
mod companies;
mod crash;
mod dashboard;
mod deadlines;
mod deletion;
mod ending;
mod environment;
mod environment_changes;
mod environment_deletion;
#[path = "../fixtures/rights.rs"]
mod fixtures;
mod grant;
mod heartbeats;
mod idle;
mod image;
mod listing;
mod local;
mod metrics;
mod noticing;
mod order;
mod outage;
mod outlived;
mod permutations;
mod policies;
mod precedence;
mod races;
mod random;
mod recreated;
mod refusal;
mod refused_rows;
mod removal;
mod replicas;
mod restored;
mod rights;
mod run_objects;
mod run_rows;
mod runner;
mod scope;
mod secrets;
mod size;
mod strangers;
mod support;
mod traces;
mod uninstalled;
mod unmanaged;
mod unreadable;
mod wrong_database;
