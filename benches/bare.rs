//! The yardstick: a bare actix-web handler with the same crate features, workers, body and header bytes as a hot read.
//!
//! `bare ADDRESS BODY_FILE WORKERS`: answers `GET /v1/users/{userId}/orgs` and `GET /v1/context` with the file's bytes. Started by `scripts/bench`.

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;

/// As many header bytes as a hot read answers with.
const HEADERS: [(&str, &str); 8] = [
    ("content-type", "application/json"),
    ("cache-control", "private, no-store"),
    ("x-request-id", "0123456789abcdef"),
    ("etag", "\"0123456789abcdef0123456789abcdef\""),
    ("rollcall-decision", "list"),
    ("cache-status", "rollcall; hit; detail=local"),
    ("rollcall-age", "12345"),
    ("rollcall-lag", "12"),
];

async fn answer(body: web::Data<Bytes>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    for (name, value) in HEADERS {
        response.insert_header((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    response.insert_header(("age", "12"));
    response.body(body.get_ref().clone())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, file, workers] = arguments.as_slice() else {
        // Run by `cargo bench` or a test runner without arguments: there is nothing to measure alone.
        return Ok(());
    };
    let Ok(workers) = workers.parse() else { return Ok(()) };
    let body = web::Data::new(Bytes::from(std::fs::read(file)?));
    HttpServer::new(move || {
        App::new()
            .app_data(body.clone())
            .route("/v1/users/{userId}/orgs", web::get().to(answer))
            .route("/v1/context", web::get().to(answer))
    })
    .workers(workers)
    .bind(address)?
    .run()
    .await
}
