//! Configuration, resolved and checked: what `serve` runs with.
//!
//! In: flags, environment and `rollcall.toml` ([`Settings::gather`]). Out: a [`Config`] in which every relation holds, or a
//! [`ConfigError`] with everything that is wrong. Secrets stay in redacting types from the first moment. The words for all
//! of it are in one [`TABLE`].

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use crate::http::TimedFor;
use crate::http::auth::ServiceKey;
use crate::ingest::{Keep, SweepPace};
use crate::protocol::freshness::{Bounds, Consistency};

mod args;
mod error;
mod file;
mod layers;
mod parse;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod timing;
mod tokens;

pub use args::Typed;
pub use error::{ConfigError, Problem, Shown};
pub use file::read_secret;
pub use layers::{Environment, Settings, Source};
pub use parse::key_name;
pub use table::{Flag, Name, Setting, TABLE, markdown};
pub use tokens::{TokenKeys, Tokens};

/// Everything a node needs to know, with every relation checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where metrics are given without a key, or nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// `sk_live_…` or `sk_test_…`.
    pub clerk_secret_key: SecretString,
    /// Base of the origin's API, without `/v1` and without a slash at the end.
    pub clerk_api_url: String,
    /// `whsec_…`, one or several during a rotation.
    pub webhook_secrets: Vec<SecretString>,
    /// How session tokens are verified.
    pub tokens: Tokens,
    /// Redis, or none for a single process.
    pub redis_url: Option<SecretString>,
    /// How many replicas of Redis every write, and every question that moves the fence, waits for.
    pub redis_replicas: u32,
    /// What is promised of answers.
    pub consistency: Consistency,
    /// The journal: `sqlite://…` or `postgres://…`.
    pub database_url: SecretString,
    /// How long settled messages are kept.
    pub journal_retention: Duration,
    /// What is kept of a message.
    pub journal_keep: Keep,
    /// Prefix of every key in Redis.
    pub key_prefix: String,
    /// Service keys.
    pub api_keys: Vec<ServiceKey>,
    /// TTL, grace, staleness bound, local age.
    pub bounds: Bounds,
    /// Bytes of the local tier; 0 switches it off.
    pub local_bytes_max: u64,
    /// Origin requests per 10 s of the whole fleet.
    pub origin_rate: u32,
    /// How fast the sweep looks for what no webhook told; no setting, because its share of the budget bounds it.
    pub sweep: SweepPace,
    /// Who is told in `Server-Timing` how long a call took.
    pub timed_for: TimedFor,
    /// How long a stopping node still answers while not ready.
    pub shutdown_delay: Duration,
    /// Whether anybody may see the description of the HTTP surface; no setting: only `dev` opens it.
    pub is_description_open: bool,
}

/// What may be exchanged while the service runs.
#[derive(Debug, Clone)]
pub struct Rotating {
    /// Service keys.
    pub api_keys: Vec<ServiceKey>,
    /// `whsec_…`, one or several.
    pub webhook_secrets: Vec<SecretString>,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default)]
pub struct Logging {
    /// A filter that was parsed once already.
    pub filter: String,
    /// None: text on a terminal, else JSON.
    pub format: Option<LogFormat>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
