//! The store and the mirror on a real Postgres, each test on a database of its own.

mod endings;
mod environments;
mod grants;
mod leadership;
mod migrations;
mod support;
mod syncs;
