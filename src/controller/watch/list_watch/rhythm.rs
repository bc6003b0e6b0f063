//! How long a watch pauses before it asks again.

use std::time::Duration;

use super::WatchError;
use crate::random::Backoff;

/// How long a watch lasts at least that counts as a success. One that ends at once is no better than one that is refused.
const SETTLED: Duration = Duration::from_millis(500);

/// Pause before a kind that is not served is asked for again.
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(3);

/// Longer and longer pauses between requests, until a watch has lasted for a while.
#[derive(Debug)]
pub(super) struct Rhythm(Backoff);

impl Default for Rhythm {
    fn default() -> Self {
        Self(Backoff::new(Duration::from_millis(200), Duration::from_secs(30)))
    }
}

impl Rhythm {
    /// A watch has ended in good order after so long: the pause before the next one.
    pub(super) fn after_watch(&mut self, lasted: Duration) -> Duration {
        if self.note_watch(lasted) {
            Duration::ZERO
        } else {
            self.0.pause()
        }
    }

    /// A watch has lasted so long, however it ended; whether that was a success.
    pub(super) fn note_watch(&mut self, lasted: Duration) -> bool {
        let settled = lasted >= SETTLED;
        if settled {
            self.0.reset();
        }
        settled
    }

    /// Something failed: the pause before the next try. No answer, an expired version least of all, is worth a try at once:
    /// it may be the answer to that too.
    pub(super) fn after_failure(&mut self, error: &WatchError) -> Duration {
        match error {
            WatchError::NotServed => NOT_SERVED_PAUSE,
            _ => self.0.pause(),
        }
    }
}
