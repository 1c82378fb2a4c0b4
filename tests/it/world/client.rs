//! The HTTP client that callers ask with.

use std::time::Duration;

/// Gives up after twenty seconds. It keeps an idle connection for less long than a node, which closes it after five seconds: a
/// request that is sent just then is lost.
pub fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(3));
    builder.timeout(Duration::from_secs(20)).build().expect("a client")
}
