//! What is done beside single keys, at an interval or when something is heard: each a task of its own. Only [`super::run`] starts them.

pub mod missed_deletions;
pub mod retention;
pub mod run_events;
pub mod sweep;
pub mod unmanaged_leases;
