//! Configuration, resolved and checked: what `serve` runs with.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use crate::http::auth::ServiceKey;
use crate::protocol::freshness::Bounds;

/// Everything a node needs to know, with every relation checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// `sk_live_…` or `sk_test_…`.
    pub clerk_secret_key: SecretString,
    /// Base of the origin's API, without `/v1` and without a slash at the end.
    pub clerk_api_url: String,
    /// `whsec_…`, one or several during a rotation.
    pub webhook_secrets: Vec<SecretString>,
    /// Redis, or none for a single process.
    pub redis_url: Option<SecretString>,
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
    /// How long a stopping node still answers while not ready.
    pub shutdown_delay: Duration,
}
