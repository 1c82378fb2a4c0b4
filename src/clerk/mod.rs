//! The origin: Clerk's API behind [`crate::ports::Origin`]. The roof builds it, flights ask it, and nothing else does.
//!
//! Inside: the client (a read from end to end), the gathering of pages to a whole list, the exchange (one request and what its answer means), the budget
//! with its bucket and its turns, the breaker, the key set and the instance's public keys, the spelling of Clerk's JSON. Upholds I8, I9 and I12: only a
//! readable page and a `resource_not_found` are answers, a list is whole or an error, and every wait has an end.

mod breaker;
mod bucket;
mod budget;
mod client;
mod counts;
mod exchange;
mod gather;
mod jwks;
mod look;
mod public_keys;
#[cfg(test)]
mod script;
mod turns;
mod wire;

pub use budget::rate_by_key_kind;
pub use client::{Clerk, Settings, SettingsError};
pub use counts::Counts;
pub use look::{Offset, Seen};
pub use public_keys::WellKnown;
