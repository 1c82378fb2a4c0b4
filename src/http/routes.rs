//! The whole surface on one screen. The hot routes come first: every route registered before
//! one costs it time, one with a name in its path the most.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource};

use super::call::Call;
use super::problem::{Code, Problem};
use super::{checks, context, description, evictions, health, inspection, reads, webhooks};

/// Registers every route.
pub fn routes(app: &mut ServiceConfig) {
    app.service(resource("/v1/context", "GET").route(web::get().to(context::context)))
        .service(
            resource("/v1/users/{userId}/orgs", "GET, DELETE")
                .route(web::get().to(reads::list))
                .route(web::delete().to(evictions::evict)),
        )
        .service(resource("/v1/users/{userId}/orgs/{org}", "GET").route(web::get().to(reads::membership)))
        .service(resource("/v1/users/{userId}/inspection", "GET").route(web::get().to(inspection::inspection)))
        .service(resource("/v1/checks", "POST").route(web::post().to(checks::checks)))
        .service(resource("/webhooks/clerk", "POST").route(web::post().to(webhooks::take)))
        .service(resource("/livez", "GET").route(web::get().to(health::livez)))
        .service(resource("/readyz", "GET").route(web::get().to(health::readyz)))
        .service(resource("/metrics", "GET").route(web::get().to(health::metrics)))
        .service(resource("/openapi.json", "GET").route(web::get().to(description::openapi)))
        .service(resource("/docs", "GET").route(web::get().to(description::docs)))
        .default_service(web::to(route_unknown));
}

/// Registers what the listener for metrics answers: nobody needs a key there.
pub fn metrics_routes(app: &mut ServiceConfig) {
    app.service(resource("/metrics", "GET").route(web::get().to(health::open_metrics)))
        .service(resource("/livez", "GET").route(web::get().to(health::livez)))
        .service(resource("/readyz", "GET").route(web::get().to(health::readyz)))
        .default_service(web::to(route_unknown));
}

fn resource(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move |request: HttpRequest| async move { method_not_allowed(&request, allow) }))
}

async fn route_unknown(request: HttpRequest) -> HttpResponse {
    Problem::new(Code::RouteUnknown, "there is no such route").respond(&Call::begin(&request).id)
}

fn method_not_allowed(request: &HttpRequest, allow: &'static str) -> HttpResponse {
    let problem = Problem::new(Code::MethodNotAllowed, "this route takes other methods").at("method", allow);
    let mut response = problem.respond(&Call::begin(request).id);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
