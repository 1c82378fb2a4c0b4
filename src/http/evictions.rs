//! `DELETE /v1/users/{userId}/orgs`: what is cached of a user is void on every node, or the caller is told that it is not.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Scope;
use super::call::Call;
use super::headers::plain;
use super::problem::{Code, Problem};
use crate::domain::Change;

/// `DELETE /v1/users/{userId}/orgs`
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
