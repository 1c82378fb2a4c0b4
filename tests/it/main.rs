//! Capabilities end to end, one file each: the real binary and real servers.

mod commands;
mod reads;
mod world;
