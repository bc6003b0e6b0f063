//! The store and the mirror on a real Postgres, each test on a database of its own.
#![expect(
    clippy::disallowed_methods,
    reason = "a test takes names that are new, and real time"
)]

mod adoption;
mod attached;
mod capacity;
mod culprits;
mod due;
mod endings;
mod environments;
mod fitness;
mod grants;
mod idle;
mod installations;
mod leadership;
mod locals;
mod migrations;
mod mirror;
mod numbers;
mod odd;
mod origin;
mod overtaken;
mod parents;
mod pooler;
mod queries;
mod races;
mod retention;
mod reuse;
#[path = "../fixtures/rights.rs"]
mod rights;
mod runbooks;
mod scale;
mod sentences;
mod sessions;
mod silence;
mod starts;
mod support;
mod syncs;
mod tenants;
mod touches;
mod unmanaged;
