//! Capabilities end to end, one file each: the real binary and real servers.

mod change_stream;
mod commands;
mod evictions;
mod interleavings;
mod readme;
mod reads;
mod replay;
mod rooms;
mod shared_tier;
mod signatures;
mod webhook_abuse;
mod webhook_refusals;
mod webhooks;
mod webhooks_order;
mod world;
