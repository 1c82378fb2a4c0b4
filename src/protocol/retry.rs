//! When a message that could not be applied is tried again. The intake and the journal's worker ask; `spread` is an argument.

use std::time::Duration;

/// After the first try, the second, … From then on [`STEADY`].
const FIRST: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(10)];
/// Long enough to cost nothing, short enough that nobody waits for the sender's own five minutes.
const STEADY: Duration = Duration::from_secs(60);

/// How long to wait after try number `attempts` has failed. `spread` (any number) moves the steady delay by up to a fifth to
/// either side, so that what failed together does not come back together.
pub fn retry_in(attempts: u32, spread: u64) -> Duration {
    let place = usize::try_from(attempts.max(1) - 1).unwrap_or(usize::MAX);
    FIRST.get(place).copied().unwrap_or_else(|| STEADY * 4 / 5 + STEADY * u32::try_from(spread % 401).unwrap_or(0) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_soon_at_first_and_once_a_minute_in_the_end() {
        let millis = |attempts| retry_in(attempts, 200).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 5, u32::MAX].map(millis), [100, 100, 500, 2_000, 10_000, 60_000, 60_000]);
    }

    #[test]
    fn the_steady_delay_is_spread_by_a_fifth() {
        let delays: Vec<_> = (0..10_000).map(|spread| retry_in(9, spread)).collect();
        assert_eq!(delays.iter().min(), Some(&Duration::from_secs(48)));
        assert_eq!(delays.iter().max(), Some(&Duration::from_secs(72)));
    }
}
