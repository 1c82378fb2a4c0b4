//! Capabilities end to end, against real servers.

mod world;

mod change_stream;
mod shared_tier;
