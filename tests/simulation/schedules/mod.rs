//! The local tier under schedules drawn at random: `shuttle` stops any thread before any atomic, any lock and any look into
//! the map, and lets another go on. Upholds nothing; it asks whether the order of events in I5, I6 and I12 is kept.
//!
//! What runs here are the very files of the cache: the hit, the tier, the facts, how a change is applied and how a reading is
//! landed or found. They are built a second time with `sync` in place of `src/cache/sync.rs`; `room` is what they need of the
//! rest. `scenes` has who runs at the same time, `habits` the ways to do it wrong, `checks` the tests.
//!
//! The schedules are sequentially consistent: an ordering that is too weak for other machines does not show.

#![allow(dead_code, reason = "the files of the cache are built whole")]

#[path = "../../../src/cache/answer.rs"]
mod answer;
#[path = "../../../src/cache/counts.rs"]
mod counts;
#[path = "../../../src/cache/facts.rs"]
mod facts;
#[path = "../../../src/cache/fill.rs"]
mod fill;
#[path = "../../../src/cache/flown.rs"]
mod flown;
#[path = "../../../src/cache/known.rs"]
mod known;
#[path = "../../../src/cache/local.rs"]
mod local;
#[path = "../../../src/cache/order.rs"]
mod order;
#[path = "../../../src/cache/read.rs"]
mod read;
#[path = "../../../src/cache/sessions.rs"]
mod sessions;
#[path = "../../../src/cache/sink.rs"]
mod sink;
#[path = "../../../src/cache/waits.rs"]
mod waits;

mod checks;
mod doors;
mod flight;
mod habits;
mod room;
mod scenes;
mod sync;

use std::time::Duration;

use room::Cache;

/// As in the cache.
const CHECK_WINDOW: Duration = Duration::from_secs(1);
