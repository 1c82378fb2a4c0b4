//! Session tokens of the world, in both versions, with the claims that Clerk writes.
//!
//! A session that ended gets none. What a role may do is made up: an admin views and edits the ledger and views the crew,
//! everybody else views the ledger.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dev::world::{AsOf, World, WorldError, wall_ms};

/// Seconds that a token lives.
const LIFE: i64 = 60;
/// Clerk lets a token begin a little before it is issued.
const EARLY: i64 = 10;

/// A token to mint: of a session, or of a new one of this user.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewToken {
    /// A session that has not ended.
    pub session: Option<String>,
    /// A user who signs in for it.
    pub user: Option<String>,
    /// The organization that is active, by id or slug; none if empty.
    pub organization: Option<String>,
    /// 1 or 2, the default.
    pub version: Option<u8>,
    /// The origin it is minted for.
    pub authorized_party: Option<String>,
    /// Who acts as the user.
    pub actor: Option<String>,
    /// Whether the session still has tasks.
    pub is_pending: bool,
    /// Seconds that it lives.
    pub lives_seconds: Option<i64>,
}

/// A token's session, and what the token says.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) session: String,
    pub(super) claims: Value,
}

/// What the token says. `issuer` is the frontend API's URL.
pub(super) fn mint(world: &mut World, issuer: &str, new: &NewToken) -> Result<Minted, WorldError> {
    let session = match (&new.session, &new.user) {
        (Some(session), None) => session.clone(),
        (None, Some(user)) => world.start_session(user)?.id,
        _ => return Err(WorldError::Malformed { value: String::new(), what: "a token: name a session or a user" }),
    };
    let user = world.session(&session)?.user.clone();
    let issued_at = wall_ms() / 1_000;
    let mut claims = json!({
        "iss": issuer, "sub": user, "sid": session, "jti": format!("{session}_{issued_at}"),
        "iat": issued_at, "nbf": issued_at - EARLY, "exp": issued_at + new.lives_seconds.unwrap_or(LIFE),
        "fva": [0, -1], "sts": if new.is_pending { "pending" } else { "active" },
    });
    let members = claims.as_object_mut().expect("it is written above");
    members.extend(new.authorized_party.iter().map(|party| ("azp".to_owned(), json!(party))));
    let act = |actor: &String| ("act".to_owned(), json!({"iss": issuer, "sid": "sess_of_the_actor", "sub": actor}));
    members.extend(new.actor.iter().map(act));
    let active = match &new.organization {
        Some(organization) => Some(active(world, &user, organization)?),
        None => None,
    };
    let more = if new.version == Some(1) { first_version(active) } else { second_version(active) };
    members.extend(more.as_object().cloned().unwrap_or_default());
    Ok(Minted { session, claims })
}

/// The organization that is active in a session, and the user's role there.
struct Active {
    id: String,
    slug: Option<String>,
    role: String,
}

fn active(world: &World, user: &str, organization: &str) -> Result<Active, WorldError> {
    let row = world.organization(organization, AsOf::Now);
    let row = row.ok_or_else(|| WorldError::OrganizationUnknown(organization.to_owned()))?;
    let membership = world.membership(user, organization);
    let not_a_member = || WorldError::NotAMember { user: user.to_owned(), organization: row.id.clone() };
    let role = membership.ok_or_else(not_a_member)?.role.clone();
    Ok(Active { id: row.id.clone(), slug: row.slug.clone(), role })
}

fn first_version(active: Option<Active>) -> Value {
    let Some(active) = active else { return json!({}) };
    let permissions = match active.role.as_str() {
        "org:admin" => vec!["org:ledger:view", "org:ledger:edit", "org:crew:view"],
        _ => vec!["org:ledger:view"],
    };
    json!({"org_id": active.id, "org_slug": active.slug, "org_role": active.role, "org_permissions": permissions})
}

fn second_version(active: Option<Active>) -> Value {
    let Some(active) = active else { return json!({"v": 2, "pla": "u:free", "fea": "u:beta"}) };
    let role = active.role.strip_prefix("org:").unwrap_or(&active.role);
    let granted = if role == "admin" { "3,1,0" } else { "1,0,0" };
    let mut organization = json!({"id": active.id, "rol": role, "per": "view,edit", "fpm": granted});
    if let Some(slug) = active.slug {
        organization["slg"] = json!(slug);
    }
    json!({"v": 2, "pla": "o:pro", "fea": "o:ledger,o:crew,u:beta", "o": organization})
}
