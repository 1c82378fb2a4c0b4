//! How a node that stops parts from its callers: every answer is the last one of its connection, and says so.
//!
//! Called by the roof for every response. A connection that is kept would otherwise be closed when the delay is over, between
//! two requests or just as one is on its way, which then is lost. It never changes an answer.

use std::sync::atomic::Ordering;

use actix_web::dev::ServiceResponse;
use actix_web::http::ConnectionType;
use actix_web::web::Data;

use super::State;

/// Adds `Connection: close` once a shutdown has begun: the caller opens its next connection elsewhere.
pub fn end_connection(mut response: ServiceResponse) -> ServiceResponse {
    let state = response.request().app_data::<Data<State>>();
    if state.is_some_and(|state| state.readiness.is_draining.load(Ordering::Relaxed)) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}
