//! One request: its id, when it arrived, who makes it, and its path taken apart. Upholds I13: ids parse here, once.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::percent_decode_str;

use super::State;
use super::auth::Scope;
use super::names::X_REQUEST_ID;
use super::problem::{Code, Problem};
use super::timing::Stopwatch;
use crate::clock;
use crate::domain::{IdError, Moment, OrganizationRef, Role, UserId};

const ORGANIZATION_ACCEPTED: &str = "an organization id (org_…) or a slug";

/// A request on its way through a handler.
pub struct Call<'a> {
    /// The request.
    pub request: &'a HttpRequest,
    /// What this process is connected to.
    pub state: &'a State,
    /// On every answer, and in logs.
    pub id: HeaderValue,
    /// When it arrived.
    pub arrived: Moment,
    /// How long its stages take.
    pub stopwatch: Stopwatch<'a>,
}

impl<'a> Call<'a> {
    /// Begins a call.
    pub fn begin(request: &'a HttpRequest) -> Self {
        let state = request.app_data::<Data<State>>().expect("every app is given its state");
        let arrived = clock::now();
        let stopwatch = Stopwatch::start(&state.timed_for, arrived);
        Self { request, state, id: request_id(request), arrived, stopwatch }
    }

    /// The answer as it leaves: a problem in its form, and with how long it took where that is told.
    pub fn end(&self, answered: Result<HttpResponse, Problem>) -> HttpResponse {
        let mut response = answered.unwrap_or_else(|problem| problem.respond(&self.id));
        self.stopwatch.tell(response.headers_mut());
        response
    }

    /// Demands a key of at least this scope. The key's name is for logs.
    pub fn authorize(&self, scope: Scope) -> Result<(), Problem> {
        let keys = self.state.keys.load();
        let key = bearer(self.request).and_then(|bytes| keys.find(bytes));
        if let Some(key) = key {
            self.stopwatch.called_with(&key.name);
        }
        self.stopwatch.lap("auth");
        match key {
            None => Err(Problem::new(Code::CallerUnknown, "send Authorization: Bearer with a configured service key")),
            Some(key) if key.scope < scope => {
                Err(Problem::new(Code::ScopeMissing, format!("this needs a key of scope {}", scope.as_str())))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether the caller holds an admin key; nobody is refused for not doing so.
    pub fn is_admin(&self) -> bool {
        self.authorize(Scope::Admin).is_ok()
    }

    /// The user in the path: `/v1/users/{userId}/…`.
    pub fn user(&self) -> Result<UserId, Problem> {
        self.segment(3, "userId", UserId::ACCEPTED, UserId::parse)
    }

    /// The organization in the path: `/v1/users/{userId}/orgs/{org}`.
    pub fn organization(&self) -> Result<OrganizationRef, Problem> {
        self.segment(5, "org", ORGANIZATION_ACCEPTED, OrganizationRef::parse)
    }

    /// The roles in the query; none: any role will do.
    pub fn roles(&self) -> Result<Vec<Role>, Problem> {
        let given = form_urlencoded::parse(self.request.query_string().as_bytes()).filter(|(name, _)| name == "role");
        given.map(|(_, value)| role(&value)).collect()
    }

    /// One segment of the path, percent-decoded once. The router's own decoding is passed by: it leaves some escapes as
    /// they are, so that what it matched is not always what was meant.
    fn segment<T>(
        &self,
        index: usize,
        field: &'static str,
        accepted: &'static str,
        parse: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Result<T, Problem> {
        let raw = self.request.uri().path().split('/').nth(index).unwrap_or_default();
        let decoded = match raw.contains('%') {
            false => Cow::Borrowed(raw),
            true => percent_decode_str(raw)
                .decode_utf8()
                .map_err(|_| Problem::of_id(field, &IdError { what: "text in UTF-8", accepted }))?,
        };
        parse(&decoded).map_err(|error| Problem::of_id(field, &IdError { accepted, ..error }))
    }
}

/// A role in the query.
pub(super) fn role(text: &str) -> Result<Role, Problem> {
    Role::parse(text).map_err(|error| Problem::new(Code::ParameterInvalid, "role is not a role").at("role", error.accepted))
}

/// An organization in the query, refused like one in the path.
pub(super) fn organization_ref(text: &str) -> Result<OrganizationRef, Problem> {
    let refused = |error| Problem::of_id("org", &IdError { accepted: ORGANIZATION_ACCEPTED, ..error });
    OrganizationRef::parse(text).map_err(refused)
}

/// What an `Authorization: Bearer` brings.
pub(super) fn bearer(request: &HttpRequest) -> Option<&[u8]> {
    let value = request.headers().get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

/// The caller's id if it is sane, else one of our own: a counter, scrambled, behind a random start.
fn request_id(request: &HttpRequest) -> HeaderValue {
    let given = request.headers().get(X_REQUEST_ID).filter(|value| is_sane(value.as_bytes()));
    given.cloned().unwrap_or_else(make_request_id)
}

fn is_sane(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

fn make_request_id() -> HeaderValue {
    static NEXT: std::sync::LazyLock<AtomicU64> = std::sync::LazyLock::new(|| {
        let mut start = [0; 8];
        aws_lc_rs::rand::fill(&mut start).expect("the system has randomness");
        AtomicU64::new(u64::from_le_bytes(start))
    });
    // An odd multiplier maps the counter onto all of u64 without a collision.
    let id = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut text = [0; 16];
    super::headers::hex(&id.to_be_bytes(), &mut text);
    HeaderValue::from_bytes(&text).expect("hex is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_short_and_plain() {
        for good in ["a", "req-1_2.3:4", &"x".repeat(128)] {
            assert!(is_sane(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a\"b", "<script>", "ä", &"x".repeat(129)] {
            assert!(!is_sane(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn made_ids_differ() {
        assert_ne!(make_request_id(), make_request_id());
    }
}
