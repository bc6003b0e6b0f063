//! The work: the queue of keys that have to be reconciled, and when ([`queue`], [`trouble`]), and the workers that take
//! them from it ([`workers`]).

pub mod queue;
pub(crate) mod trouble;
pub mod workers;
