//! Every way to say no or "could not find out", in one table (RFC 9457). The only place where errors become HTTP.
//!
//! 4xx: the caller's request. 500: we are broken. 503: something we need is away, and nothing was found out about the user.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use utoipa::ToSchema;

use super::names::{NO_STORE, X_REQUEST_ID};
use crate::cache::ReadError;
use crate::domain::IdError;
use crate::session::Refusal;
use crate::token::TokenError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $status:literal, $title:literal;)+) => {
        /// A stable code of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            /// The whole table.
            pub const ALL: &[Code] = &[$(Code::$name,)+];

            /// The code as callers see it.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)+ }
            }

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$name => $status,)+ };
                StatusCode::from_u16(status).expect("the table holds valid statuses")
            }

            /// What it means, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// A user or organization in the path.
    IdMalformed = "id-malformed", 400, "The id is malformed";
    /// A query parameter or a header.
    ParameterInvalid = "parameter-invalid", 400, "A parameter is invalid";
    /// A request body.
    BodyMalformed = "body-malformed", 400, "The body is malformed";
    /// A signature header missing, doubled, or of mixed families.
    DeliveryMalformed = "delivery-malformed", 400, "The delivery is malformed";
    /// A right signature with a time outside the tolerance: our clock, or a replay.
    MessageTooOld = "message-too-old", 400, "The message's timestamp is outside the tolerance";
    /// Never says which part was wrong.
    SignatureInvalid = "signature-invalid", 401, "The signature is invalid";
    /// No key, or one that is not configured; no session token.
    CallerUnknown = "caller-unknown", 401, "A known credential is required";
    /// Its signature, issuer, algorithm or key: never says which.
    TokenInvalid = "token-invalid", 401, "The session token is invalid";
    /// It was valid.
    TokenExpired = "token-expired", 401, "The session token has expired";
    /// It will be valid, or one of the clocks is wrong.
    TokenNotYetValid = "token-not-yet-valid", 401, "The session token is not yet valid";
    /// A machine's, an API key, a template's.
    TokenKindRefused = "token-kind-refused", 401, "The token is not of a session";
    /// Signed out, revoked, or the user is gone or banned.
    SessionEnded = "session-ended", 401, "The session has ended";
    /// The key may not do this.
    ScopeMissing = "scope-missing", 403, "The key lacks the scope";
    /// A decision: a member, in another role.
    RoleMissing = "role-missing", 403, "The user is a member without the role";
    /// The token was minted for an origin that is not among the authorized parties.
    PartyUnauthorized = "party-unauthorized", 403, "The token was minted for another party";
    /// The session has tasks left before it counts as signed in.
    SessionPending = "session-pending", 403, "The session is pending";
    /// A decision: not a member, or no such organization.
    NotAMember = "not-a-member", 404, "The user is not a member of the organization";
    /// A decision: no such user.
    UserUnknown = "user-unknown", 404, "The user is unknown";
    /// No such path.
    RouteUnknown = "route-unknown", 404, "There is no such route";
    /// Another method is needed.
    MethodNotAllowed = "method-not-allowed", 405, "The method is not allowed here";
    /// The body did not arrive in time.
    BodyTimeout = "body-timeout", 408, "The body did not arrive in time";
    /// The body is over the limit.
    BodyTooLarge = "body-too-large", 413, "The body is too large";
    /// A content type or encoding that is not taken.
    MediaTypeUnsupported = "media-type-unsupported", 415, "The media type is not supported";
    /// Clerk cannot be asked.
    OriginUnavailable = "origin-unavailable", 503, "The origin could not be asked";
    /// Clerk's limit, or our share of it.
    OriginRateLimited = "origin-rate-limited", 503, "The origin's rate limit is reached";
    /// The journal cannot record.
    JournalUnavailable = "journal-unavailable", 503, "The journal could not record";
    /// Redis cannot confirm.
    SharedUnavailable = "shared-unavailable", 503, "The shared tier could not confirm";
    /// Too much at once.
    Overloaded = "overloaded", 503, "Too many requests at once";
    /// `only-if-cached`, and nothing cached would do.
    NotCached = "not-cached", 504, "Nothing cached answers this";
    /// A bug. No inner text.
    Internal = "internal", 500, "Something is broken here";
}

/// A refusal, on its way to become a response.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What kind.
    pub code: Code,
    detail: String,
    field: Option<String>,
    accepted: Option<String>,
    retry_after: Option<Duration>,
}

