//! What a session token says, in both versions, read from a payload that was signed.
//!
//! What decides is strict: a subject, a session, times, a party or a status of another type than Clerk writes is no token.
//! What only informs is lenient: it is left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::error::TokenError;
use super::json;
use super::permissions;
use crate::domain::{OrganizationId, SessionId, UserId};

/// The claims of a token that was admitted. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`
    pub user: UserId,
    /// `sid`
    pub session: SessionId,
    /// `act`: who acts as the user.
    pub actor: Option<Actor>,
    /// `azp`: the origin the token was minted for.
    pub authorized_party: Option<String>,
    /// `iat`
    pub issued_at: i64,
    /// `exp`
    pub expires_at: i64,
    /// `fva`: minutes since the first and the second factor were checked; -1 is never.
    pub factor_ages: Option<[i64; 2]>,
    /// `sts`: `active`, or `pending`.
    pub status: Option<String>,
    /// The organization that was active when the token was minted.
    pub organization: Option<ActiveOrganization>,
    /// What is passed on, as JSON.
    pub spelled: Spelled,
}

/// Parts of the claims as JSON, made once: every use of a remembered token passes them on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spelled {
    /// The actor, or `null`.
    pub actor: String,
    /// `{azp, iat, exp, fva, sts}`; `null` where the token has none.
    pub claims: String,
}

/// The claims that are passed on.
#[derive(Serialize, ToSchema)]
pub struct PassedOn<'a> {
    /// The party that the token was minted for.
    #[schema(required)]
    azp: Option<&'a str>,
    /// Seconds since the Unix epoch.
    iat: i64,
    /// Seconds since the Unix epoch.
    exp: i64,
    /// Minutes since the first and the second factor were checked; -1 is never.
    #[schema(required)]
    fva: Option<[i64; 2]>,
    /// `active`, or `pending`.
    #[schema(required)]
    sts: Option<&'a str>,
}

/// Who acts as the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    /// Whom it is.
    pub sub: String,
    /// The actor's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub sid: Option<String>,
    /// Who vouches for the actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub iss: Option<String>,
    /// What kind of actor.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub kind: Option<String>,
}

/// An organization as the token names it. Its role is what it was when the token was minted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveOrganization {
    /// Which.
    pub id: OrganizationId,
    /// Its slug.
    pub slug: Option<String>,
    /// The role, with its prefix in both versions: `org:admin`.
    pub role: Option<String>,
    /// Custom permissions, `org:<feature>:<permission>`.
    pub permissions: Vec<String>,
}

/// The claims as they are spelled. Those that nobody here needs are not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    pub(super) iss: Option<String>,
    pub(super) sub: String,
    sid: Option<String>,
    azp: Option<String>,
    pub(super) iat: i64,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) nbf: Option<i64>,
    pub(super) exp: i64,
    pub(super) sts: Option<String>,
    act: Option<Actor>,
    #[serde(default)]
    fva: Value,
    v: Option<i64>,
    o: Option<Organization>,
    #[serde(default)]
    fea: Value,
    org_id: Option<OrganizationId>,
    #[serde(default)]
    org_slug: Value,
    #[serde(default)]
    org_role: Value,
    #[serde(default)]
    org_permissions: Value,
}

/// `o` of version 2.
#[derive(Debug, Deserialize)]
struct Organization {
    id: OrganizationId,
    #[serde(default)]
    slg: Value,
    #[serde(default)]
    rol: Value,
    #[serde(default)]
    per: Value,
    #[serde(default)]
    fpm: Value,
}

impl Claims {
    /// Whether the token is past its time by more than the skew.
    pub fn has_expired(&self, now: Duration, skew: Duration) -> bool {
        has_passed(self.expires_at, now, skew)
    }

