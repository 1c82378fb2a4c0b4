//! The reads: a user's list, and one membership. A hit is answered on the worker that took the request; everything else is
//! one call onto the I/O runtime.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};

use super::auth::Scope;
use super::call::Call;
use super::description::{Freshness, refusals};
use super::freshness;
use super::headers::{self, Decision};
use super::problem::{Code, Problem};
use crate::cache::{Answer, Ask, Content, Question};
use crate::domain::{Found, List, Membership, Moment, OrganizationRef, Role, UserId, digest_of};

/// The whole read: the origin's 4 s and what surrounds them. Beyond it the caller is told "could not find out".
const READ_TIME_MAX: Duration = Duration::from_millis(4_500);

refusals!(
    ListRefusals: CallerUnknown, IdMalformed, ParameterInvalid, UserUnknown, OriginUnavailable, OriginRateLimited, NotCached,
    Internal
);
refusals!(
    MembershipRefusals: CallerUnknown, IdMalformed, ParameterInvalid, UserUnknown, NotAMember, RoleMissing, OriginUnavailable,
    OriginRateLimited, NotCached, Internal
);

/// `GET /v1/users/{userId}/orgs`
#[utoipa::path(
    get,
    path = "/v1/users/{userId}/orgs",
    operation_id = "listMemberships",
    tag = "reads",
    summary = "The organizations of a user",
    description = "In Clerk's order; none is a normal answer.",
    params(("userId" = UserId, Path, description = "Whose.", example = "user_ada"), Freshness),
    security(("serviceKey" = ["read"])),
    responses(
        (status = 200, description = "The memberships.", body = Vec<Membership>),
        (status = 304, description = "The content is the one that `If-None-Match` names."),
        ListRefusals,
    )
)]
pub async fn list(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    call.end(answer_list(&call).await)
}

/// `GET /v1/users/{userId}/orgs/{org}?role=`
#[utoipa::path(
    get,
    path = "/v1/users/{userId}/orgs/{org}",
    operation_id = "checkMembership",
    tag = "reads",
    summary = "Whether a user is a member, in a role",
    description = "That there is no such organization is `not-a-member` too: its existence is not revealed.",
    params(
        ("userId" = UserId, Path, description = "Whose.", example = "user_ada"),
        ("org" = OrganizationRef, Path, description = "In which organization.", example = "harbour-works"),
        ("role" = Option<Vec<Role>>, Query, description = "Any of these; none: in any role."),
        Freshness,
    ),
    security(("serviceKey" = ["read"])),
    responses(
        (status = 200, description = "A member: the membership.", body = Membership),
        (status = 304, description = "The content is the one that `If-None-Match` names."),
        MembershipRefusals,
    )
)]
pub async fn membership(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    call.end(answer_membership(&call).await)
}

async fn answer_list(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    call.authorize(Scope::Read)?;
    let user = call.user()?;
    let answer = find(call, user, Question::List, call.arrived).await?;
    Ok(match &answer.content {
        Content::List(list) => headers::respond(call, Decision::List, &answer, list.body().clone(), &list.digest()),
        Content::Unknown => refuse(call, Decision::UserUnknown, &answer),
    })
}

async fn answer_membership(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    call.authorize(Scope::Read)?;
    let (user, organization, roles) = (call.user()?, call.organization()?, call.roles()?);
    let answer = find(call, user, Question::Member(organization.clone()), call.arrived).await?;
    let list = match &answer.content {
        Content::List(list) => list,
        Content::Unknown => return Ok(refuse(call, Decision::UserUnknown, &answer)),
    };
    Ok(match decide(list, &organization, &roles) {
        Ok(row) => {
            let body = list.membership(row);
            let digest = digest_of(&body);
            headers::respond(call, Decision::Member, &answer, body, &digest)
        }
        Err(decision) => refuse(call, decision, &answer),
    })
}

/// The answer, here if this process can vouch for one at `now`, else from the I/O runtime.
pub(super) async fn find(call: &Call<'_>, user: UserId, question: Question, now: Moment) -> Result<Answer, Problem> {
    let wants = freshness::wants(call.request.headers())?;
    let cache = &call.state.cache;
    if let Some(answer) = cache.hit(&user, &question, &wants, call.arrived, now) {
        call.stopwatch.lap("local");
        return Ok(answer);
    }
    call.stopwatch.lap("local");
    let (deadline, waits) = (call.arrived + READ_TIME_MAX, call.stopwatch.waits());
    let ask = Ask { user, question, wants, arrived: call.arrived, deadline, allowance: None, waits };
    let miss = cache.clone();
    // On the I/O runtime: connections live there, and a caller that hangs up takes nothing with it.
    match cache.io().spawn(async move { miss.read(ask).await }).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Problem::new(Code::Internal, "the read ended without an answer")),
    }
}

/// The row of the membership in one of the roles, or the decision that refuses.
pub(super) fn decide(list: &List, organization: &OrganizationRef, roles: &[Role]) -> Result<usize, Decision> {
    let row = match list.find(organization) {
        Found::At(row) | Found::Ambiguous(row) => row,
        Found::Absent => return Err(Decision::NotAMember),
    };
    let has_role = roles.is_empty() || roles.iter().any(|role| role.as_str() == list.role(row));
    has_role.then_some(row).ok_or(Decision::RoleMissing)
}

/// A "no": a problem that is also a decision.
pub(super) fn refuse(call: &Call<'_>, decision: Decision, answer: &Answer) -> HttpResponse {
    let problem = match decision {
        Decision::UserUnknown => Problem::new(Code::UserUnknown, "the origin knows no such user"),
        Decision::NotAMember => Problem::new(Code::NotAMember, "the user is not a member of this organization, or there is none"),
        Decision::RoleMissing => Problem::new(Code::RoleMissing, "the user is a member, in another role than asked for"),
        Decision::List | Decision::Context | Decision::Member => unreachable!("these are no refusals"),
    };
    let mut response = problem.respond(&call.id);
    headers::describe(response.headers_mut(), call, decision, answer);
    response
}
