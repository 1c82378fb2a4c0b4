//! Clerk's events as they are spelled, and what we take from each. `parse` calls it; what cannot be read becomes an eviction
//! there.
//!
//! Members we do not need are not looked at. Texts that travel in the change stream are bounded (I12); nothing of a person
//! is read but the id.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use crate::domain::{Change, MembershipId, OrganizationId, Role, SessionId, UserId};

const NAME_BYTES_MAX: usize = 1024;
const SLUG_BYTES_MAX: usize = 256;
const URL_BYTES_MAX: usize = 2 * 1024;
/// Clerk may go on minting tokens for a moment after it has stamped the ban.
const BAN_MARGIN_SECONDS: i64 = 5;

/// Event types that make something true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    MembershipCreated,
    MembershipUpdated,
    MembershipDeleted,
    OrganizationUpdated,
    OrganizationDeleted,
    UserCreated,
    UserUpdated,
    UserDeleted,
    SessionEnded,
}

impl Kind {
    /// None for what changes no answer of ours: roles and permissions (values hold role keys only), a new organization (its
    /// first membership is announced by itself), e-mails, invitations and whatever Clerk adds.
    pub(super) fn of(event_type: &str) -> Option<Self> {
        match event_type {
            "organizationMembership.created" => Some(Self::MembershipCreated),
            "organizationMembership.updated" => Some(Self::MembershipUpdated),
            "organizationMembership.deleted" => Some(Self::MembershipDeleted),
            "organization.updated" => Some(Self::OrganizationUpdated),
            "organization.deleted" => Some(Self::OrganizationDeleted),
            "user.created" => Some(Self::UserCreated),
            "user.updated" => Some(Self::UserUpdated),
            "user.deleted" => Some(Self::UserDeleted),
            "session.ended" | "session.removed" | "session.revoked" => Some(Self::SessionEnded),
            _ => None,
        }
    }

    /// What `data` makes true; none when it makes nothing true for us. `occurred_at_ms` is the envelope's time.
    pub(super) fn change(self, data: &Value, occurred_at_ms: Option<i64>) -> Result<Option<Change>, serde_json::Error> {
        Ok(Some(match self {
            Self::MembershipCreated => {
                let data = Membership::deserialize(data)?;
                Change::MembershipCreated { membership: data.id, user: data.public_user_data.and_then(|user| user.user_id) }
            }
            Self::MembershipUpdated => MembershipWithRole::deserialize(data)?.into(),
            Self::MembershipDeleted => {
                let data = Membership::deserialize(data)?;
                Change::MembershipDeleted { membership: data.id, user: data.public_user_data.and_then(|user| user.user_id) }
            }
            Self::OrganizationUpdated => Organization::deserialize(data)?.into(),
            Self::OrganizationDeleted => Change::OrganizationDeleted { organization: Id::deserialize(data)?.id },
            Self::UserCreated => Change::UserCreated { user: Id::deserialize(data)?.id },
            Self::UserDeleted => Change::UserDeleted { user: Id::deserialize(data)?.id },
            Self::UserUpdated => return banned(data, occurred_at_ms),
            Self::SessionEnded => {
                let data = Session::deserialize(data)?;
                Change::SessionEnded { session: data.id, user: UserId::deserialize(data.user_id).ok() }
            }
        }))
    }
}

/// Of a changed user only a ban matters: it kills the tokens issued up to it.
fn banned(data: &Value, occurred_at_ms: Option<i64>) -> Result<Option<Change>, serde_json::Error> {
    let user = User::deserialize(data)?;
    if user.banned != Some(true) {
        return Ok(None);
    }
    let at_ms = occurred_at_ms.or(time_in_ms(&user.updated_at)).ok_or_else(|| serde_json::Error::missing_field("timestamp"))?;
    Ok(Some(Change::UserBanned { user: user.id, tokens_until: at_ms.div_euclid(1_000).saturating_add(BAN_MARGIN_SECONDS) }))
}

/// The envelope around every event. `type` and `data` are read apart, because what is wrong with them must not hide the rest.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) instance_id: Option<String>,
    pub(super) occurred_at_ms: Option<i64>,
}

impl Envelope {
    /// Lenient: neither member decides anything.
    pub(super) fn of(event: &Value) -> Self {
        let instance_id = event["instance_id"].as_str().filter(|id| (1..=128).contains(&id.len())).map(str::to_owned);
        let occurred_at_ms = time_in_ms(&event["timestamp"]);
        Self { instance_id, occurred_at_ms }
    }
}

/// Clerk's documents and samples write seconds, its servers milliseconds: below 10^12 (in 2001, if it were milliseconds)
/// it is seconds.
pub(super) fn time_in_ms(value: &Value) -> Option<i64> {
    let time = value.as_i64().filter(|time| *time > 0)?;
    Some(if time < 1_000_000_000_000 { time * 1_000 } else { time })
}

#[derive(Deserialize)]
struct Id<T> {
    id: T,
}

#[derive(Deserialize)]
struct Membership {
    id: MembershipId,
    public_user_data: Option<PublicUserData>,
}

/// An update is worth nothing without its role and time; the other events carry both and do not need them.
#[derive(Deserialize)]
struct MembershipWithRole {
    #[serde(flatten)]
    membership: Membership,
    role: Role,
    updated_at: i64,
}

#[derive(Deserialize)]
struct PublicUserData {
    user_id: Option<UserId>,
}

#[derive(Deserialize)]
struct Organization {
    id: OrganizationId,
    #[serde(deserialize_with = "bounded::<NAME_BYTES_MAX, _>")]
    name: String,
    #[serde(default, deserialize_with = "bounded_or_none::<SLUG_BYTES_MAX, _>")]
    slug: Option<String>,
    #[serde(default, deserialize_with = "bounded_or_none::<URL_BYTES_MAX, _>")]
    image_url: Option<String>,
    updated_at: i64,
}

#[derive(Deserialize)]
struct User {
    id: UserId,
    banned: Option<bool>,
    /// Any value: it only stands in for an envelope without a time.
    #[serde(default)]
    updated_at: Value,
}

#[derive(Deserialize)]
struct Session {
    id: SessionId,
    /// Any value: it is for the journal, and the session ends whoever's it was.
    #[serde(default)]
    user_id: Value,
}

impl From<MembershipWithRole> for Change {
    fn from(data: MembershipWithRole) -> Self {
        Self::MembershipUpdated {
            membership: data.membership.id,
            user: data.membership.public_user_data.and_then(|user| user.user_id),
            role: data.role.into(),
            updated_at: data.updated_at,
        }
    }
}

impl From<Organization> for Change {
    fn from(data: Organization) -> Self {
        Self::OrganizationUpdated {
            organization: data.id,
            name: data.name,
            slug: data.slug,
            image_url: data.image_url,
            updated_at: data.updated_at,
        }
    }
}

fn bounded<'de, const MAX: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.len() <= MAX {
        true => Ok(text),
        false => Err(D::Error::custom(format_args!("a text of more than {MAX} bytes"))),
    }
}

/// An empty text is none.
fn bounded_or_none<'de, const MAX: usize, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    match text.len() <= MAX {
        true => Ok(Some(text).filter(|text| !text.is_empty())),
        false => Err(D::Error::custom(format_args!("a text of more than {MAX} bytes"))),
    }
}
