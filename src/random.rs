//! Random numbers: the one place that draws them. Nothing here is a secret, and nothing that is decided depends on it.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place where random numbers are drawn"
)]

use std::time::Duration;

use uuid::Uuid;

/// A name that nobody else has.
pub(crate) fn unique() -> Uuid {
    Uuid::new_v4()
}

/// At random between `least` of `pause` and all of it, so that many who paused together do not come back together. `least` is
/// a share: 0 to 1.
pub(crate) fn jitter(pause: Duration, least: f64) -> Duration {
    pause.mul_f64(least + (1.0 - least) * fastrand::f64())
}

/// Longer and longer pauses between tries: doubles from `first` to at most `longest`, each with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// A pause of `first` after the first failure, and of `longest` at most.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            tries: 0,
        }
    }

    /// The pause after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = backoff(self.first, self.longest, self.tries);
        self.tries = self.tries.saturating_add(1);
        pause
    }

    /// Begins anew after a success.
    pub(crate) const fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The pause after `tries` earlier failures, from the upper half of what it has doubled to.
pub(crate) fn backoff(first: Duration, longest: Duration, tries: u32) -> Duration {
    let full = first.saturating_mul(1u32 << tries.min(20)).min(longest);
    jitter(full, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(3);

    #[test]
    fn a_pause_doubles_up_to_the_longest_and_is_of_its_upper_half() {
        fastrand::seed(1);
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for full in [100, 200, 400, 800, 1_600, 3_000, 3_000].map(Duration::from_millis) {
            let pause = backoff.pause();
            assert!((full / 2..=full).contains(&pause), "{pause:?} of {full:?}");
        }
        backoff.tries = u32::MAX;
        assert!(backoff.pause() <= LONGEST);
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn a_seed_repeats_the_pauses_and_another_one_does_not() {
        let pauses = |seed| {
            fastrand::seed(seed);
            let mut backoff = Backoff::new(FIRST, LONGEST);
            [(); 8].map(|()| backoff.pause())
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }
}
