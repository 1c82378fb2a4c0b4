//! The journal in words: ages, moments, states in colour. Pure.

use std::time::{Duration, UNIX_EPOCH};

use crate::cli::output::Colour;

/// How long, in one unit: `3 s`, `12 min`, `5 h`, `4 days`.
pub(in crate::cli) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago, or in how long.
pub(in crate::cli) fn age(at_ms: i64, now: Duration) -> String {
    match i64::try_from(now.as_millis()).unwrap_or(i64::MAX).saturating_sub(at_ms) {
        ago if ago >= 0 => format!("{} ago", span(ago)),
        ahead => format!("in {}", span(ahead.saturating_neg())),
    }
}

/// The end of the year 9999: a later moment has no date of four digits, and its formatter would panic.
const DATES_END_MS: i64 = 253_402_300_800_000;

/// A moment as a date, and how long ago.
pub(super) fn moment(at_ms: i64, now: Duration) -> String {
    if !(0..DATES_END_MS).contains(&at_ms) {
        return at_ms.to_string();
    }
    let date = UNIX_EPOCH + Duration::from_millis(at_ms.unsigned_abs());
    format!("{} ({})", humantime::format_rfc3339_millis(date), age(at_ms, now))
}

/// The colour of a state; ignored messages have none.
pub(super) fn colour(state: &str) -> Option<Colour> {
    match state {
        "applied" => Some(Colour::Green),
        "pending" => Some(Colour::Yellow),
        "buried" => Some(Colour::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let check = |ms, expected: &str| assert_eq!(span(ms), expected);
        check(-5, "0 s");
        check(1_999, "1 s");
        check(119_999, "119 s");
        check(120_000, "2 min");
        check(7_199_999, "119 min");
        check(7_200_000, "2 h");
        check(172_799_999, "47 h");
        check(172_800_000, "2 days");
    }

    #[test]
    fn a_moment_is_told_as_a_date_and_an_age() {
        let now = Duration::from_millis(1_772_366_400_000);
        assert_eq!(moment(1_772_366_397_250, now), "2026-03-01T11:59:57.250Z (2 s ago)");
        assert_eq!(age(1_772_366_405_000, now), "in 5 s");
        for none in [i64::MIN, -1, DATES_END_MS, i64::MAX] {
            assert_eq!(moment(none, now), none.to_string());
        }
    }
}
