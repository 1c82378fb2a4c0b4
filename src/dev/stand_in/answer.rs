//! An answer in Clerk's shape, and the ways in which it goes wrong on the wire.
//!
//! Used by the API routes. The content type is exactly `application/json`, as the official SDKs want it.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::faults::{Act, WAIT_MAX};

/// How long the first half of a cut body has to leave.
const CUT_AFTER: Duration = Duration::from_millis(20);

/// What is to be answered, before anything goes wrong with it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    retry_after: Option<u64>,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, body, retry_after: None }
    }

    /// One error as Clerk writes it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let error = json!({"message": message, "long_message": message, "code": code});
        Self { status, body: json!({"errors": [error], "clerk_trace_id": "stand-in"}), retry_after: None }
    }

    /// A parameter that Clerk would not take.
    pub(super) fn parameter(code: &str, name: &str, message: &str) -> Self {
        let mut answer = Self::error(422, code, message);
        answer.body["errors"][0]["meta"] = json!({ "param_name": name });
        answer
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::error(404, "resource_not_found", message)
    }

    /// The rate limit, with the seconds to wait if they are told.
    pub(super) fn too_many(retry_after: Option<u64>) -> Self {
        let message = "Too many requests, please try again later.";
        Self { retry_after, ..Self::error(429, "too_many_requests", message) }
    }

    /// A status that a fault asks for.
    pub(super) fn faulty(status: u16, retry_after: Option<u64>) -> Self {
        let answer = match status {
            401 => Self::error(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid."),
            429 => Self::too_many(None),
            503 => Self::error(503, "service_unavailable", "The service is unavailable."),
            504 => Self::error(504, "gateway_timeout", "The gateway timed out."),
            500.. => Self::error(status, "internal_clerk_error", "Something went wrong on our end."),
            _ => Self::error(status, "malformed_request_parameters", "The request is malformed."),
        };
        Self { retry_after, ..answer }
    }

    /// Puts it on the wire, right or wrong.
    pub(super) async fn respond(self, act: Option<&Act>) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        let content_type = if act == Some(&Act::ContentType) { "text/html" } else { "application/json" };
        response.insert_header(("content-type", content_type));
        if let Some(seconds) = self.retry_after {
            response.insert_header(("retry-after", seconds.to_string()));
        }
        let body = Bytes::from(self.body.to_string());
        match act {
            Some(Act::Hang) => {
                tokio::time::sleep(WAIT_MAX).await;
                response.no_chunking(body.len() as u64).streaming(broken(Bytes::new()))
            }
            Some(Act::Cut) => {
                let half = body.slice(..body.len() / 2);
                response.no_chunking(body.len() as u64).streaming(broken(half))
            }
            Some(Act::Garbage) => response.body("<html>\u{fffd} not what you asked for"),
            _ => response.body(body),
        }
    }
}

/// A body that begins and then breaks the connection.
fn broken(beginning: Bytes) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(Some(beginning), |state| async move {
        match state {
            Some(beginning) if !beginning.is_empty() => Some((Ok(beginning), Some(Bytes::new()))),
            Some(_) => {
                // Without the wait the beginning would be thrown away together with the connection.
                tokio::time::sleep(CUT_AFTER).await;
                Some((Err(std::io::ErrorKind::ConnectionAborted.into()), None))
            }
            None => None,
        }
    })
}
