//! The client: a read from beginning to end, and each request on its way through breaker, budget and exchange. Flights call
//! it through [`Origin`]; how pages become a list is next door, in `gather`.
//!
//! Upholds I12: 4 s for the whole read, waits included. A read that is dropped at any await leaves the queue of the budget;
//! the breaker holds nothing of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use super::breaker::{Breaker, Health};
use super::budget::Budget;
use super::counts::Counts;
use super::exchange::{self, ExchangeError, Reply};
use crate::clock;
use crate::domain::UserId;
use crate::ports::{Origin, OriginAnswer, OriginError, OriginStanding, Priority};

/// The whole read, waits for the budget included.
const READ_TIME_MAX: Duration = Duration::from_secs(4);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
const IDLE_CONNECTIONS_MAX: usize = 32;
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIME_MAX: Duration = Duration::from_secs(2);
/// Of Clerk's API; the shapes we read are the same in all its versions, but the default is the instance's.
const API_VERSION: HeaderValue = HeaderValue::from_static("2026-05-12");
/// A wrong key fails every read; once a minute says it.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// What the origin needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `sk_live_…` or `sk_test_…`.
    pub secret_key: SecretString,
    /// Base of the API, without `/v1`.
    pub api_url: String,
    /// Requests per 10 s of the whole fleet.
    pub rate: u32,
}

/// Settings that cannot work. Names the setting, never its text.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot stand in a header.
    #[error("the secret key holds characters that no key has")]
    SecretKey,
    /// Neither http nor https, or no URL at all.
    #[error("the API's URL is not an http or https URL")]
    ApiUrl,
    /// No TLS, usually for want of root certificates.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Clerk.
#[derive(Debug)]
pub struct Clerk {
    http: reqwest::Client,
    /// With `/v1`, without a slash at the end.
    base: String,
    read_time_max: Duration,
    budget: Budget,
    /// Held for a few instructions, never over an await.
    breaker: Mutex<Breaker>,
    pub(super) counts: Counts,
    /// Of the key.
    complaints: clock::Pace,
}

