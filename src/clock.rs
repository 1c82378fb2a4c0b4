//! The one place where time is read. `Moment` counts suspend; `wall` is for timestamps that leave the machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::Moment;

/// Now, on CLOCK_BOOTTIME: a suspended machine's fence ages like any other.
pub fn now() -> Moment {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Moment::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000)
}

/// Time since the Unix epoch, for signatures and logs.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Lets something happen at most once in a while: log lines that a fault would repeat without end.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    /// Microseconds; 0: never yet.
    last: AtomicU64,
}

impl Pace {
    /// At most once in `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, last: AtomicU64::new(0) }
    }

    /// Whether it may happen now. Takes the turn.
    pub fn is_due(&self, now: Moment) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let is_due = last == 0 || now.since(Moment::from_micros(last)) >= self.every;
        is_due && self.last.compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
