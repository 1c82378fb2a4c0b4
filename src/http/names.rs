//! Header names and constant values, made once.

use actix_web::http::header::{HeaderName, HeaderValue};

/// On every answer: an intermediary must never keep one.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");
/// The body of a list or a membership.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Names a request through logs.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// On decisions only.
pub const ROLLCALL_DECISION: HeaderName = HeaderName::from_static("rollcall-decision");
/// Age of the reading in milliseconds.
pub const ROLLCALL_AGE: HeaderName = HeaderName::from_static("rollcall-age");
/// Lag of the fence in milliseconds.
pub const ROLLCALL_LAG: HeaderName = HeaderName::from_static("rollcall-lag");
/// RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// In: lag tolerated, in milliseconds.
pub const ROLLCALL_MAX_LAG: &str = "rollcall-max-lag";
