//! Longer and longer pauses between tries, with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from `first` to at most `longest`; each pause is taken at random from its upper half, so that many who failed
/// together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// A pause of `first` after the first failure, and of `longest` at most.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            tries: 0,
        }
    }

    /// The pause after one more failure.
    pub fn pause(&mut self) -> Duration {
        let pause = pause(self.first, self.longest, self.tries);
        self.tries = self.tries.saturating_add(1);
        pause
    }

    /// Begins anew after a success.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The pause after `tries` earlier failures.
pub fn pause(first: Duration, longest: Duration, tries: u32) -> Duration {
    let full = first.saturating_mul(1u32 << tries.min(20)).min(longest);
    // The standard library's hasher is seeded at random: enough for jitter, without a generator of our own.
    let random = RandomState::new().hash_one(tries);
    let share = (random % 1_000) as f64 / 1_000.0;
    full / 2 + (full / 2).mul_f64(share)
}
