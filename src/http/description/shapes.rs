//! The shapes of bodies that no type writes, because they are spliced from what is JSON already, or read by hand. Real
//! answers are held against them by the tests.

#![expect(dead_code, reason = "read by the derives alone")]

use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{Membership, OrganizationRef, Role, SessionId, UserId};
use crate::token::{Actor, PassedOn};

/// A batch.
#[derive(ToSchema)]
pub struct Checks {
    /// At most a thousand.
    #[schema(max_items = 1000)]
    checks: Vec<Check>,
}

/// One question of a batch.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"userId": "user_ada", "org": "harbour-works", "role": "org:admin"}))]
struct Check {
    user_id: UserId,
    org: OrganizationRef,
    role: Option<Roles>,
}

/// One role, or any of several.
struct Roles;

impl PartialSchema for Roles {
    fn schema() -> RefOr<Schema> {
        let role = || Ref::from_schema_name(Role::name());
        AnyOfBuilder::new().item(role()).item(ArrayBuilder::new().items(role()).min_items(Some(1))).into()
    }
}

impl ToSchema for Roles {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Role::name().into(), Role::schema()));
    }
}

/// The decisions of a batch, in its order.
#[derive(ToSchema)]
pub struct Results {
    results: Vec<CheckResult>,
}

/// One decision of a batch.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct CheckResult {
    /// `null`: it could not be found out.
    #[schema(required)]
    allowed: Option<bool>,
    reason: Reason,
    /// Where it is allowed.
    #[schema(required = false, nullable = false)]
    membership: Option<Membership>,
    /// Of the reading; where something was decided.
    #[schema(required = false, nullable = false)]
    age_ms: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum Reason {
    Member,
    NotAMember,
    RoleMissing,
    UserUnknown,
    Unavailable,
}

/// Who calls, and in which organization.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Context {
    user_id: UserId,
    session_id: SessionId,
    /// Who acts as the user.
    #[schema(required)]
    actor: Option<Actor>,
    /// The one asked for, else the token's active one.
    #[schema(required)]
    organization: Option<Membership>,
    /// Why there is none, though the token names one.
    #[schema(required = false, nullable = false)]
    organization_reason: Option<OrganizationReason>,
    /// The whole list, where it was asked for.
    #[schema(required = false, nullable = false)]
    memberships: Option<Vec<Membership>>,
    /// What the token permits in the organization, `org:<feature>:<permission>`, where it was asked for; `null` where the token is of
    /// another organization, or of another role than the one known here.
    #[schema(required = false)]
    permissions: Option<Vec<String>>,
    claims: PassedOn<'static>,
    /// Milliseconds since the Unix epoch.
    token_expires_at: i64,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum OrganizationReason {
    NotAMember,
}

/// The process runs.
#[derive(ToSchema)]
pub struct Alive {
    #[schema(example = "alive")]
    status: String,
}

/// Whether anything can be answered. An admin key is also told of each part.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Readiness {
    status: Status,
    #[schema(required = false, nullable = false)]
    shared: Option<SharedPart>,
    #[schema(required = false, nullable = false)]
    stream: Option<StreamPart>,
    #[schema(required = false, nullable = false)]
    origin: Option<OriginPart>,
    #[schema(required = false, nullable = false)]
    journal: Option<JournalPart>,
    /// Since a webhook was last verified.
    last_verified_message_ms: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum Status {
    Ready,
    Degraded,
    Unready,
    Draining,
}

/// Redis.
#[derive(ToSchema)]
struct SharedPart {
    status: SharedStatus,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum SharedStatus {
    Absent,
    Reachable,
    Unreachable,
}

/// The change stream.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct StreamPart {
    consistency: Consistency,
    #[schema(required)]
    lag_ms: Option<u64>,
    is_continuous: bool,
    breaks: u64,
    has_other_journal: bool,
    #[schema(required)]
    replicas: Option<ReplicasPart>,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum Consistency {
    Bounded,
    Eventual,
}

/// Replicas of Redis that writes wait for.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ReplicasPart {
    status: ReplicasStatus,
    awaited: u64,
    confirming: u64,
    connected: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum ReplicasStatus {
    Missing,
    NotAwaited,
    Confirming,
}

/// Clerk.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct OriginPart {
    breaker: Breaker,
    budget_factor: f64,
    is_budget_spent: bool,
    is_paused: bool,
    waiting: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum Breaker {
    Open,
    Closed,
}

/// The journal, as last counted.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct JournalPart {
    status: JournalStatus,
    #[schema(required = false, nullable = false)]
    open: Option<u64>,
    #[schema(required = false, nullable = false)]
    dead: Option<u64>,
    oldest_open_ms: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum JournalStatus {
    Available,
    Unavailable,
}
