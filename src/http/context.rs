//! `GET /v1/context`: who calls, and in which organization, from a session token. One verified read for a whole request.
//!
//! The organization that is asked for is answered as the check route does, with its refusals. Without one, the token's active
//! organization is looked up; that the user has left it is an answer, not a refusal. The role is the cache's, never the
//! token's. With neither, nobody's memberships are asked for.

use std::sync::Arc;
use std::time::Duration;

use super::call::{Call, bearer, organization_ref, role};
use super::description::{self, Freshness, Include, refusals};
use super::freshness;
use super::headers::{self, Decision};
use super::problem::{Code, Problem};
use super::reads;
use crate::cache::{Answer, Content, Question};
use crate::clock;
use crate::domain::{Found, List, OrganizationRef, Role, digest_of};
use crate::protocol::freshness::Wants;
use crate::session::{Refusal, Verified};
use crate::token::{Claims, TokenError};
use actix_web::http::header::COOKIE;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

const COOKIE_NAME: &str = "__session";

refusals!(
    Refusals: CallerUnknown, TokenInvalid, TokenExpired, TokenNotYetValid, TokenKindRefused, SessionEnded, PartyUnauthorized,
    SessionPending, RoleMissing, IdMalformed, ParameterInvalid, UserUnknown, NotAMember, OriginUnavailable, OriginRateLimited,
    SharedUnavailable, NotCached, Internal
);

/// `GET /v1/context?org=&role=&include=`
#[utoipa::path(
    get,
    path = "/v1/context",
    operation_id = "userContext",
    tag = "reads",
    summary = "Who calls, and in which organization",
    description = "Without `org` the token's active organization is looked up. The role is the one known here, never the token's.",
    params(
        ("org" = Option<OrganizationRef>, Query, description = "Answered like a check."),
        ("role" = Option<Vec<Role>>, Query, description = "Any of these, in `org`; without it 400."),
        ("include" = Option<Vec<Include>>, Query, description = "What to add."),
        Freshness,
    ),
    security(("sessionToken" = [])),
    responses(
        (status = 200, description = "The context.", body = description::Context),
        (status = 304, description = "The content is the one that `If-None-Match` names."),
        Refusals,
    )
)]
pub async fn context(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    call.end(answer(&call).await)
}

/// What the query asks for.
struct Asked {
    organization: Option<OrganizationRef>,
    roles: Vec<Role>,
    with_memberships: bool,
    with_permissions: bool,
}

async fn answer(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let token = token(call)?;
    let verified = call.state.sessions.verify(token).await;
    call.stopwatch.lap("auth");
    let Verified { claims, mut lag } = verified?;
    let asked = Asked::read(call)?;
    let wants = freshness::wants(call.request.headers())?;
    may_lag(call, &wants, lag)?;
    let active = claims.organization.as_ref().map(|organization| OrganizationRef::Id(organization.id.clone()));
    let question = match asked.organization.clone().or(active) {
        Some(organization) => Question::Member(organization),
        None if asked.with_memberships => Question::List,
        None => return Ok(headers::respond_unread(call, body(&claims, "null", asked.nothing()), lag)),
    };
    // Not when the request arrived: it may have waited for a key since.
    let now = clock::now();
    let mut answer = reads::find(call, claims.user.clone(), question.clone(), now).await?;
    if answer.decided_at > now {
        // Others were waited for, and the session may have ended meanwhile.
        lag = call.state.sessions.verify_again(&claims)?;
        may_lag(call, &wants, lag)?;
    }
    // What is answered is as far behind as the one of its two halves that is further.
    answer.candidate.fence = answer.candidate.fence.min(answer.decided_at - lag);
    let list = match &answer.content {
        Content::List(list) => list,
        Content::Unknown => return Ok(reads::refuse(call, Decision::UserUnknown, &answer)),
    };
    Ok(decide(call, &claims, &asked, &question, list, &answer))
}

/// The end of a session comes with the stream, and no origin is asked for it: whoever tolerates less lag than there is cannot be
/// told that it lives (I8). Nobody else is refused for a lag; the header says it.
fn may_lag(call: &Call<'_>, wants: &Wants, lag: Duration) -> Result<(), Problem> {
    let cache = &call.state.cache;
    let may_be = |lag_max: Duration| cache.knows_its_lag() && lag <= lag_max.min(cache.bounds().staleness);
    match wants.lag_max.is_none_or(may_be) {
        true => Ok(()),
        false => Err(Problem::new(Code::SharedUnavailable, "the changes are further behind than you tolerate")),
    }
}

