//! What an answer says about itself: decision, ages, lag, where it was found, ETag. Made without formatting machinery: this
//! is on the way of every hit.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use super::call::Call;
use super::names::{CACHE_STATUS, JSON, NO_STORE, ROLLCALL_AGE, ROLLCALL_DECISION, ROLLCALL_LAG, X_REQUEST_ID};
use crate::cache::{Answer, Source};
use crate::domain::{Moment, digest_of};

/// What was decided. An error never carries one, so a client can tell "no" from "could not find out" by one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A list read, also an empty one.
    List,
    /// A context in which no organization was asked for.
    Context,
    /// A member, in a role asked for.
    Member,
    /// Not a member, or no such organization.
    NotAMember,
    /// A member without the role.
    RoleMissing,
    /// No such user.
    UserUnknown,
}

/// How old an answer is and how far behind the stream, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Since the reading began; 0 when it began for this request.
    pub age_ms: u64,
    /// Since the fence; none where there is none.
    pub lag_ms: Option<u64>,
}

impl Decision {
    /// As written in the header and in a batch's reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Context => "context",
            Self::Member => "member",
            Self::NotAMember => "not-a-member",
            Self::RoleMissing => "role-missing",
            Self::UserUnknown => "user-unknown",
        }
    }
}

impl Ages {
    /// The ages, at its decision, of an answer to this call.
    pub fn of(answer: &Answer, call: &Call<'_>, decided_at: Moment) -> Self {
        let age = match answer.candidate.as_of >= call.arrived {
            true => Duration::ZERO,
            false => decided_at.since(answer.candidate.as_of),
        };
        let lag = decided_at.since(answer.candidate.fence);
        let lag_ms = call.state.cache.knows_its_lag().then_some(lag.as_millis() as u64);
        Self { age_ms: age.as_millis() as u64, lag_ms }
    }

    /// Writes `Age`, `Rollcall-Age` and `Rollcall-Lag`.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(AGE, integer(self.age_ms / 1000));
        headers.insert(ROLLCALL_AGE, integer(self.age_ms));
        headers.insert(ROLLCALL_LAG, self.lag_ms.map_or(HeaderValue::from_static("unknown"), integer));
    }
}

/// Writes everything a decision says about itself.
pub fn describe(headers: &mut HeaderMap, call: &Call<'_>, decision: Decision, answer: &Answer) {
    headers.insert(ROLLCALL_DECISION, HeaderValue::from_static(decision.as_str()));
    headers.insert(CACHE_STATUS, HeaderValue::from_static(cache_status(answer.source)));
    Ages::of(answer, call, answer.decided_at).write(headers);
}

/// A decision with a body: 200, or 304 when the caller has it already.
pub fn respond(call: &Call<'_>, decision: Decision, answer: &Answer, body: Bytes, digest: &[u8; 16]) -> HttpResponse {
    let mut response = carry(call, body, digest);
    describe(response.headers_mut(), call, decision, answer);
    response
}

/// A context for which nobody's memberships were asked. It has no age; its lag says how late it would hear of an end.
pub fn respond_unread(call: &Call<'_>, body: Bytes, lag: Duration) -> HttpResponse {
    let digest = digest_of(&body);
    let mut response = carry(call, body, &digest);
    let headers = response.headers_mut();
    headers.insert(ROLLCALL_DECISION, HeaderValue::from_static(Decision::Context.as_str()));
    let lag_ms = call.state.cache.knows_its_lag().then_some(lag.as_millis() as u64);
    headers.insert(ROLLCALL_LAG, lag_ms.map_or(HeaderValue::from_static("unknown"), integer));
    response
}

fn carry(call: &Call<'_>, body: Bytes, digest: &[u8; 16]) -> HttpResponse {
    let etag = etag(digest);
    let is_known = call.request.headers().contains_key(IF_NONE_MATCH) && matches(call.request.headers(), &etag);
    let mut response = HttpResponse::with_body(StatusCode::OK, body);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_REQUEST_ID, call.id.clone());
    headers.insert(ETAG, etag);
    match is_known {
        true => response.set_body(Bytes::new()).map_into_boxed_body(),
        false => response.map_into_boxed_body(),
    }
}

/// A response without a body of its own kind: evictions, health.
pub fn plain(call: &Call<'_>, status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((CACHE_CONTROL, NO_STORE)).insert_header((X_REQUEST_ID, call.id.clone()));
    response
}

/// Lower-case hexadecimal digits of `bytes`, into twice as many.
pub fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Strong, from the content.
fn etag(digest: &[u8; 16]) -> HeaderValue {
    let mut text = [b'"'; 34];
    hex(digest, &mut text[1..33]);
    HeaderValue::from_bytes(&text).expect("hex in quotes is visible ASCII")
}

/// `If-None-Match`: a list of tags or `*`; a weak tag of the same content is the same here.
fn matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tags.map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

fn integer(value: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(value)).expect("digits are visible ASCII")
}

/// Where an answer was found, as written in the header.
pub fn cache_status(source: Source) -> &'static str {
    match source {
        Source::Local => "rollcall; hit; detail=local",
        Source::Shared => "rollcall; hit; detail=shared",
        Source::Origin => "rollcall; fwd=miss; stored",
        Source::Collapsed => "rollcall; fwd=miss; collapsed",
        Source::Demanded => "rollcall; fwd=request",
        Source::Checked => "rollcall; fwd=stale; detail=denial",
        Source::Grace => "rollcall; hit; detail=grace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_hex_in_quotes_and_matches_lists_stars_and_weak_forms() {
        let tag = etag(&[0xab; 16]);
        let text = format!("\"{}\"", "ab".repeat(16));
        assert_eq!(tag.as_bytes(), text.as_bytes());
        for (given, expected) in [
            (text.clone(), true),
            (format!("\"x\", {text}"), true),
            (format!("W/{text}"), true),
            ("*".into(), true),
            ("\"x\"".into(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(&given).expect("value"));
            assert_eq!(matches(&headers, &tag), expected, "{given}");
        }
    }
}
