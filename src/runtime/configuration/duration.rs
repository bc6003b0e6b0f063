//! Durations as people write them: a whole number and a unit.

use std::time::Duration;

/// Reads `5ms`, `30s`, `10m` or `1h`; more than zero, at most 30 days.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let milliseconds_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(SENTENCE.into()),
    };
    let milliseconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds_per_unit));
    match milliseconds {
        Some(milliseconds @ 1..=LONGEST) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(SENTENCE.into()),
    }
}

/// Reads the time after which the server ends a watch: the API counts it in whole seconds.
pub(super) fn parse_watch_timeout(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.subsec_millis() != 0 || duration > Duration::from_secs(60) {
        return Err("write 1s to 60s, in whole seconds".into());
    }
    Ok(duration)
}

/// The longest duration in milliseconds: 30 days.
const LONGEST: u64 = 30 * 24 * 3_600_000;

const SENTENCE: &str = "write a whole number and a unit (ms, s, m or h), as in 5ms, 30s or 10m, from 1ms to 720h";
