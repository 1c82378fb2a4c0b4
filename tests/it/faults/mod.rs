//! Three processes on one Redis and one PostgreSQL, to which everything happens at once: the world changes, messages come
//! twice, late, out of order, or are lost and sent again, readers ask every node, and faults drawn from a seed strike. A judge
//! with a clock of its own holds every answer against the acknowledged history and against what the answer says of itself.
//! When the faults are over every node agrees with the origin, and nothing is open. I2 to I8, I10.
//!
//! # What strikes
//!
//! Four lanes that know nothing of each other; within each, every fault comes once before any comes again.
//!
//! - a node's link to Redis: cut, stalled, half-open, cut after some bytes of answers, slow, slow for the change stream alone
//! - a node's link to its journal: cut, stalled, half-open, cut after some bytes
//! - a node: SIGSTOP, SIGKILL and a new start, SIGSTOP while the stream is trimmed past it
//! - Redis: SIGSTOP, back empty, back from an old snapshot, out of memory, a step of its clock
//!
//! And all along, by the seed: an origin that is quick, slow, or answers with what was true a while ago; a short TTL.
//!
//! # What is judged
//!
//! Lists, single memberships by id and by slug, roles, batches; some readers demand a new reading, some bear little lag. The
//! node decides somewhere between the sending of a request and the arrival of its answer, and only what was wrong through
//! all of that time is held against it. No ended membership, old role or old name later than the bound after its
//! acknowledgement, or than the answer's own `Rollcall-Lag` and `Rollcall-Age` say; no gap, no false "no". No header past the
//! bound or the TTL, none that contradicts another, and no fence from a time in which nothing came through from Redis.
//!
//! # By hand
//!
//! `ROLLCALL_TEST_SEEDS=41,42 ROLLCALL_TEST_SECONDS=60 ROLLCALL_TEST_FAULTS=NodeDies,Cut cargo test --test it faults::seeds -- --nocapture`
//! runs these seeds side by side, so long, with faults whose names hold one of these words.

mod links;
mod plan;
mod promptness;
mod run;
mod seeds;
mod single;
#[cfg(feature = "rule-switches")]
pub mod switched;
