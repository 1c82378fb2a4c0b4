#![doc = include_str!("ARCHITECTURE.md")]

// The ground floor: values in, values out.
pub mod domain;
pub mod protocol;
pub mod token;
pub mod webhook;

// The middle floor: the doors, and what stands behind each.
pub mod clerk;
pub mod clock;
pub mod journal;
pub mod memory;
pub mod ports;
pub mod redis;

// The upper floor: where answers and changes are made.
pub mod cache;
pub mod ingest;
pub mod session;

// The street.
pub mod http;

// The roof: who knows everyone.
pub mod app;
pub mod cli;
pub mod config;
pub mod dev;
pub mod telemetry;
