//! The store and the mirror on a real Postgres, each test on a database of its own.

mod attached;
mod capacity;
mod due;
mod endings;
mod environments;
mod foreign;
mod grants;
mod idle;
mod installations;
mod leadership;
mod locals;
mod migrations;
mod mirror;
mod numbers;
mod origin;
mod parents;
mod pooler;
mod races;
mod retention;
mod reuse;
mod runbooks;
mod scale;
mod support;
mod syncs;
mod tenants;
mod touches;
