//! The operator as it is run: its real binary on a real API server and a real Postgres.
//!
//! Each test has a namespace, a database and an operator process of its own on parts that all of them share.

mod crash;
mod idle;
mod listing;
mod outage;
mod replicas;
#[expect(dead_code, reason = "the tests that need it come with the controller")]
mod support;
