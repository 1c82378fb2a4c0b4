//! Properties of the protocol, pure: no server, no clock, no thread. A failing seed is printed and kept.

mod facts;
mod history;
mod memory;
mod model;
mod tiers;
