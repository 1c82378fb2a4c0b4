//! What a route refuses with: an answer for each status, made from the codes that the route names and the one table.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Content, Ref, RefOr};

use crate::http::problem::Code;

/// Declares the refusals of a handler: `refusals!(Refusals: CallerUnknown, IdMalformed);`, for its annotation.
macro_rules! refusals {
    ($name:ident: $($code:ident),+ $(,)?) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::response::Response>> {
                $crate::http::description::by_status(&[$($crate::http::problem::Code::$code),+])
            }
        }
    };
}
pub(in crate::http) use refusals;

/// An answer for each status that the codes have.
pub fn by_status(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut statuses: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for code in codes {
        statuses.entry(code.status().as_str().to_owned()).or_default().push(*code);
    }
    statuses.into_iter().map(|(status, codes)| (status, answer(&codes).into())).collect()
}

/// The answer with one of these codes, which share a status.
pub fn answer(codes: &[Code]) -> Response {
    let told: Vec<_> = codes.iter().map(|code| format!("`{}`: {}.", code.slug(), code.title())).collect();
    let statuses: Vec<_> = codes.iter().map(|code| json!(code.status().as_u16())).take(1).collect();
    let narrowed = ObjectBuilder::new()
        .property("code", one_of(codes))
        .property("status", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some(statuses)));
    let problem = AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(narrowed);
    let content = Content::new(Some(Schema::from(problem.build())));
    ResponseBuilder::new().description(told.join("\n")).content("application/problem+json", content).build()
}

fn one_of(codes: &[Code]) -> ObjectBuilder {
    let slugs: Vec<_> = codes.iter().map(|code| json!(code.slug())).collect();
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(slugs))
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        one_of(Code::ALL).into()
    }
}

impl ToSchema for Code {}
