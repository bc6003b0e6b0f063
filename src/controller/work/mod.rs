//! The work: the queue of keys that have to be reconciled, and when ([`queue`], [`backoff`], [`trouble`]), and the workers that take
//! them from it ([`workers`]).

pub mod backoff;
pub mod queue;
pub(crate) mod trouble;
pub mod workers;
