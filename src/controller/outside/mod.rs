//! The traits through which reconcilers reach the API server and the database, the Events that are published, and the
//! permissions that are missing. Reconcilers reach neither of the two in any other way.

pub mod cluster;
pub mod database;
pub mod error;
pub mod event;
pub mod permissions;
mod turns;
