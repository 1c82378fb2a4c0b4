//! One request to Clerk and what its answer means. The client and the key set call it; it knows neither budget nor breaker.
//!
//! Upholds I8: what is neither a readable page nor Clerk's own `resource_not_found` is an error, never an absence. Upholds
//! I12: a body is read up to a limit that the caller gives. Errors carry phrases and Clerk's error codes, never a body, a
//! URL or an id.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::breaker::Health;
use super::wire;
use crate::ports::OriginError;

/// Error bodies are a few hundred bytes.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// What Clerk answered.
#[derive(Debug)]
pub(super) enum Reply {
    /// 200 with JSON: the body, in full.
    Body(Vec<u8>),
    /// 404 with Clerk's own code for it.
    NotFound,
}

/// Why there is no answer, by what the client does about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// 5xx or no connection: worth another try.
    #[error("{what}")]
    Failed { what: String },
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// 429, with the pause it asks for.
    #[error("rate limited by the origin")]
    Limited { retry_after: Option<Duration> },
    /// 401: the key is wrong.
    #[error("the key is refused")]
    Unauthorized,
    /// Another 4xx: our request is refused, and would be again.
    #[error("{what}")]
    Refused { what: String },
    /// An answer that cannot be read.
    #[error("{what}")]
    Malformed { what: &'static str },
    /// An answer beyond the limits.
    #[error("{what}")]
    TooLarge { what: &'static str },
    /// The breaker is open; nothing was sent.
    #[error("the breaker is open")]
    BreakerOpen,
    /// The budget is spent; nothing was sent.
    #[error("the budget is spent")]
    BudgetSpent { retry_after: Duration },
}

impl ExchangeError {
    /// Whether the same request may well succeed in a moment.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// What it says of the origin's health.
    pub(super) fn health(&self) -> Health {
        match self {
            Self::Failed { .. } | Self::TimedOut | Self::Malformed { .. } => Health::Failed,
            Self::Limited { .. } | Self::BreakerOpen | Self::BudgetSpent { .. } => Health::Limited,
            Self::Unauthorized | Self::Refused { .. } | Self::TooLarge { .. } => Health::Answered,
        }
    }

    /// The outcome as counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "failed",
            Self::TimedOut => "timed_out",
            Self::Limited { .. } => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::Refused { .. } => "refused",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "oversized",
            Self::BreakerOpen => "breaker_open",
            Self::BudgetSpent { .. } => "budget_spent",
        }
    }

    /// As the rooms above know it. `retry_after` is for the origin's 429.
    pub(super) fn into_origin_error(self, retry_after: impl FnOnce() -> Duration) -> OriginError {
        match self {
            Self::Failed { what } | Self::Refused { what } => OriginError::Unavailable { what },
            Self::TimedOut => OriginError::TimedOut,
            Self::Limited { .. } => OriginError::RateLimited { retry_after: retry_after() },
            Self::Unauthorized => OriginError::Unauthorized,
            Self::Malformed { what } | Self::TooLarge { what } => OriginError::Malformed { what: what.to_owned() },
            Self::BreakerOpen => OriginError::Unavailable { what: "the breaker is open".to_owned() },
            Self::BudgetSpent { retry_after } => OriginError::RateLimited { retry_after },
        }
    }
}

/// Sends one GET and reads its answer, at most `bytes_max` of it. Dropping it drops the connection's use, nothing else.
pub(super) async fn get(http: &reqwest::Client, url: &str, bytes_max: usize) -> Result<Reply, ExchangeError> {
    let response = send(http, url).await?;
    read(response, bytes_max).await
}

/// The first half of it: an answer has begun.
pub(super) async fn send(http: &reqwest::Client, url: &str) -> Result<Response, ExchangeError> {
    http.get(url).send().await.map_err(failed)
}

/// The second half: what it means.
pub(super) async fn read(response: Response, bytes_max: usize) -> Result<Reply, ExchangeError> {
    match response.status() {
        StatusCode::OK if is_json(&response) => body(response, bytes_max).await.map(Reply::Body),
        StatusCode::OK => Err(ExchangeError::Malformed { what: "an answer that is not JSON" }),
        StatusCode::NOT_FOUND => match error_code(response).await.as_deref() {
            Some("resource_not_found") => Ok(Reply::NotFound),
            // A proxy's 404, or another of Clerk's: it says nothing about this user.
            Some(_) | None => Err(ExchangeError::Malformed { what: "a 404 that is not about a user" }),
        },
        StatusCode::UNAUTHORIZED => Err(ExchangeError::Unauthorized),
        StatusCode::TOO_MANY_REQUESTS => Err(ExchangeError::Limited { retry_after: retry_after(&response) }),
        status if status.is_server_error() => Err(ExchangeError::Failed { what: format!("status {}", status.as_u16()) }),
        status if status.is_client_error() => {
            let code = error_code(response).await.unwrap_or_else(|| "no code".to_owned());
            Err(ExchangeError::Refused { what: format!("status {}, {code}", status.as_u16()) })
        }
        _ => Err(ExchangeError::Malformed { what: "a status that is no answer" }),
    }
}

/// An absent type is judged by the body alone.
fn is_json(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_none_or(|value| value.to_str().is_ok_and(|text| text.contains("json")))
}

/// Clerk sends whole seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn error_code(response: Response) -> Option<String> {
    let body = body(response, ERROR_BODY_MAX).await.ok()?;
    wire::error_code(&body)
}

/// Reads the body in full; counted as it comes, after decompression, so that a small answer cannot become a large one.
async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if chunk.len() > bytes_max - body.len() {
            return Err(ExchangeError::TooLarge { what: "an answer of too many bytes" });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// reqwest's own text may hold the URL, and with it an id.
fn failed(error: reqwest::Error) -> ExchangeError {
    let what = match () {
        () if error.is_connect() => "no connection",
        () if error.is_timeout() => "no connection in time",
        () if error.is_body() || error.is_decode() => "the answer broke off",
        () => "the request failed",
    };
    ExchangeError::Failed { what: what.to_owned() }
}