/// A problem as it goes over the wire (RFC 9457).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// `urn:rollcall:problem:` and the code.
    #[schema(pattern = "^urn:rollcall:problem:[a-z-]+$")]
    r#type: String,
    /// What the code means.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What to branch on.
    #[schema(value_type = Code)]
    code: &'a str,
    /// A sentence for the person who reads it.
    detail: &'a str,
    /// As in `X-Request-Id`.
    request_id: &'a str,
    /// The one thing that was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    field: Option<&'a str>,
    /// What is accepted there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    accepted: Option<&'a str>,
}

impl Problem {
    /// A problem with a sentence for the person who reads it.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1));
        Self { code, detail: detail.into(), field: None, accepted: None, retry_after }
    }

    /// Names the one thing that was wrong, and what is accepted there.
    pub fn at(mut self, field: impl Into<String>, accepted: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self.accepted = Some(accepted.into());
        self
    }

    /// An id in the path that did not parse.
    pub fn of_id(field: &str, error: &IdError) -> Self {
        Self::new(Code::IdMalformed, format!("{field} is not {}", error.what.trim_start_matches("not ")))
            .at(field, error.accepted)
    }

    /// Without `Retry-After`: the sender of webhooks can only lengthen its delays by it.
    pub fn without_retry_after(mut self) -> Self {
        self.retry_after = None;
        self
    }

    /// The response.
    pub fn respond(&self, request_id: &HeaderValue) -> HttpResponse {
        let body = Body {
            r#type: format!("urn:rollcall:problem:{}", self.code.slug()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.slug(),
            detail: &self.detail,
            request_id: request_id.to_str().unwrap_or_default(),
            field: self.field.as_deref(),
            accepted: self.accepted.as_deref(),
        };
        let mut response = HttpResponse::build(self.code.status());
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        response.insert_header((CACHE_CONTROL, NO_STORE));
        response.insert_header((X_REQUEST_ID, request_id.clone()));
        if self.code.status() == StatusCode::UNAUTHORIZED && self.code != Code::SignatureInvalid {
            response.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        if let Some(retry_after) = self.retry_after {
            let seconds = retry_after.as_millis().div_ceil(1000).max(1) as u64;
            response.insert_header((RETRY_AFTER, HeaderValue::from(seconds)));
        }
        response.body(serde_json::to_vec(&body).expect("strings and integers always serialise"))
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let retrying = |code, retry_after, detail: &str| Self { retry_after: Some(retry_after), ..Self::new(code, detail) };
        match error {
            ReadError::NotCached => {
                Self::new(Code::NotCached, "nothing cached is fresh enough, and only-if-cached forbids asking the origin")
            }
            ReadError::AllowanceSpent => {
                Self::new(Code::OriginRateLimited, "it could not be found out: the batch may ask the origin no more")
            }
            ReadError::RateLimited { retry_after } => {
                retrying(Code::OriginRateLimited, retry_after, "it could not be found out: the origin's rate limit is reached")
            }
            ReadError::OriginUnavailable { retry_after } => {
                retrying(Code::OriginUnavailable, retry_after, "it could not be found out: the origin did not answer")
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = match refusal {
            Refusal::Token(TokenError::Invalid { .. }) => (Code::TokenInvalid, "this is no valid session token of this instance"),
            Refusal::Token(TokenError::Expired) => (Code::TokenExpired, "get a fresh token from the session"),
            Refusal::Token(TokenError::NotYetValid) => {
                (Code::TokenNotYetValid, "one of the clocks is wrong, or it came too early")
            }
            Refusal::Token(TokenError::KindRefused) => (Code::TokenKindRefused, "only session tokens are taken here"),
            Refusal::Token(TokenError::PartyUnauthorized) => {
                (Code::PartyUnauthorized, "its azp is missing, or not among the authorized parties")
            }
            Refusal::Token(TokenError::SessionPending) => (Code::SessionPending, "the user has tasks to complete first"),
            Refusal::SessionEnded => (Code::SessionEnded, "the session has ended, or its user is gone or banned"),
            Refusal::KeysUnavailable { retry_after } => {
                let detail = "it could not be found out: the instance's keys could not be fetched";
                return Self { retry_after: Some(retry_after), ..Self::new(Code::OriginUnavailable, detail) };
            }
            Refusal::InDoubt => (
                Code::SharedUnavailable,
                "it could not be found out: whether the session has ended may not have been heard here yet",
            ),
        };
        Self::new(code, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_is_its_own_and_every_status_an_error() {
        let mut slugs: Vec<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.status().as_u16() >= 400));
    }

    #[test]
    fn what_could_not_be_found_out_says_when_to_retry() {
        let id = HeaderValue::from_static("r1");
        for code in Code::ALL {
            let response = Problem::new(*code, "d").respond(&id);
            let has_retry_after = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(has_retry_after, code.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", code.slug());
            assert!(!Problem::new(*code, "d").without_retry_after().respond(&id).headers().contains_key(RETRY_AFTER));
        }
    }
}
