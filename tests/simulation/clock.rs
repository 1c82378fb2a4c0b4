//! A clock that stands until it is set, for the files of the cache that are built here.

use std::cell::Cell;
use std::time::Duration;

use rollcall::domain::Moment;

pub use rollcall::clock::Pace;

/// Long after the machine's start.
pub const NOW: Moment = Moment::from_micros(10_000_000_000);

thread_local! {
    static TIME: Cell<Moment> = const { Cell::new(NOW) };
}

/// The time it shows on this thread.
pub fn now() -> Moment {
    TIME.get()
}

/// Sets it.
pub fn set(to: Moment) {
    TIME.set(to);
}

/// Lets it go on.
pub fn advance(time: Duration) {
    set(now() + time);
}
