//! The watches: the list and watch of one kind each ([`list_watch`]), which ones there are, and how their events reach the cache and
//! the queue ([`sources`]). Only [`super::run`] starts them.

pub mod list_watch;
pub mod sources;
