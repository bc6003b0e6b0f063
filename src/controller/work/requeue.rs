//! When a key is reconciled again.

use std::time::Duration;

use crate::runtime::metrics::Cause;

/// Another look at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requeue {
    /// After how long.
    pub pause: Duration,
    /// What for.
    pub cause: Cause,
}

impl Requeue {
    /// Another look for a cause.
    pub const fn new(cause: Cause, pause: Duration) -> Self {
        Self { pause, cause }
    }

    /// Another look at what could not be settled now.
    pub const fn look(pause: Duration) -> Self {
        Self::new(Cause::Look, pause)
    }
}
