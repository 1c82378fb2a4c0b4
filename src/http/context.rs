//! `GET /v1/context`: who calls, and in which organization, from a session token. One verified read for a whole request.
//!
//! The organization that is asked for is answered as the check route does, with its refusals. Without one, the token's active
//! organization is looked up; that the user has left it is an answer, not a refusal. The role is the cache's, never the
//! token's. With neither, nobody's memberships are asked for.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::COOKIE;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Call, bearer};
use super::description::{self, Freshness, Include, refusals};
use super::freshness;
use super::headers::{self, Decision};
use super::problem::{Code, Problem};
use super::reads;
use crate::cache::{Answer, Content, Question};
use crate::domain::{List, OrganizationRef, Role, digest_of};
use crate::session::Refusal;
use crate::token::{Claims, TokenError};

const COOKIE_NAME: &str = "__session";

refusals!(
    Refusals: CallerUnknown, TokenInvalid, TokenExpired, TokenNotYetValid, TokenKindRefused, SessionEnded, PartyUnauthorized,
    SessionPending, RoleMissing, IdMalformed, ParameterInvalid, UserUnknown, NotAMember, OriginUnavailable, OriginRateLimited,
    SharedUnavailable, NotCached, Internal
);

/// `GET /v1/context?org=&role=&include=memberships`
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
        ("include" = Option<Include>, Query, description = "What to add."),
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
    answer(&call).await.unwrap_or_else(|problem| problem.respond(&call.id))
}

/// What the query asks for.
struct Asked {
    organization: Option<OrganizationRef>,
    roles: Vec<Role>,
    with_memberships: bool,
}

/// The claims that are passed on.
#[derive(Serialize, ToSchema)]
pub(super) struct PassedOn<'a> {
    /// The party that the token was minted for.
    #[schema(required)]
    azp: Option<&'a str>,
    /// Seconds since the Unix epoch.
    iat: i64,
    /// Seconds since the Unix epoch.
    exp: i64,
    /// Minutes since the first and the second factor were checked; -1 is never.
    #[schema(required)]
    fva: Option<[i64; 2]>,
    /// `active`, or `pending`.
    #[schema(required)]
    sts: Option<&'a str>,
}

async fn answer(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let token = token(call)?;
    let claims = call.state.sessions.verify(token).await?;
    let asked = Asked::read(call)?;
    // Read here too: a malformed directive is one, whether or not anything is asked for.
    freshness::wants(call.request.headers())?;
    let active = claims.organization.as_ref().map(|organization| OrganizationRef::Id(organization.id.clone()));
    let question = match asked.organization.clone().or(active) {
        Some(organization) => Question::Member(organization),
        None if asked.with_memberships => Question::List,
        None => return Ok(headers::respond_unread(call, body(&claims, "null", None))),
    };
    let answer = reads::find(call, claims.user.clone(), question.clone()).await?;
    let list = match &answer.content {
        Content::List(list) => list,
        Content::Unknown => return Ok(reads::refuse(call, Decision::UserUnknown, &answer)),
    };
    Ok(decide(call, &claims, &asked, &question, list, &answer))
}

fn decide(
    call: &Call<'_>,
    claims: &Arc<Claims>,
    asked: &Asked,
    question: &Question,
    list: &List,
    answer: &Answer,
) -> HttpResponse {
    let memberships = asked.with_memberships.then_some(list);
    let respond = |decision, organization: &str| {
        let body = body(claims, organization, memberships);
        let digest = digest_of(&body);
        headers::respond(call, decision, answer, body, &digest)
    };
    let Question::Member(organization) = question else { return respond(Decision::Context, "null") };
    let is_named = asked.organization.is_some();
    match reads::decide(list, organization, &asked.roles) {
        Ok(row) => {
            let row = list.membership(row);
            respond(if is_named { Decision::Member } else { Decision::Context }, text(&row))
        }
        Err(refused) if is_named => reads::refuse(call, refused, answer),
        // The token is older than that: its user has left since, or the organization is gone.
        Err(_) => respond(Decision::Context, "null,\"organizationReason\":\"not-a-member\""),
    }
}

impl Asked {
    fn read(call: &Call<'_>) -> Result<Self, Problem> {
        let mut given: [Option<Cow<'_, str>>; 2] = [None, None];
        for (name, value) in form_urlencoded::parse(call.request.query_string().as_bytes()) {
            let Some(place) = ["org", "include"].iter().position(|known| *known == name) else { continue };
            if given[place].replace(value).is_some() {
                return Err(Problem::new(Code::ParameterInvalid, "a parameter is given twice").at(name, "at most once"));
            }
        }
        let [organization, include] = given;
        let roles = call.roles()?;
        if organization.is_none() && !roles.is_empty() {
            let problem = Problem::new(Code::ParameterInvalid, "a role is one in an organization, and none is named");
            return Err(problem.at("role", "together with org"));
        }
        if include.as_deref().is_some_and(|include| include != "memberships") {
            return Err(
                Problem::new(Code::ParameterInvalid, "there is nothing of this name to include").at("include", "memberships")
            );
        }
        let organization = organization.as_deref().map(super::call::organization_ref).transpose()?;
        Ok(Self { organization, roles, with_memberships: include.is_some() })
    }
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
fn body(claims: &Claims, organization: &str, memberships: Option<&List>) -> Bytes {
    let passed_on = PassedOn {
        azp: claims.authorized_party.as_deref(),
        iat: claims.issued_at,
        exp: claims.expires_at,
        fva: claims.factor_ages,
        sts: claims.status.as_deref(),
    };
    let (actor, passed_on) = (claims.actor.as_ref().map(json), json(&passed_on));
    let (with_memberships, memberships) = memberships.map_or(("", ""), |list| (r#","memberships":"#, text(list.body())));
    let mut digits = itoa::Buffer::new();
    let parts = [
        r#"{"userId":""#,
        claims.user.as_str(),
        r#"","sessionId":""#,
        claims.session.as_str(),
        r#"","actor":"#,
        actor.as_deref().unwrap_or("null"),
        r#","organization":"#,
        organization,
        with_memberships,
        memberships,
        r#","claims":"#,
        &passed_on,
        r#","tokenExpiresAt":"#,
        digits.format(claims.expires_at.saturating_mul(1_000)),
        "}",
    ];
    Bytes::from(parts.concat())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and integers always serialise")
}

fn text(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("a list is written as UTF-8")
}
