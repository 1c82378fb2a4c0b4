//! Capabilities end to end, one file each: the real binary and real servers.

mod change_stream;
mod commands;
mod readme;
mod reads;
mod rooms;
mod shared_tier;
mod world;
