//! Properties of the protocol: no server, no socket, no thread, and no clock but one that is set. A failing case is kept.
//!
//! `facts` and `tiers` are properties of single decisions; `model` looks at everything that can happen in small worlds; `lives`
//! draws long histories of three nodes; `schedules` tries out the order of events inside one. The last two run the files of the
//! cache themselves, built here a second time.

#![allow(clippy::duplicate_mod, reason = "in one of the two, the cache's atomics and locks are others")]

mod clock;
mod facts;
mod history;
mod lives;
mod memory;
mod model;
mod schedules;
mod tiers;

use proptest::test_runner::{Config, FileFailurePersistence};
// What the files of the cache name.
use rollcall::{domain, ports, protocol};

/// So many cases, or `ROLLCALL_TEST_CASES` by hand. What fails is kept beside its test's source, in a file of seeds that every
/// later run begins with.
fn drawn(cases: u32) -> Config {
    let by_hand = std::env::var("ROLLCALL_TEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config {
        cases: by_hand.unwrap_or(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}
