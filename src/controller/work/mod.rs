//! The work: the keys that have to be reconciled, and when ([`queue`], [`requeue`]), and those that are tried again later and later
//! ([`trouble`]).

pub mod queue;
pub mod requeue;
pub(crate) mod trouble;
