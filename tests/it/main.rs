//! Capabilities end to end, one file each: the real binary and real servers.

mod bounded;
mod change_stream;
mod commands;
mod interleavings;
mod reads;
mod redis_away;
mod shared_tier;
mod three_nodes;
mod world;
