//! Three nodes through drawn histories: people join, leave, change roles and go, organizations are renamed and deleted; what
//! Clerk tells of it comes late, in any order, twice, or never; its answers lag and take their time. Upholds nothing; it asks
//! whether I4 to I8 hold of every answer on the way, and whether all is right in the end.
//!
//! Each node is the cache itself, built here a second time with a clock that the history sets. `town` is what is true, `doors`
//! the origin and the shared tier, `fleet` what may happen, `judge` what an answer must be, `checks` the tests.

#![allow(dead_code, unused_imports, reason = "the cache is built whole")]

#[path = "../../../src/cache/mod.rs"]
mod cache;

mod checks;
mod doors;
mod fleet;
mod judge;
mod town;

use std::time::Duration;

use rollcall::protocol::freshness::Bounds;

/// Nodes of a fleet.
const NODES: usize = 3;
/// How far behind the origin's answers may be. A new membership is expected for longer than that.
const LAG_MAX: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(300);
const STALENESS: Duration = Duration::from_secs(1);

const BOUNDS: Bounds =
    Bounds { staleness: STALENESS, ttl: TTL, grace: Duration::from_secs(600), local_age_max: Duration::from_secs(60) };
