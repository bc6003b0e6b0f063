//! The shell around the decisions: feed -> dereference -> decide -> commit -> report.
//!
//! - [`feed`], [`object`], [`index`]: what the cluster shows, as small structs
//! - [`line`]: who waits for room in a limited environment
//! - [`queue`], [`backoff`]: what has to be looked at, and when
//! - [`cluster`], [`database`]: the two seams to the outside
//! - [`reconcile`], [`lease`], [`environment`], [`company`]: the reconcilers
//! - [`sweep`], [`foreign`], [`tombstone`], [`run_end`]: what the feeds can't tell
//! - [`retention`]: what is no longer kept
//! - [`event`], [`rights`], [`unavailable`]: what is told to people: of objects, of rights that are missing, and without the
//!   database
//! - [`shell`], [`sources`], [`workers`]: puts it all together and runs it

pub mod backoff;
pub mod cluster;
pub mod company;
pub mod database;
pub mod environment;
pub mod event;
#[cfg(test)]
mod fake;
pub mod feed;
pub mod foreign;
pub mod index;
pub mod lease;
pub mod line;
pub mod object;
pub mod queue;
pub mod reconcile;
pub mod retention;
pub mod rights;
pub mod run_end;
pub mod shell;
pub mod sources;
pub mod sweep;
pub mod tombstone;
mod trouble;
pub mod unavailable;
pub mod workers;