impl Clerk {
    /// Makes the client. Connects to nothing yet.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        Self::with_read_time(settings, READ_TIME_MAX)
    }

    pub(super) fn with_read_time(settings: Settings, read_time_max: Duration) -> Result<Self, SettingsError> {
        let base = settings.api_url.trim_end_matches('/');
        let http = builder(base)?.default_headers(headers(&settings.secret_key)?);
        Ok(Self {
            http: http.build().map_err(SettingsError::Client)?,
            base: format!("{base}/v1"),
            read_time_max,
            budget: Budget::new(settings.rate),
            breaker: Mutex::default(),
            counts: Counts::default(),
            complaints: clock::Pace::new(COMPLAINT_EVERY),
        })
    }

    /// Divides the fleet's budget by the nodes alive, from now on.
    pub fn set_nodes(&self, nodes: u32) {
        self.budget.set_nodes(nodes);
    }

    /// What this room counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    async fn read_memberships(&self, user: &UserId, priority: Priority) -> Result<OriginAnswer, OriginError> {
        let began = Instant::now();
        let until = began + self.read_time_max;
        // Each request keeps the same limit and notes its own failure; this one bounds the waits between them.
        let gathering = timeout_at(until, self.gather_whole(user, priority, until));
        let answer = gathering.await.unwrap_or(Err(ExchangeError::TimedOut)).map_err(|error| self.told(error, priority))?;
        self.counts.read_seconds.observe(began.elapsed().as_secs_f64());
        Ok(answer)
    }

    fn told(&self, error: ExchangeError, priority: Priority) -> OriginError {
        if matches!(error, ExchangeError::TooLarge { .. }) {
            self.counts.oversized.inc();
        }
        error.into_origin_error(|| self.budget.refusal(priority).retry_after)
    }

    /// One request: breaker, budget, exchange, and what the outcome means for the two.
    pub(super) async fn request(
        &self,
        url: &str,
        priority: Priority,
        until: Instant,
        bytes_max: usize,
    ) -> Result<Reply, ExchangeError> {
        // Looked at before the wait, so that an open breaker answers at once, and asked after it, so that no probe is
        // spent on somebody who never gets to send it.
        if !self.breaker().may_admit(clock::now()) {
            return Err(ExchangeError::BreakerOpen);
        }
        let patience = until.saturating_duration_since(Instant::now());
        if let Err(refused) = self.budget.acquire(priority, patience).await {
            self.counts.refused(priority);
            return Err(ExchangeError::BudgetSpent { retry_after: refused.retry_after });
        }
        if !self.breaker().admit(clock::now()) {
            return Err(ExchangeError::BreakerOpen);
        }
        let exchange = exchange::get(&self.http, url, bytes_max);
        let outcome = timeout_at(until, exchange).await.unwrap_or(Err(ExchangeError::TimedOut));
        self.learn(&outcome);
        outcome
    }

    fn learn(&self, outcome: &Result<Reply, ExchangeError>) {
        match outcome {
            Ok(Reply::NotFound) => {
                self.counts.request("user_unknown");
                self.note(Health::Answered);
            }
            // What the body is worth shows when it is parsed.
            Ok(Reply::Body(_)) => {}
            Err(error) => {
                self.counts.request(error.outcome());
                self.note(error.health());
                self.obey(error);
            }
        }
    }

    fn obey(&self, error: &ExchangeError) {
        match error {
            ExchangeError::Limited { retry_after } => {
                if !self.budget.is_paused() {
                    tracing::warn!(
                        duration_ms = retry_after.map(|time| time.as_millis() as u64),
                        "the origin asks us to slow down"
                    );
                }
                self.budget.slow_down(*retry_after);
            }
            ExchangeError::Unauthorized | ExchangeError::Refused { .. } if self.complaints.is_due(clock::now()) => {
                tracing::error!(%error, "the origin refuses our requests: look at the secret key and the instance");
            }
            _ => {}
        }
    }

    pub(super) fn note(&self, health: Health) {
        if self.breaker().note(health, clock::now()) {
            self.counts.breaker_opened.inc();
            tracing::warn!("the origin fails; one request a second until it answers");
        }
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin for Clerk {
    fn read<'a>(&'a self, user: &'a UserId, priority: Priority) -> BoxFuture<'a, Result<OriginAnswer, OriginError>> {
        Box::pin(self.read_memberships(user, priority))
    }

    fn standing(&self) -> OriginStanding {
        OriginStanding {
            is_breaker_open: self.breaker().is_open(),
            budget_factor: self.budget.factor(),
            is_budget_spent: self.budget.is_spent(),
            is_paused: self.budget.is_paused(),
            waiting: self.budget.waiting(),
            request_interval: self.budget.interval(),
        }
    }
}

/// A client for what is at this base, without a key.
pub(super) fn builder(base: &str) -> Result<reqwest::ClientBuilder, SettingsError> {
    let url = reqwest::Url::parse(base).map_err(|_| SettingsError::ApiUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SettingsError::ApiUrl);
    }
    let http = reqwest::Client::builder()
        .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
        // A redirect would carry the key elsewhere, and Clerk sends none.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        // One HTTP/2 connection carries everything: when it dies in silence it must not be asked again and again.
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_TIME_MAX);
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    Ok(if is_here { http.no_proxy() } else { http })
}

fn headers(secret_key: &SecretString) -> Result<HeaderMap, SettingsError> {
    let bearer = format!("Bearer {}", secret_key.expose_secret().trim());
    let mut bearer = HeaderValue::try_from(bearer).map_err(|_| SettingsError::SecretKey)?;
    bearer.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer), (HeaderName::from_static("clerk-api-version"), API_VERSION)]))
}

#[cfg(test)]
mod tests;
