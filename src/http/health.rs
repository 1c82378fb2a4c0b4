//! Whether the process runs, and whether it can answer anything. Metrics.

use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::auth::Scope;
use super::call::Call;
use super::description::{Alive, Readiness, refusals};
use super::headers::plain;
use super::names::JSON;
use super::problem::{Code, Problem};

refusals!(MetricsRefusals: CallerUnknown, ScopeMissing, Internal);

/// `GET /livez`: touches nothing.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    summary = "Whether the process runs",
    responses((status = 200, description = "It runs.", body = Alive))
)]
pub async fn livez(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    plain(&call, StatusCode::OK).insert_header((CONTENT_TYPE, JSON)).body(r#"{"status":"alive"}"#)
}

/// `GET /readyz`: 200 while anything can be answered. An admin key is told why.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    summary = "Whether anything can be answered",
    security((), ("serviceKey" = ["admin"])),
    responses(
        (status = 200, description = "`ready`, or `degraded`: something is away.", body = Readiness),
        (status = 503, description = "`unready`, or `draining`: it is about to stop.", body = Readiness),
    )
)]
pub async fn readyz(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    let state = call.state;
    let (shared_ok, stream_ok) = (state.readiness.shared(), state.readiness.stream());
    let origin_ok = state.readiness.origin();
    let can_answer = origin_ok || shared_ok == Some(true);
    let status = match (state.readiness.is_draining.load(Ordering::Relaxed), can_answer) {
        (true, _) => "draining",
        (false, false) => "unready",
        (false, true) if origin_ok && stream_ok && shared_ok != Some(false) && state.readiness.journal() => "ready",
        (false, true) => "degraded",
    };
    let is_up = matches!(status, "ready" | "degraded");
    let mut body = json!({ "status": status });
    if call.is_admin() {
        merge(&mut body, state.readiness.parts(&state.cache, &state.intake));
    }
    let code = if is_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    plain(&call, code).insert_header((CONTENT_TYPE, JSON)).body(body.to_string())
}

/// `GET /metrics`: Prometheus text, for an admin key.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    summary = "Everything that is counted",
    security(("serviceKey" = ["admin"])),
    responses(
        (status = 200, description = "OpenMetrics text.", body = String, content_type = "application/openmetrics-text"),
        MetricsRefusals,
    )
)]
pub async fn metrics(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    let encoded = call.authorize(Scope::Admin).and_then(|()| encode_metrics(&call));
    encoded.unwrap_or_else(|problem| problem.respond(&call.id))
}

/// The same on the listener of its own, for whoever reaches that.
pub async fn open_metrics(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    encode_metrics(&call).unwrap_or_else(|problem| problem.respond(&call.id))
}

fn encode_metrics(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    call.state.cache.tend();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &call.state.registry)
        .map_err(|_| Problem::new(Code::Internal, "the metrics could not be written"))?;
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(plain(call, StatusCode::OK).insert_header((CONTENT_TYPE, content_type)).body(text))
}

fn merge(body: &mut Value, parts: Value) {
    if let (Value::Object(body), Value::Object(parts)) = (body, parts) {
        body.extend(parts);
    }
}
