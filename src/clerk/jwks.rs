//! Clerk's key set, as far as it tells which instance the secret key belongs to, and whether Clerk is back. The roof asks at
//! start, so that one Redis prefix never serves two instances (I13), and whenever the breaker is open and forgotten. Clerk
//! does not count these requests, so neither does the budget.

use std::time::Duration;

use tokio::time::timeout;

use super::client::Clerk;
use super::exchange::{self, ExchangeError, Reply};
use super::wire::Jwks;
use crate::clock;
use crate::ports::OriginError;

/// Start does not wait longer for it.
const TIME_MAX: Duration = Duration::from_secs(2);
/// A key set is a few kilobytes.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

impl Clerk {
    /// The instance that the secret key belongs to, `ins_…`; none when Clerk shows no key.
    pub async fn instance_id(&self) -> Result<Option<String>, OriginError> {
        match self.key_set().await {
            Ok(keys) => Ok(keys.into_instance_id()),
            Err(error) => {
                let asked = match &error {
                    ExchangeError::Limited { retry_after } => retry_after.unwrap_or(TIME_MAX),
                    _ => TIME_MAX,
                };
                Err(error.into_origin_error(|| asked))
            }
        }
    }

    /// Probes an open breaker that nobody's read has probed for a while: a node that is not ready is sent no reads, and
    /// would never learn that the origin is back.
    pub async fn look_again(&self) {
        if self.is_probe_left_to_us() {
            match self.key_set().await {
                // The key set is well, which says little of the rest: the next read finds out.
                Ok(_) => self.breaker().half_close(),
                Err(error) => self.note(error.health()),
            }
        }
    }

    fn is_probe_left_to_us(&self) -> bool {
        let (now, mut breaker) = (clock::now(), self.breaker());
        breaker.is_forgotten(now) && breaker.admit(now)
    }

    async fn key_set(&self) -> Result<Jwks, ExchangeError> {
        let url = self.url("jwks");
        let exchange = exchange::get(self.http(), &url, BYTES_MAX);
        key_set_of(timeout(TIME_MAX, exchange).await.unwrap_or(Err(ExchangeError::TimedOut))?)
    }
}

/// The key set in an answer.
pub(super) fn key_set_of(reply: Reply) -> Result<Jwks, ExchangeError> {
    match reply {
        Reply::Body(body) => Jwks::parse(&body).map_err(|_| ExchangeError::Malformed { what: "a key set we cannot read" }),
        Reply::NotFound => Err(ExchangeError::Malformed { what: "no key set" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clerk::script::{Clerklike, json};

    #[tokio::test]
    async fn the_instance_is_read_from_the_first_key() {
        let origin = Clerklike::start(vec![json(200, r#"{"keys":[{"use":"sig","kid":"ins_1","kty":"RSA"}]}"#)]).await;
        assert_eq!(origin.clerk().instance_id().await.expect("readable").as_deref(), Some("ins_1"));
        assert!(origin.requests()[0].starts_with("GET /v1/jwks "));
    }

    #[tokio::test]
    async fn a_closed_breaker_is_not_probed() {
        let origin = Clerklike::start(vec![json(200, r#"{"keys":[]}"#)]).await;
        origin.clerk().look_again().await;
        assert!(origin.requests().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_key_set_is_an_error() {
        for (status, body) in [(200, "{}"), (200, "null"), (500, "{}"), (404, r#"{"errors":[{"code":"resource_not_found"}]}"#)] {
            let origin = Clerklike::start(vec![json(status, body)]).await;
            assert!(origin.clerk().instance_id().await.is_err(), "{status} {body}");
        }
        let origin = Clerklike::start(vec![json(401, "{}")]).await;
        assert!(matches!(origin.clerk().instance_id().await, Err(OriginError::Unauthorized)));
    }
}
