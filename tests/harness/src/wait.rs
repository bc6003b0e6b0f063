//! Waiting for a condition, with a deadline, never for a fixed time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Calls `probe` until it answers `Ok`, and returns that value; `Err` holds what was seen instead.
///
/// ```no_run
/// # async fn example(mut phase: impl AsyncFnMut() -> String) {
/// # use std::time::Duration;
/// harness::wait::eventually("the lease is Active", Duration::from_secs(10), async || match phase().await.as_str() {
///     "Active" => Ok(()),
///     other => Err(format!("phase {other}")),
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
/// When `limit` has passed, with what was expected and what was seen last. A probe that hangs is cut off at the limit.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    limit: Duration,
    probe: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match until(limit, probe).await {
            Ok(value) => value,
            // A test fails by a panic.
            Err(seen) => panic!("{caller}: not within {limit:?}: {what}; last seen: {seen}"),
        }
    }
}

/// Like [`eventually`], but hands back what was seen last instead of a panic.
///
/// # Errors
/// The last `Err` of `probe` as text, when `limit` has passed.
pub async fn until<T, E: Display>(limit: Duration, mut probe: impl AsyncFnMut() -> Result<T, E>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    let mut pause = PAUSES.0;
    let mut seen = "nothing, the first look did not end".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // The first look is always given a moment, so that a limit of zero means: now.
        match tokio::time::timeout(left.max(PAUSES.1), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => seen = error.to_string(),
            Err(_) => return Err(format!("{seen}; the last look hung")),
        }
        if Instant::now() + pause > deadline {
            return Err(seen);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let value = until(Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 { Ok("ready") } else { Err("not yet") }
        });
        assert_eq!(value.await, Ok("ready"));
    }

    #[tokio::test]
    async fn what_was_seen_last_is_told_when_time_is_up() {
        let seen = until(Duration::from_millis(50), async || Err::<(), _>("phase Pending")).await;
        assert_eq!(seen, Err("phase Pending".to_owned()));
    }
}
