//! `GET /v1/users/{userId}/inspection?org=`: what every tier of this node says of a user, and what it remembers. For an admin key;
//! `rollcall inspect` asks, and shows the same shape where it looks by itself. It decides nothing.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Scope;
use super::call::{Call, organization_ref};
use super::description::refusals;
use super::headers::plain;
use super::names::JSON;
use super::problem::{Code, Problem};
use crate::cache::{self, Recalled, Seen};
use crate::domain::{Membership, MembershipId, Moment, OrganizationId, OrganizationRef, UserId};
use crate::protocol::facts::{MembershipFact, OrganizationFact};

/// The answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Whom it is about.
    pub user_id: UserId,
    /// How far behind the change stream the node was; none where nobody can say.
    #[schema(required)]
    pub lag_ms: Option<u64>,
    /// The node's memory.
    pub local: Tier,
    /// Redis.
    pub shared: Tier,
    /// Clerk.
    pub origin: Tier,
    /// What is remembered; none where that could not be found out.
    #[schema(required)]
    pub facts: Option<Facts>,
    /// Why not, where somebody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_error: Option<String>,
}

/// What one of them says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Tier {
    /// A list, read so long ago.
    #[serde(rename_all = "camelCase")]
    List {
        /// Since the reading began.
        age_ms: u64,
        /// In Clerk's order.
        memberships: Vec<Membership>,
    },
    /// Clerk knew no such user, so long ago.
    #[serde(rename_all = "camelCase")]
    UserUnknown {
        /// Since the reading began.
        age_ms: u64,
    },
    /// Nothing that could be an answer.
    Nothing,
    /// There is no such tier.
    Absent,
    /// Nobody named the node.
    NotAsked,
    /// It could not be asked.
    Unavailable {
        /// A phrase.
        error: String,
    },
}

/// What is remembered of a user, and of the memberships and organizations that are named beside it.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The user was deleted.
    #[schema(required)]
    pub user_deleted_ms_ago: Option<u64>,
    /// The last change of the user: what was read before it is no answer.
    #[schema(required)]
    pub user_changed_ms_ago: Option<u64>,
    /// Memberships that were announced.
    pub announced: Vec<MembershipId>,
    /// Readings older than this are no answers: what came before may be unknown.
    #[schema(required)]
    pub doubted_ms_ago: Option<u64>,
    /// By membership.
    pub memberships: Vec<OfMembership>,
    /// By organization.
    pub organizations: Vec<OfOrganization>,
}

/// What is remembered of a membership.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfMembership {
    /// Which.
    pub membership_id: MembershipId,
    /// It ended.
    #[schema(required)]
    pub ended_ms_ago: Option<u64>,
    /// Its role, as last told.
    #[schema(required)]
    pub role: Option<String>,
}

/// What is remembered of an organization.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfOrganization {
    /// Which.
    pub organization_id: OrganizationId,
    /// It was deleted.
    #[schema(required)]
    pub deleted_ms_ago: Option<u64>,
    /// What was read of it before is no answer.
    #[schema(required)]
    pub doubted_ms_ago: Option<u64>,
    /// Its name, as last told.
    #[schema(required)]
    pub name: Option<String>,
    /// Its slug, as last told.
    #[schema(required)]
    pub slug: Option<String>,
}

refusals!(Refusals: CallerUnknown, ScopeMissing, IdMalformed, Internal);

/// `GET /v1/users/{userId}/inspection`
#[utoipa::path(
    get,
    path = "/v1/users/{userId}/inspection",
    operation_id = "inspectUser",
    tag = "operations",
    summary = "What every tier of this node says of a user",
    description = "Decides and changes nothing, and costs a read of Clerk.",
    params(
        ("userId" = UserId, Path, description = "Of whom.", example = "user_ada"),
        ("org" = Option<OrganizationRef>, Query, description = "By id: what is remembered of it, also where nobody names it any more."),
    ),
    security(("serviceKey" = ["admin"])),
    responses((status = 200, description = "Each tier, and what is remembered.", body = Inspection), Refusals)
)]
pub async fn inspection(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    call.end(inspect(&call).await)
}

