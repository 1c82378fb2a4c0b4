//! Capabilities end to end, one file each: the real binary and real servers.

mod bounded;
mod change_stream;
mod commands;
mod contract_checks;
mod contract_freshness;
mod contract_headers;
mod contract_operations;
mod contract_problems;
mod contract_reads;
mod denials;
mod evictions;
mod interleavings;
mod origin;
mod readme;
mod reads;
mod redis_away;
mod replay;
mod rooms;
mod shared_tier;
mod signatures;
mod three_nodes;
mod webhook_abuse;
mod webhook_refusals;
mod webhooks;
mod webhooks_order;
mod world;
