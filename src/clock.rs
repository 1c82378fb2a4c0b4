//! The one place where time is read. `Moment` counts suspend; `wall` is for timestamps that leave the machine.

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
