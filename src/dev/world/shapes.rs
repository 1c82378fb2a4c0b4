//! The JSON of Clerk: rows as its API answers them, and events as its webhooks carry them. Composed by us from the documents.
//!
//! Pure: rows in, JSON out. Pictures and addresses lie in `example.test`; there is never an IP address.

use bytes::Bytes;
use serde_json::{Value, json};

use super::INSTANCE_ID;
use super::rows::{Membership, Organization, Session, User};

/// An organization. `members` is how many it has now. A slug is a text in Clerk's schema, which its own libraries insist on:
/// where there is none, it is empty.
pub(crate) fn organization(row: &Organization, members: usize) -> Value {
    json!({
        "object": "organization",
        "id": row.id,
        "name": row.name,
        "slug": row.slug.as_deref().unwrap_or_default(),
        "image_url": picture_of(&row.id),
        "has_image": false,
        "members_count": members,
        "pending_invitations_count": 0,
        "max_allowed_memberships": 0,
        "admin_delete_enabled": true,
        "public_metadata": {},
        "private_metadata": {},
        "created_by": row.created_by,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "last_active_at": row.updated_at,
        "role_set_key": null,
    })
}

/// A membership, with its organization and the public part of its user.
pub(crate) fn membership(row: &Membership, of: &Organization, members: usize, user: &User) -> Value {
    json!({
        "object": "organization_membership",
        "id": row.id,
        "role": row.role,
        "role_name": role_name(&row.role),
        "permissions": permissions_of(&row.role),
        "public_metadata": {},
        "private_metadata": {},
        "organization": organization(of, members),
        "public_user_data": {
            "user_id": user.id,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "profile_image_url": picture_of(&user.id),
            "image_url": picture_of(&user.id),
            "has_image": false,
            "identifier": user.email,
            "username": null,
            "banned": user.is_banned,
            "deprovisioned": false,
        },
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    })
}

/// A user. No memberships in it, as in every webhook of Clerk.
pub(crate) fn user(row: &User) -> Value {
    let email_id = format!("idn_{}", row.id.trim_start_matches("user_"));
    json!({
        "object": "user",
        "id": row.id,
        "external_id": null,
        "primary_email_address_id": email_id,
        "primary_phone_number_id": null,
        "primary_web3_wallet_id": null,
        "username": null,
        "first_name": row.first_name,
        "last_name": row.last_name,
        "locale": null,
        "image_url": picture_of(&row.id),
        "has_image": false,
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "email_addresses": [{
            "id": email_id,
            "object": "email_address",
            "email_address": row.email,
            "reserved": false,
            "verification": {
                "object": "verification_otp",
                "status": "verified",
                "strategy": "email_code",
                "attempts": 1,
                "expire_at": null,
            },
            "linked_to": [],
            "matches_sso_connection": false,
            "created_at": row.created_at,
            "updated_at": row.created_at,
        }],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "password_enabled": false,
        "two_factor_enabled": false,
        "totp_enabled": false,
        "backup_code_enabled": false,
        "mfa_enabled_at": null,
        "mfa_disabled_at": null,
        "last_sign_in_at": null,
        "banned": row.is_banned,
        "locked": false,
        "lockout_expires_in_seconds": null,
        "verification_attempts_remaining": 100,
        "delete_self_enabled": true,
        "create_organization_enabled": true,
        "last_active_at": row.updated_at,
        "legal_accepted_at": null,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    })
}

/// A session, with its user where the user still is.
pub(crate) fn session(row: &Session, of: Option<&User>) -> Value {
    const DAY: i64 = 86_400_000;
    json!({
        "object": "session",
        "id": row.id,
        "client_id": format!("client_{}", row.id.trim_start_matches("sess_")),
        "user_id": row.user,
        "actor": null,
        "status": row.status,
        "last_active_organization_id": null,
        "last_active_at": row.created_at,
        "latest_activity": null,
        "expire_at": row.created_at + 7 * DAY,
        "abandon_at": row.created_at + 30 * DAY,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "tasks": null,
        "user": of.map(user),
    })
}

/// What is left of a deleted organization or user.
pub(crate) fn deleted(object: &str, id: &str) -> Value {
    json!({ "object": object, "id": id, "deleted": true })
}

/// The body of a webhook. `at` is in milliseconds.
pub(crate) fn event(event_type: &str, at: i64, data: &Value) -> Bytes {
    let body = json!({
        "object": "event",
        "type": event_type,
        "timestamp": at,
        "instance_id": INSTANCE_ID,
        "data": data,
        "event_attributes": { "http_request": { "client_ip": "", "user_agent": "" } },
    });
    Bytes::from(body.to_string())
}

fn picture_of(id: &str) -> String {
    format!("https://img.example.test/{id}.png")
}

/// The display name of a role: `org:billing_manager` is `Billing manager`.
fn role_name(key: &str) -> String {
    let words = key.strip_prefix("org:").unwrap_or(key).replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn permissions_of(role: &str) -> &'static [&'static str] {
    match role {
        "org:admin" => &[
            "org:sys_profile:manage",
            "org:sys_profile:delete",
            "org:sys_memberships:read",
            "org:sys_memberships:manage",
            "org:sys_domains:read",
            "org:sys_domains:manage",
        ],
        _ => &["org:sys_memberships:read"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_a_name_for_people() {
        assert_eq!(role_name("org:admin"), "Admin");
        assert_eq!(role_name("org:billing_manager"), "Billing manager");
        assert_eq!(role_name("owner"), "Owner");
        assert_eq!(role_name("org:"), "");
    }

    #[test]
    fn an_event_has_the_envelope_of_clerk() {
        let body = event("user.deleted", 1_790_000_000_000, &deleted("user", "user_1"));
        let body: Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(body["object"], "event");
        assert_eq!(body["type"], "user.deleted");
        assert_eq!(body["timestamp"], 1_790_000_000_000_i64);
        assert_eq!(body["instance_id"], INSTANCE_ID);
        assert_eq!(body["data"], json!({"object": "user", "id": "user_1", "deleted": true}));
        assert_eq!(body["event_attributes"]["http_request"]["client_ip"], "");
    }
}
