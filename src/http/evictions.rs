//! `DELETE /v1/users/{userId}/orgs`: what is cached of a user is void on every node, or the caller is told that it is not.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Scope;
use super::call::Call;
use super::description::refusals;
use super::headers::plain;
use super::problem::{Code, Problem};
use crate::domain::{Change, UserId};

refusals!(Refusals: CallerUnknown, ScopeMissing, IdMalformed, SharedUnavailable, Internal);

/// `DELETE /v1/users/{userId}/orgs`
#[utoipa::path(
    delete,
    path = "/v1/users/{userId}/orgs",
    operation_id = "evictUser",
    tag = "operations",
    summary = "Forget what is cached of a user",
    params(("userId" = UserId, Path, description = "Whose.", example = "user_ada")),
    security(("serviceKey" = ["evict"])),
    responses((status = 204, description = "Forgotten on every node: the next read asks Clerk."), Refusals)
)]
pub async fn evict(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    call.end(evict_user(&call).await)
}

async fn evict_user(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    call.authorize(Scope::Evict)?;
    let user = call.user()?;
    let applier = call.state.applier.clone();
    let change = Change::Evicted { users: vec![user], organizations: vec![] };
    let applied = call.state.cache.io().spawn(async move { applier.apply(&change).await }).await;
    call.stopwatch.lap("apply");
    match applied {
        Ok(Ok(())) => Ok(plain(call, StatusCode::NO_CONTENT).finish()),
        Ok(Err(_)) => {
            Err(Problem::new(Code::SharedUnavailable, "the eviction is not confirmed for the other nodes; it holds on this one"))
        }
        Err(_) => Err(Problem::new(Code::Internal, "the eviction ended without a result")),
    }
}
