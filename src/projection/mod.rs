//! What is decided upon, and what is to be written: from the cache and the rows of the database to facts and plans. Pure: no clock
//! and no I/O. It may read [`crate::cache`] and the rows of [`crate::store`]; only [`crate::controller`] calls it.
//!
//! - [`observed`], [`facts`]: the lease as the watches know it, and what a decision about it is made of
//! - [`choice`]: which environment a claim chooses, and what is known of it
//! - [`company`]: which company an object belongs to
//! - [`agreement`]: whether the row of a held lease says what its object says
//! - [`environment_plan`]: what is to be done about the row of an environment
//! - [`driver`]: what is particular to each driver

pub mod agreement;
pub mod choice;
pub mod company;
pub mod driver;
pub mod environment_plan;
pub mod facts;
pub mod observed;
