//! Postgres: one file per table, each operation once and set-based, its SQL beside its function.
//!
//! - [`address`], `connection`, [`session`], `pool`: where the database is, the one way there, and statements that all end
//! - [`connect`], [`migrate`], [`run_trigger`]: the database, connected and known, and what has to be made first
//! - [`Request`], `validation`: what is asked for one row and carried out for many, and what no database can hold
//! - `catalog`, `fitness`: whether the database is one that this version may work on
//! - [`lead`], `term`, [`cluster`], [`installation`]: who may write, in which incarnation of the cluster, and in which namespaces
//! - [`adoption`]: what an installation takes over of another one's that does not look after it any more
//! - [`namespace`], [`environment_object`], [`lease_object`]: what the operator remembers in its own schema
//! - [`local`], [`local_intent`]: which object stands for a company's Local, and which the operator itself has made
//! - [`sweep`], [`unmanaged_leases`], [`missed_deletions`]: what is due, and what is gone, selected by SQL alone
//! - [`retention`]: what ended so long ago that it is no longer kept
//! - `companies`, [`environments`], [`environment_leases`], [`heartbeat_runs`], `activity_log`: the Paperclip server's tables
//! - `unreadable`: rows that this version may not be able to read
//! - [`encoding`]: how the tables spell what the API spells otherwise
//!
//! Rows leave the database as `to_jsonb(row)` and are read by `serde`: one way for a row that stands alone, that is one of
//! several in a snapshot query, or that a newer Paperclip server has given columns of which nothing is known here.

pub mod address;
pub mod adoption;
mod catalog;
mod cause;
pub mod cluster;
mod columns;
mod companies;
pub mod connect;
pub(crate) mod connection;
pub mod encoding;
pub mod environment_leases;
pub mod environment_object;
mod environment_row;
pub mod environments;
pub mod error;
mod fencing_token;
mod fitness;
pub mod heartbeat_runs;
pub mod installation;
pub mod lead;
pub mod lease_object;
pub mod local;
pub mod local_intent;
pub mod migrate;
pub mod missed_deletions;
mod mode;
pub mod namespace;
mod occupied;
mod pool;
mod references;
mod request;
pub mod retention;
pub mod run_trigger;
pub mod session;
mod start_error;
pub mod sweep;
mod term;
pub mod unmanaged_leases;
mod unreadable;
mod validation;

pub use address::Address;
pub use connect::Store;
pub use error::{Category, StoreError};
pub use lead::Leader;
pub use mode::Mode;
pub use namespace::NamespaceBinding;
pub use pool::{Pool, PoolUse};
pub use request::{Access, Request};
pub use start_error::StartError;

use crate::lifecycle::ResourceVersion;

/// A version of an object, as the fences and the operator's own tables need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    pub namespace: String,
    pub name: String,
    pub resource_version: ResourceVersion,
    pub generation: i64,
}

/// Why a write was refused for good or until somebody changes something: never the company's secret, for what does not
/// exist and what is another company's are told alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The closed word.
    pub reason: crate::api::Reason,
    /// The sentence for a person.
    pub message: String,
}

/// One column of a set of rows, as `unnest` takes it.
fn column<'a, T, C>(rows: &'a [T], value: impl FnMut(&'a T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}
