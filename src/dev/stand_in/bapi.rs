//! Clerk's Backend API, as far as rollcall and those who try it ask: a user, a user's memberships, one organization, the
//! signing keys; and a session's tokens.
//!
//! Every request is counted first, then checked (key, version, rate), then answered from the world, and only then held,
//! delayed or spoilt: so a late answer is an old one.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::answer::Answer;
use super::faults::Act;
use super::tokens::{self, NewToken};
use crate::clock;

/// The versions of Clerk's API; the membership routes are the same in all of them.
const VERSIONS: [&str; 6] = ["2021-02-05", "2024-10-01", "2025-03-12", "2025-04-10", "2025-11-10", "2026-05-12"];
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 500;

const USER: &str = "GET /v1/users/{user_id}";
const MEMBERSHIPS: &str = "GET /v1/users/{user_id}/organization_memberships";
const ORGANIZATION: &str = "GET /v1/organizations/{id_or_slug}";
const JWKS: &str = "GET /v1/jwks";
/// The document that everybody may read.
const PUBLIC_JWKS: &str = "GET /.well-known/jwks.json";
const TOKENS: &str = "POST /v1/sessions/{session_id}/tokens";
const UNKNOWN: &str = "(unknown)";

/// The routes under `/v1`, and the public document of keys.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.route("/.well-known/jwks.json", web::get().to(public_jwks)).service(
        web::scope("/v1")
            .route("/users/{user}", web::get().to(user))
            .route("/users/{user}/organization_memberships", web::get().to(memberships))
            .route("/organizations/{organization}", web::get().to(organization))
            .route("/jwks", web::get().to(jwks))
            .route("/sessions/{session}/tokens", web::post().to(session_token))
            .default_service(web::to(unknown)),
    );
}

/// One request on its way through the stand-in.
struct Asked<'a> {
    shared: Arc<Shared>,
    request: &'a HttpRequest,
    query: HashMap<String, String>,
    user: Option<String>,
}

async fn user(shared: Data<Shared>, request: HttpRequest, user: Path<String>) -> HttpResponse {
    let asked = Asked::new(shared, &request, Some(user.into_inner()), USER);
    let act = asked.shared.faults.meet(asked.user.as_deref(), 0);
    let answer = asked.admit(true).and_then(|()| asked.user());
    asked.finish(answer, act).await
}

async fn memberships(shared: Data<Shared>, request: HttpRequest, user: Path<String>) -> HttpResponse {
    let asked = Asked::new(shared, &request, Some(user.into_inner()), MEMBERSHIPS);
    let (limit, offset) = match asked.paging() {
        Ok(paging) => paging,
        Err(answer) => return asked.finish(Err(answer), None).await,
    };
    let act = asked.shared.faults.meet(asked.user.as_deref(), offset);
    let answer = asked.admit(true).and_then(|()| asked.memberships(limit, offset, act.as_ref()));
    asked.finish(answer, act).await
}

async fn organization(shared: Data<Shared>, request: HttpRequest, organization: Path<String>) -> HttpResponse {
    let asked = Asked::new(shared, &request, None, ORGANIZATION);
    let act = asked.shared.faults.meet(None, 0);
    let answer = asked.admit(true).and_then(|()| {
        let as_of = asked.shared.faults.as_of();
        let shape = asked.shared.world.lock().organization_shape(&organization, as_of);
        shape.map(Answer::ok).ok_or_else(|| Answer::not_found("No organization was found with the given id or slug."))
    });
    asked.finish(answer, act).await
}

async fn jwks(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    let asked = Asked::new(shared, &request, None, JWKS);
    let act = asked.shared.faults.meet(None, 0);
    let answer = asked.admit(false).map(|()| Answer::ok(asked.shared.keys.jwks()));
    asked.finish(answer, act).await
}

/// The body of a request for a token; it may be empty.
#[derive(Debug, Default, Deserialize)]
struct TokenOptions {
    expires_in_seconds: Option<i64>,
}

async fn session_token(shared: Data<Shared>, request: HttpRequest, session: Path<String>, body: Bytes) -> HttpResponse {
    let asked = Asked::new(shared, &request, None, TOKENS);
    let act = asked.shared.faults.meet(None, 0);
    let answer = asked.admit(true).and_then(|()| {
        let options: TokenOptions = serde_json::from_slice(&body).unwrap_or_default();
        let lives_seconds = options.expires_in_seconds;
        let new = NewToken { session: Some(session.into_inner()), lives_seconds, ..NewToken::default() };
        let minted = tokens::mint(&mut asked.shared.world.lock(), &asked.shared.issuer, &new);
        let minted = minted.map_err(|_| Answer::not_found("No session was found with the given id."))?;
        Ok(Answer::ok(json!({"object": "token", "jwt": asked.shared.keys.sign(&minted.claims)})))
    });
    asked.finish(answer, act).await
}