fn decide(
    call: &Call<'_>,
    claims: &Arc<Claims>,
    asked: &Asked,
    question: &Question,
    list: &List,
    answer: &Answer,
) -> HttpResponse {
    let respond = |decision, row: Option<usize>, organization: &str| {
        let body = body(claims, organization, &asked.included(claims, list, row));
        let digest = digest_of(&body);
        headers::respond(call, decision, answer, body, &digest)
    };
    let Question::Member(organization) = question else { return respond(Decision::Context, None, "null") };
    let is_named = asked.organization.is_some();
    match reads::decide(list, organization, &asked.roles) {
        Ok(row) => {
            let decision = if is_named { Decision::Member } else { Decision::Context };
            respond(decision, Some(row), text(&list.membership(row)))
        }
        Err(refused) if is_named => reads::refuse(call, refused, answer),
        // The token is older than that: its user has left since, or the organization is gone.
        Err(_) => respond(Decision::Context, None, "null,\"organizationReason\":\"not-a-member\""),
    }
}

impl Asked {
    fn read(call: &Call<'_>) -> Result<Self, Problem> {
        let mut asked = Self { organization: None, roles: Vec::new(), with_memberships: false, with_permissions: false };
        for (name, value) in form_urlencoded::parse(call.request.query_string().as_bytes()) {
            match &*name {
                "org" if asked.organization.is_some() => {
                    return Err(
                        Problem::new(Code::ParameterInvalid, "an organization is asked for twice").at("org", "at most once")
                    );
                }
                "org" => asked.organization = Some(organization_ref(&value)?),
                "role" => asked.roles.push(role(&value)?),
                "include" => match &*value {
                    "memberships" => asked.with_memberships = true,
                    "permissions" => asked.with_permissions = true,
                    _ => {
                        let problem = Problem::new(Code::ParameterInvalid, "there is nothing of this name to include");
                        return Err(problem.at("include", "memberships or permissions"));
                    }
                },
                _ => {}
            }
        }
        if asked.organization.is_none() && !asked.roles.is_empty() {
            let problem = Problem::new(Code::ParameterInvalid, "a role is one in an organization, and none is named");
            return Err(problem.at("role", "together with org"));
        }
        Ok(asked)
    }

    /// What is included beside the organization in this row, or beside none: members of an object, each behind a comma.
    fn included(&self, claims: &Claims, list: &List, row: Option<usize>) -> String {
        let mut members = String::new();
        if self.with_memberships {
            members.extend([r#","memberships":"#, text(list.body())]);
        }
        if self.with_permissions {
            let permissions = row.and_then(|row| permissions(claims, list, row));
            members.extend([r#","permissions":"#, permissions.as_deref().unwrap_or("null")]);
        }
        members
    }

    /// The same where no list was asked for.
    fn nothing(&self) -> &'static str {
        if self.with_permissions { r#","permissions":null"# } else { "" }
    }
}

/// The permissions that the token carries, if they are those of the organization in this row and were given with the role that its
/// user has there now: a role that changed takes them along.
fn permissions(claims: &Claims, list: &List, row: usize) -> Option<String> {
    let active = claims.organization.as_ref()?;
    let is_this = list.find(&OrganizationRef::Id(active.id.clone())) == Found::At(row);
    let is_current = is_this && active.role.as_deref() == Some(list.role(row));
    is_current.then(|| serde_json::to_string(&active.permissions).expect("texts always serialise"))
}

/// The token: of the `Authorization` header, or of the cookie where that is switched on and there is no such header.
fn token<'a>(call: &Call<'a>) -> Result<&'a str, Problem> {
    let sent = bearer(call.request).or_else(|| cookie(call)).filter(|bytes| !bytes.is_empty());
    let bytes =
        sent.ok_or_else(|| Problem::new(Code::CallerUnknown, "send Authorization: Bearer with a session token of Clerk's"))?;
    std::str::from_utf8(bytes).map_err(|_| Refusal::Token(TokenError::Invalid { what: "not text" }).into())
}

fn cookie<'a>(call: &Call<'a>) -> Option<&'a [u8]> {
    let is_read =
        call.state.is_session_cookie_read && !call.request.headers().contains_key(actix_web::http::header::AUTHORIZATION);
    let pairs =
        call.request.headers().get_all(COOKIE).filter(|_| is_read).flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    let mut named = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(COOKIE_NAME.as_bytes())?.strip_prefix(b"="));
    named.next()
}

/// The object, spliced from what is JSON already. Ids need no escaping.
fn body(claims: &Claims, organization: &str, included: &str) -> Bytes {
    let mut digits = itoa::Buffer::new();
    let parts = [
        r#"{"userId":""#,
        claims.user.as_str(),
        r#"","sessionId":""#,
        claims.session.as_str(),
        r#"","actor":"#,
        &claims.spelled.actor,
        r#","organization":"#,
        organization,
        included,
        r#","claims":"#,
        &claims.spelled.claims,
        r#","tokenExpiresAt":"#,
        digits.format(claims.expires_at.saturating_mul(1_000)),
        "}",
    ];
    Bytes::from(parts.concat())
}

fn text(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("a list is written as UTF-8")
}
