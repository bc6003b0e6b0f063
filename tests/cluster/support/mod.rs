//! What the tests of this layer are written with.
//!
//! A test begins with a [`TestEnvironment`]: a namespace, an empty database and a way to start operators that look after just these.
//! Its claims are built by [`lease`], the Paperclip server is played by plain SQL ([`origin`]), Jobs by their Pods' status
//! ([`job`]), and what has to be seen of an ending everywhere at once is one assertion ([`Expected`]). Faults are made by a
//! way to the API server that can be spoiled ([`proxy`]) and by locks in the database ([`obstruction`]); what must hold after
//! any of them is one assertion too ([`TestEnvironment::settles`](TestEnvironment)).

mod answer;
mod company;
pub mod custom;
mod database;
mod ending;
pub mod job;
mod leaks;
mod lease;
pub mod obstruction;
pub mod origin;
pub mod proxy;
pub mod relay;
pub mod release;
mod settled;
mod world;

pub use database::moment;
pub use ending::Expected;
pub use lease::{Claim, lease};
pub use settled::id_of;
pub use world::{TestEnvironment, install_definitions, scope};

use std::time::Duration;

/// How long a test waits for what it expects. Most comes within a second; a busy machine may need more.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How long an operator may take to end in good order.
pub const GRACE: Duration = Duration::from_secs(15);