    /// Bytes held, for the limit of a memory of tokens.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let actor =
            self.actor.as_ref().map_or(0, |actor| actor.sub.len() + text(&actor.sid) + text(&actor.iss) + text(&actor.kind));
        let organization = self.organization.as_ref().map_or(0, ActiveOrganization::bytes);
        let ids = self.user.as_str().len() + self.session.as_str().len();
        let spelled = self.spelled.actor.len() + self.spelled.claims.len();
        size_of::<Self>() + ids + actor + organization + spelled + text(&self.authorized_party) + text(&self.status)
    }
}

impl ActiveOrganization {
    fn bytes(&self) -> usize {
        let permissions: usize = self.permissions.iter().map(|permission| size_of::<String>() + permission.len()).sum();
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.id.as_str().len() + text(&self.slug) + text(&self.role) + permissions
    }
}

impl Wire {
    /// Of a payload that was signed.
    pub(super) fn read(payload: &[u8]) -> Result<Self, TokenError> {
        json::object(payload).ok_or(TokenError::invalid("claims that are not those of a session"))
    }

    /// A token without a session, or of a machine: its subject says so.
    pub(super) fn is_of_session(&self) -> bool {
        self.sid.is_some() && !self.sub.starts_with("mch_")
    }

    /// Takes the claims, once they were judged.
    pub(super) fn into_claims(self) -> Result<Claims, TokenError> {
        let user = UserId::parse(&self.sub).map_err(|_| TokenError::invalid("a subject that is no user"))?;
        let session = self.sid.as_deref().and_then(|sid| SessionId::parse(sid).ok());
        let session = session.ok_or(TokenError::invalid("a session that is none"))?;
        let organization = self.organization();
        let factor_ages = serde_json::from_value(self.fva).ok();
        let (azp, sts) = (self.azp.as_deref(), self.sts.as_deref());
        let passed_on = PassedOn { azp, iat: self.iat, exp: self.exp, fva: factor_ages, sts };
        let spelled = Spelled { actor: json(&self.act), claims: json(&passed_on) };
        Ok(Claims {
            user,
            session,
            actor: self.act,
            authorized_party: self.azp,
            issued_at: self.iat,
            expires_at: self.exp,
            factor_ages,
            status: self.sts,
            organization,
            spelled,
        })
    }

    pub(super) fn party(&self) -> Option<&str> {
        self.azp.as_deref()
    }

    fn organization(&self) -> Option<ActiveOrganization> {
        match self.v {
            // A version that is not known yet is read like the first, as Clerk's own libraries do.
            Some(2) => self.o.as_ref().map(|organization| organization.unpack(&self.fea)),
            _ => self.first_version(),
        }
    }

    fn first_version(&self) -> Option<ActiveOrganization> {
        let permissions = self.org_permissions.as_array().map(Vec::as_slice).unwrap_or_default();
        Some(ActiveOrganization {
            id: self.org_id.clone()?,
            slug: text(&self.org_slug).map(str::to_owned),
            role: text(&self.org_role).map(str::to_owned),
            permissions: permissions.iter().filter_map(text).map(str::to_owned).collect(),
        })
    }
}

impl Organization {
    fn unpack(&self, features: &Value) -> ActiveOrganization {
        let packed = text(features).zip(text(&self.per)).zip(text(&self.fpm));
        ActiveOrganization {
            id: self.id.clone(),
            slug: text(&self.slg).map(str::to_owned),
            role: text(&self.rol).map(|role| format!("org:{role}")),
            permissions: packed.map(|((features, names), masks)| permissions::unpack(features, names, masks)).unwrap_or_default(),
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and integers always serialise")
}

/// Whether a time in seconds lies behind `now` by the skew or more.
pub(super) fn has_passed(seconds: i64, now: Duration, skew: Duration) -> bool {
    millis(now).saturating_sub(millis(skew)) >= seconds.saturating_mul(1_000)
}

/// Whether a time in seconds lies ahead of `now` by more than the skew.
pub(super) fn lies_ahead(seconds: i64, now: Duration, skew: Duration) -> bool {
    seconds.saturating_mul(1_000) > millis(now).saturating_add(millis(skew))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// An empty text is none.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}
