//! At most so many per second, counted from the beginning and never made up for: who was held up does not hurry afterwards.
//! Pure; `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// What may be made up for at once: the time between two looks, with room for a slow one.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// A rate, and when the next one is due.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    due: Instant,
}

impl Pace {
    /// So many per second, the first one now.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { gap: Duration::from_secs(1) / rate.max(1), due: now }
    }

    /// How many may go now. Moves the turn of the next one on if it was missed long ago.
    pub(super) fn allowance(&mut self, now: Instant) -> u64 {
        self.due = self.due.max(now.checked_sub(CATCH_UP_MAX).unwrap_or(now));
        match now.checked_duration_since(self.due) {
            Some(late) => 1 + u64::try_from(late.as_nanos() / self.gap.as_nanos()).unwrap_or(u64::MAX),
            None => 0,
        }
    }

    /// So many go.
    pub(super) fn take(&mut self, count: u64) {
        self.due += self.gap * u32::try_from(count).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_goes_and_a_pause_is_not_made_up_for() {
        let began = Instant::now();
        let mut pace = Pace::new(100, began);
        let mut at = |ms: u64| {
            let count = pace.allowance(began + Duration::from_millis(ms));
            pace.take(count);
            count
        };
        assert_eq!([0, 5, 10, 50, 55].map(&mut at), [1, 0, 1, 4, 0]);
        assert_eq!([10_000, 10_000, 10_010].map(at), [21, 0, 1]);
    }
}