async fn public_jwks(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    let asked = Asked::new(shared, &request, None, PUBLIC_JWKS);
    let act = asked.shared.faults.meet(None, 0);
    let answer = Ok(Answer::ok(asked.shared.keys.jwks()));
    asked.finish(answer, act).await
}

async fn unknown(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    let asked = Asked::new(shared, &request, None, UNKNOWN);
    asked.finish(Err(Answer::not_found("The stand-in does not serve this route.")), None).await
}

impl<'a> Asked<'a> {
    fn new(shared: Data<Shared>, request: &'a HttpRequest, user: Option<String>, path: &'static str) -> Self {
        let is_limited = ![JWKS, PUBLIC_JWKS].contains(&path);
        shared.calls.arrived(path, user.as_deref(), is_limited, clock::now());
        let query = web::Query::from_query(request.query_string()).map(web::Query::into_inner).unwrap_or_default();
        Self { shared: shared.into_inner(), request, query, user }
    }

    /// Key, version, rate: in this order.
    fn admit(&self, is_limited: bool) -> Result<(), Answer> {
        let headers = self.request.headers();
        check_key(headers, &self.shared.secret_key)?;
        check_version(headers, self.query.get("__clerk_api_version").map(String::as_str))?;
        match is_limited.then(|| self.shared.faults.over_rate(clock::now())).flatten() {
            Some(seconds) => Err(Answer::too_many(Some(seconds))),
            None => Ok(()),
        }
    }

    fn paging(&self) -> Result<(usize, usize), Answer> {
        let number = |name, default, min, max| match self.query.get(name) {
            Some(text) => number(name, text, min, max),
            None => Ok(default),
        };
        Ok((number("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)?, number("offset", 0, 0, usize::MAX)?))
    }

    fn user(&self) -> Result<Answer, Answer> {
        let as_of = self.shared.faults.as_of();
        let user = self.user.as_deref().unwrap_or_default();
        self.shared.world.lock().user_shape(user, as_of).map(Answer::ok).ok_or_else(no_such_user)
    }

    fn memberships(&self, limit: usize, offset: usize, act: Option<&Act>) -> Result<Answer, Answer> {
        let as_of = self.shared.faults.as_of();
        let user = self.user.as_deref().unwrap_or_default();
        // A row that was added in front pushes the last one of the page before onto this one.
        let offset = offset - usize::from(act == Some(&Act::RowMoved));
        let page = self.shared.world.lock().page(user, limit, offset, as_of);
        let mut page = page.ok_or_else(no_such_user)?;
        if let Some(Act::WrongTotal { by }) = act {
            page.total_count += by;
        }
        Ok(Answer::ok(json!({ "data": page.data, "total_count": page.total_count })))
    }

    /// Holds, delays, spoils and counts the answer.
    async fn finish(self, answer: Result<Answer, Answer>, act: Option<Act>) -> HttpResponse {
        let answer = match (&act, answer) {
            (Some(Act::Status { status, retry_after }), _) => Answer::faulty(*status, *retry_after),
            (_, Ok(answer) | Err(answer)) => answer,
        };
        self.shared.holds.pass(self.user.as_deref()).await;
        tokio::time::sleep(self.shared.faults.latency()).await;
        let status = answer.status;
        let response = answer.respond(act.as_ref()).await;
        self.shared.calls.answered(status);
        response
    }
}

fn no_such_user() -> Answer {
    Answer::not_found("No user was found with the given id.")
}

fn check_key(headers: &HeaderMap, secret_key: &str) -> Result<(), Answer> {
    let Some(value) = headers.get("authorization") else {
        return Err(Answer::error(401, "authentication_invalid", "Invalid authentication"));
    };
    match value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) {
        None => Err(Answer::error(
            401,
            "authorization_header_format_invalid",
            "Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'.",
        )),
        Some(key) if key != secret_key => {
            Err(Answer::error(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid."))
        }
        Some(_) => Ok(()),
    }
}

fn check_version(headers: &HeaderMap, in_query: Option<&str>) -> Result<(), Answer> {
    let in_header = headers.get("clerk-api-version").map(|value| value.to_str().unwrap_or_default());
    match (in_header, in_query) {
        (None, None) => Ok(()),
        (Some(version), None) | (None, Some(version)) if VERSIONS.contains(&version) => Ok(()),
        _ => Err(Answer::error(400, "api_version_invalid", "The API version is invalid, or given twice.")),
    }
}

fn number(name: &str, text: &str, min: usize, max: usize) -> Result<usize, Answer> {
    match text.parse::<i64>() {
        Err(_) => Err(Answer::parameter("form_param_type_invalid", name, &format!("{name} must be an integer."))),
        Ok(number) => match usize::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ if max == usize::MAX => Err(out_of_range(name, &format!("at least {min}"))),
            _ => Err(out_of_range(name, &format!("between {min} and {max}"))),
        },
    }
}

fn out_of_range(name: &str, range: &str) -> Answer {
    Answer::parameter("form_param_value_invalid", name, &format!("{name} must be {range}."))
}
