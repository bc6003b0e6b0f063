//! The operator as it is run: its real binary on a real API server and a real Postgres.
//!
//! Each test has a namespace, a database and an operator process of its own on parts that all of them share.

#[expect(
    dead_code,
    unused_imports,
    reason = "the tests that need it come with the controller"
)]
mod support;
