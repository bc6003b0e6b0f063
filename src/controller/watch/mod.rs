//! The watches: what is watched ([`source`]), the list and watch of it ([`list_watch`]), and how its events reach the cache and the
//! queue ([`sink`]). Only [`super::run`] starts them.

pub mod list_watch;
pub mod sink;
pub mod source;