async fn inspect(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    call.authorize(Scope::Admin)?;
    let (user, organization, cache) = (call.user()?, organization(call)?, call.state.cache.clone());
    let asked = user.clone();
    let found = call.state.cache.io().spawn(async move { cache.inspect(&asked, organization.as_ref()).await }).await;
    let found = found.map_err(|_| Problem::new(Code::Internal, "the inspection ended without a result"))?;
    let body = serde_json::to_string(&Inspection::of(user, found)).expect("strings and integers always serialise");
    Ok(plain(call, StatusCode::OK).insert_header((CONTENT_TYPE, JSON)).body(body))
}

/// The organization that is asked about, by id. A slug says nothing that the lists do not.
fn organization(call: &Call<'_>) -> Result<Option<OrganizationId>, Problem> {
    let mut query = form_urlencoded::parse(call.request.query_string().as_bytes());
    let asked = query.find(|(name, _)| name == "org").map(|(_, text)| organization_ref(&text)).transpose()?;
    Ok(asked.and_then(|asked| asked.id().cloned()))
}

impl Inspection {
    /// As it goes over the wire.
    pub fn of(user_id: UserId, found: cache::Inspection) -> Self {
        let tier = |seen: Seen| Tier::of(seen, found.at);
        let shared = match found.shared {
            None => Tier::Absent,
            Some(Ok(seen)) => seen.map_or(Tier::Nothing, tier),
            Some(Err(error)) => Tier::Unavailable { error: error.to_string() },
        };
        Self {
            user_id,
            lag_ms: found.lag.map(millis),
            local: found.local.map_or(Tier::Nothing, tier),
            shared,
            origin: found.origin.map_or_else(|error| Tier::Unavailable { error: error.to_string() }, tier),
            facts: Some(Facts::of(found.recalled, found.at)),
            facts_error: None,
        }
    }
}

impl Tier {
    fn of(seen: Seen, now: Moment) -> Self {
        let age_ms = millis(now.since(seen.as_of));
        match seen.memberships {
            Some(memberships) => Self::List { age_ms, memberships },
            None => Self::UserUnknown { age_ms },
        }
    }

    /// What its list holds; nothing where it has none.
    pub fn memberships(&self) -> &[Membership] {
        match self {
            Self::List { memberships, .. } => memberships,
            Self::UserUnknown { .. } | Self::Nothing | Self::Absent | Self::NotAsked | Self::Unavailable { .. } => &[],
        }
    }
}

impl Facts {
    fn of(recalled: Recalled, now: Moment) -> Self {
        let ago = |at: Moment| millis(now.since(at));
        let user = recalled.user.unwrap_or_default();
        let of_membership = |(membership_id, fact): (MembershipId, MembershipFact)| OfMembership {
            membership_id,
            ended_ms_ago: fact.dead_at.map(ago),
            role: fact.role.map(|(_, role)| role),
        };
        let of_organization = |(organization_id, fact): (OrganizationId, OrganizationFact)| {
            let (name, slug) = fact.profile.map_or((None, None), |profile| (Some(profile.name), profile.slug));
            let (deleted_ms_ago, doubted_ms_ago) = (fact.dead_at.map(ago), fact.doubted_at.map(ago));
            OfOrganization { organization_id, deleted_ms_ago, doubted_ms_ago, name, slug }
        };
        Self {
            user_deleted_ms_ago: user.dead_at.map(ago),
            user_changed_ms_ago: user.changed_at.map(ago),
            announced: user.expected.into_iter().map(|(membership, _)| membership).collect(),
            doubted_ms_ago: recalled.doubted_before.map(ago),
            memberships: recalled.memberships.into_iter().map(of_membership).collect(),
            organizations: recalled.organizations.into_iter().map(of_organization).collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
