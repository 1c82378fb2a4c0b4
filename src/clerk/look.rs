//! What an operator is told of Clerk: whether it knows the key, which instance that belongs to, and what time it is there.
//! `rollcall check` asks; one request, which Clerk does not count, past budget and breaker.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap};
use tokio::time::timeout;

use super::client::Clerk;
use super::exchange::{self, ExchangeError, Reply};
use super::jwks::{BYTES_MAX, key_set_of};
use crate::clock;
use crate::ports::OriginError;
use crate::token::KeySet;

/// An operator can wait longer than a start.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What Clerk answered.
#[derive(Debug)]
pub struct Seen {
    /// The instance that the key belongs to, `ins_…`; none when Clerk shows no key.
    pub instance: Result<Option<String>, OriginError>,
    /// The instance's keys for session tokens; none where it showed none that can be used.
    pub keys: Option<KeySet>,
    /// How this machine's clock stands to Clerk's; none where no answer told the time.
    pub clock: Option<Offset>,
}

/// How far this machine's clock is from another, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// The distance; zero as far as can be told.
    pub by: Duration,
    /// Whether ours is ahead.
    pub is_ahead: bool,
}

impl Clerk {
    /// Asks for the key set once. The time is told by a refusal too.
    pub async fn look(&self) -> Seen {
        let (url, sent) = (self.url("jwks"), clock::wall());
        let mut offset = None;
        let asking = async {
            let response = exchange::send(self.http(), &url).await?;
            offset = date(response.headers()).map(|date| Offset::of(date, sent, clock::wall()));
            exchange::read(response, BYTES_MAX).await
        };
        let asked: Result<Reply, ExchangeError> = timeout(TIME_MAX, asking).await.unwrap_or(Err(ExchangeError::TimedOut));
        let keys = match &asked {
            Ok(Reply::Body(body)) => KeySet::parse(body).ok(),
            _ => None,
        };
        let instance = asked.and_then(key_set_of).map(|keys| keys.into_instance_id());
        Seen { instance: instance.map_err(|error| error.into_origin_error(|| TIME_MAX)), keys, clock: offset }
    }
}

impl Offset {
    /// From a date, in whole seconds, that was written between two moments of ours.
    fn of(date: Duration, sent: Duration, received: Duration) -> Self {
        let ahead = sent.saturating_sub(date + Duration::from_secs(1));
        let behind = date.saturating_sub(received);
        Self { by: ahead.max(behind), is_ahead: ahead > behind }
    }
}

/// `Date`, since the Unix epoch.
fn date(headers: &HeaderMap) -> Option<Duration> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clerk::script::{Clerklike, answer, json};

    #[test]
    fn a_clock_is_off_by_what_no_delay_explains() {
        let check = |date: u64, sent: u64, received: u64, by: u64, is_ahead: bool| {
            let seconds = Duration::from_secs;
            let offset = Offset::of(seconds(date), seconds(sent), seconds(received));
            assert_eq!(offset, Offset { by: seconds(by), is_ahead }, "{date} {sent} {received}");
        };
        check(1_000, 1_000, 1_000, 0, false);
        check(1_000, 999, 1_002, 0, false);
        check(1_000, 1_001, 1_001, 0, false);
        check(1_000, 1_601, 1_602, 600, true);
        check(1_000, 398, 400, 600, false);
    }

    #[tokio::test]
    async fn a_refusal_tells_the_time_too() {
        let refusal = answer(401, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
        let origin = Clerklike::start(vec![refusal]).await;
        let seen = origin.clerk().look().await;
        assert!(matches!(seen.instance, Err(OriginError::Unauthorized)), "{seen:?}");
        let offset = seen.clock.expect("it told the time");
        assert!(offset.is_ahead && offset.by > Duration::from_secs(365 * 24 * 3600), "{offset:?}");
    }

    #[tokio::test]
    async fn the_instance_is_the_key_sets_and_the_time_may_be_missing() {
        let origin = Clerklike::start(vec![json(200, r#"{"keys":[{"kid":"ins_1"}]}"#)]).await;
        let seen = origin.clerk().look().await;
        assert_eq!((seen.instance.expect("readable").as_deref(), seen.clock), (Some("ins_1"), None));
    }
}
