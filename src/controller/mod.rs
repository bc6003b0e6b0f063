//! What runs: watches fill the cache, workers reconcile what it names, and the two reconcilers observe, decide, prove, commit and
//! report. All that is decided is decided elsewhere, in [`crate::projection`] and [`crate::lifecycle`].
//!
//! - [`run`]: puts the parts together and runs them
//! - [`context`]: what everything that runs here shares
//! - [`reconcile`], [`error`]: the two reconcilers together, and how a reconcile can fail
//! - [`unavailable`]: what statuses show while the database cannot be used
//! - [`watch`]: the list and watch of each kind, and how events reach the cache
//! - [`work`], [`workers`]: the queue, and who empties it
//! - [`lease`], [`environment`]: the reconcilers
//! - [`background`]: what is done at an interval, beside single keys
//! - [`outside`]: the traits for the API server and the database, Events, and missing permissions

pub mod background;
pub mod context;
pub mod environment;
pub mod error;
#[cfg(test)]
mod fake;
pub mod lease;
pub mod outside;
pub mod reconcile;
pub mod run;
pub mod unavailable;
pub mod watch;
pub mod work;
pub mod workers;
