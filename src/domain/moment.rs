//! A moment on this machine's clock that counts suspend (CLOCK_BOOTTIME), in microseconds.
//!
//! A value only: reading the clock is `crate::clock`'s. Two nodes' moments are never compared; what travels between nodes
//! is Redis `TIME`, which each node converts for itself.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since this machine started, counted through suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The start of the machine: before everything.
    pub const ZERO: Moment = Moment(0);

    /// From microseconds since the machine started.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the machine started.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}
