//! Background tasks: work that is not about one key, done at an interval or on a notification. Only [`super::run`] starts them.

pub mod missed_deletions;
pub mod retention;
pub mod run_events;
pub mod sweep;
pub mod unmanaged_leases;
