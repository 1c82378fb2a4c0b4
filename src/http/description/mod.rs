//! `GET /openapi.json`: what this surface takes and answers, as OpenAPI 3.1 (RFC 9457 for what it refuses).
//!
//! It is made from the code: paths, parameters and bodies from the handlers' annotations and the types that they write, codes
//! from the one table of problems. What is left for hands is in `shapes` (bodies that are spliced) and `headers`; real
//! answers are held against it by the tests, so that neither can drift. Made once; nothing here is on the way of a read.

mod headers;
mod page;
mod parameters;
mod refusals;
mod shapes;

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::auth::Scope;
use super::call::Call;
use super::headers::plain;
use super::names::JSON;
use super::problem::{self, Code, Problem};
use super::{checks, context, evictions, health, inspection, reads, webhooks};

pub use page::docs;
pub(super) use parameters::{Freshness, Include};
pub(super) use refusals::{by_status, refusals};
pub(super) use shapes::{Alive, Checks, Context, Readiness, Results};

/// The whole surface.
#[derive(OpenApi)]
#[openapi(
    paths(
        reads::list,
        reads::membership,
        evictions::evict,
        context::context,
        inspection::inspection,
        checks::checks,
        webhooks::take,
        health::livez,
        health::readyz,
        health::metrics,
        openapi,
        page::docs,
    ),
    components(schemas(problem::Body, Include)),
    modifiers(&Surroundings)
)]
struct Surface;

/// What belongs to no single operation: who may call, and what is answered where there is none.
struct Surroundings;

impl Modify for Surroundings {
    fn modify(&self, surface: &mut utoipa::openapi::OpenApi) {
        let components = surface.components.get_or_insert_default();
        let bearer = |format: &str, description: &str| {
            let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format(format).description(Some(description));
            SecurityScheme::Http(bearer.build())
        };
        let service_key = "A configured service key. Its scope is `read`, `evict` or `admin`; each includes the ones before it.";
        let session_token = "A session token of Clerk's, of a user who is signed in. With `ROLLCALL_SESSION_COOKIE=on` that of the \
cookie `__session` is taken too.";
        components.add_security_scheme("serviceKey", bearer("rk_…", service_key));
        components.add_security_scheme("sessionToken", bearer("JWT", session_token));
        for (name, code) in [("RouteUnknown", Code::RouteUnknown), ("MethodNotAllowed", Code::MethodNotAllowed)] {
            components.responses.insert(name.to_owned(), refusals::answer(&[code]).into());
        }
    }
}

/// The description, as it is served.
static DESCRIPTION: LazyLock<Bytes> = LazyLock::new(|| describe().to_string().into());

fn describe() -> Value {
    let mut surface = serde_json::to_value(Surface::openapi()).expect("a description always serialises");
    headers::add(&mut surface);
    surface
}

refusals!(Refusals: CallerUnknown, ScopeMissing);

/// `GET /openapi.json`
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "operations",
    summary = "This description",
    description = "Without a key only in `rollcall dev`.",
    security(("serviceKey" = ["admin"])),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object), Refusals)
)]
pub async fn openapi(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    match authorize(&call) {
        Ok(()) => plain(&call, StatusCode::OK).insert_header((CONTENT_TYPE, JSON)).body(DESCRIPTION.clone()),
        Err(problem) => problem.respond(&call.id),
    }
}

/// An admin key, or anybody where the world is only played.
fn authorize(call: &Call<'_>) -> Result<(), Problem> {
    if call.state.is_description_open { Ok(()) } else { call.authorize(Scope::Admin) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::body::MessageBody;
    use actix_web::http::header::HeaderValue;
    use serde_json::json;

    use super::*;

    /// A bug cannot be provoked by the tests that hold real answers against the description.
    #[test]
    fn every_problem_is_of_the_shape_that_is_described() {
        let shape = json!({ "$ref": "#/components/schemas/Problem", "components": describe()["components"] });
        let shape = jsonschema::validator_for(&shape).expect("a schema");
        for code in Code::ALL {
            let response = Problem::new(*code, "what happened").respond(&HeaderValue::from_static("r"));
            let body = response.into_body().try_into_bytes().expect("it is whole");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            assert!(shape.is_valid(&body), "{body}");
        }
    }

    /// Every code that any answer may carry, as described.
    fn codes(described: &Value, found: &mut BTreeSet<String>) {
        match described {
            Value::Object(members) => {
                let narrowed = members.get("properties").filter(|properties| properties["status"]["enum"].is_array());
                let slugs = narrowed.and_then(|properties| properties["code"]["enum"].as_array());
                found.extend(slugs.into_iter().flatten().filter_map(|slug| slug.as_str().map(str::to_owned)));
                members.values().for_each(|member| codes(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| codes(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_code_of_the_table_is_an_answer_of_some_route() {
        let mut found = BTreeSet::new();
        codes(&describe(), &mut found);
        assert_eq!(found, Code::ALL.iter().map(|code| code.slug().to_owned()).collect());
    }

    #[test]
    fn it_is_of_version_3_1_and_every_reference_in_it_leads_somewhere() {
        let description = describe();
        assert_eq!(description["openapi"], "3.1.0");
        for reference in description.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("a reference");
            assert!(description.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
