//! What a request may bring, as the handlers' annotations name it: ids in a path, roles, freshness.
//!
//! The forms of ids are those that parse them, in `domain`.

#![expect(dead_code, reason = "read by the derives alone: the handlers read headers and the query by themselves")]

use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::domain::{MembershipId, OrganizationId, OrganizationRef, Role, SessionId, Slug, UserId};

/// How fresh an answer must be.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Freshness {
    /// `no-cache`: ask Clerk now. `max-age=N`: a reading at most N seconds old. `only-if-cached`: never ask Clerk.
    /// `stale-if-error=N`: if Clerk cannot be asked, an answer up to N seconds past its bounds will do. Others are ignored.
    #[param(rename = "Cache-Control", nullable = false, example = "max-age=10")]
    cache_control: Option<String>,
    /// Milliseconds behind the change stream that are tolerated, at most the configured bound.
    #[param(rename = "Rollcall-Max-Lag", nullable = false, inline)]
    max_lag: Option<Milliseconds>,
    /// Tags of contents that are known, or `*`.
    #[param(rename = "If-None-Match", nullable = false)]
    if_none_match: Option<String>,
}

/// However many: what does not fit means as long as can be.
struct Milliseconds;

impl PartialSchema for Milliseconds {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).into()
    }
}

impl ToSchema for Milliseconds {}

/// What a context may hold beside the organization.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum Include {
    /// The whole list.
    Memberships,
    /// What the token permits in the organization.
    Permissions,
}

/// A text of this form, whole.
fn text(pattern: String, description: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(Some(description)).into()
}

macro_rules! ids {
    ($($name:ident: $before:literal, $description:literal;)+) => { $(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                text(format!("^{}{}$", $before, $name::ACCEPTED), $description)
            }
        }

        impl ToSchema for $name {}
    )+ };
}

ids! {
    UserId: "", "A user of Clerk's, `user_…`.";
    OrganizationId: "", "An organization of Clerk's.";
    MembershipId: "", "A membership of Clerk's, `orgmem_…`.";
    SessionId: "", "A session of Clerk's, `sess_…`.";
    Slug: r"(?!org_|\.{1,2}$)", "An organization's slug, compared exactly.";
}

impl PartialSchema for OrganizationRef {
    fn schema() -> RefOr<Schema> {
        let either = AnyOfBuilder::new().item(Ref::from_schema_name("OrganizationId")).item(Ref::from_schema_name("Slug"));
        either.description(Some("An organization: what begins with `org_` is an id, all else a slug.")).into()
    }
}

impl ToSchema for OrganizationRef {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((OrganizationId::name().into(), OrganizationId::schema()));
        schemas.push((Slug::name().into(), Slug::schema()));
    }
}

impl PartialSchema for Role {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
        text.description(Some("A role key, compared exactly.")).examples(["org:admin"]).into()
    }
}

impl ToSchema for Role {}
