//! Durations as people write them: a whole number and a unit.

use std::time::Duration;

/// Reads `5ms`, `30s`, `10m`, `1h` or `1d`; more than zero, at most 30 days.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    read(text, LONGEST).ok_or_else(|| SENTENCE.into())
}

/// Reads how long rows are kept: days too, at most ten years.
pub(super) fn parse_retention(text: &str) -> Result<Duration, String> {
    read(text, LONGEST_RETENTION).ok_or_else(|| RETENTION_SENTENCE.into())
}

fn read(text: &str, longest: u64) -> Option<Duration> {
    let split = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let milliseconds_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY,
        _ => return None,
    };
    let milliseconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds_per_unit))?;
    (1..=longest)
        .contains(&milliseconds)
        .then(|| Duration::from_millis(milliseconds))
}

/// Reads the time after which the server ends a watch: the API counts it in whole seconds.
pub(super) fn parse_watch_timeout(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.subsec_millis() != 0 || duration > Duration::from_secs(60) {
        return Err("write 1s to 60s, in whole seconds".into());
    }
    Ok(duration)
}

/// A day in milliseconds.
const DAY: u64 = 24 * 3_600_000;

/// The longest duration in milliseconds: 30 days.
const LONGEST: u64 = 30 * DAY;

/// The longest retention in milliseconds: ten years.
const LONGEST_RETENTION: u64 = 3_650 * DAY;

const SENTENCE: &str = "write a whole number and a unit (ms, s, m, h or d), as in 5ms, 30s or 10m, from 1ms to 30d";

const RETENTION_SENTENCE: &str =
    "write a whole number and a unit (ms, s, m, h or d), as in 12h or 90d, to 3650d at most";
