//! The model: two nodes, a Redis, an origin, a journal and a bag of messages, and everything that may happen between them.
//! Upholds nothing; it asks whether the protocol does. The freshness, the leases, the facts, the windows of a "no" and the
//! continuity of the stream are decided by `protocol` itself, so that the model and production share them.
//!
//! `rules` says which rules hold, `scenes` what may happen; `world` what must always be true; `checks` are the tests: with
//! all rules on the checker finds nothing, and with any one off it finds the mistake that the rule is there for.

mod checks;
mod fill;
mod ingest;
mod life;
mod losses;
mod node;
mod reader;
mod redis;
mod rules;
mod scene;
mod scenes;
mod state;
mod steps;
mod world;
