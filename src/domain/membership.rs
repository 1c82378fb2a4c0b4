//! One membership, and the documented JSON of a user's list: what `GET P<userId>` answers, and what a list read answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::{MembershipId, OrganizationId};

/// A user's membership of one organization, as the origin told it. Times are Clerk's, integer milliseconds.
///
/// The role is kept as text: what Clerk calls a role is a role, and a check compares it exactly. Unknown members of stored
/// JSON are ignored, so that an older node reads what a newer one wrote; a missing one makes the value foreign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(
    description = "A membership, as Clerk told it; times are Clerk's, in milliseconds. Readers must ignore members they do not know."
)]
pub struct Membership {
    /// `org_…`
    pub organization_id: OrganizationId,
    /// The organization's slug, if it has one. An alias: it may change, and may be somebody else's tomorrow.
    #[serde(deserialize_with = "present")]
    #[schema(required)]
    pub organization_slug: Option<String>,
    /// The organization's display name.
    pub organization_name: String,
    /// The role key, `org:admin`.
    pub role: String,
    /// The organization's picture.
    #[serde(deserialize_with = "present")]
    #[schema(required)]
    pub image_url: Option<String>,
    /// `orgmem_…`; dead for ever once deleted.
    pub membership_id: MembershipId,
    /// When the membership began.
    pub created_at: i64,
    /// When the membership last changed.
    pub updated_at: i64,
    /// When the organization last changed.
    pub organization_updated_at: i64,
}

/// A nullable member that must be there: serde alone would take an absent one for null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Bytes that are not a list of memberships: a foreign value, never "no organizations". Upholds I8.
#[derive(Debug, thiserror::Error)]
#[error("not a list of memberships")]
pub struct MembershipsError(#[source] serde_json::Error);

/// Reads the documented JSON array. `null`, another shape or a missing member is an error.
pub fn decode_memberships(bytes: &[u8]) -> Result<Vec<Membership>, MembershipsError> {
    serde_json::from_slice(bytes).map_err(MembershipsError)
}

/// Writes the documented JSON array, in the order given.
pub fn encode_memberships(memberships: &[Membership]) -> Vec<u8> {
    serde_json::to_vec(memberships).expect("strings and integers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_shapes_are_errors_and_never_an_empty_list() {
        let five_fields =
            r#"[{"organizationId":"org_1","organizationSlug":"a","organizationName":"A","role":"org:admin","imageUrl":null}]"#;
        let no_slug = r#"[{"organizationId":"org_1","organizationName":"A","role":"r","imageUrl":null,"membershipId":"orgmem_1","createdAt":1,"updatedAt":1,"organizationUpdatedAt":1}]"#;
        for foreign in ["null", "{}", "", "[null]", "[1]", five_fields, no_slug, "[", "\"[]\""] {
            assert!(decode_memberships(foreign.as_bytes()).is_err(), "{foreign}");
        }
        assert_eq!(decode_memberships(b"[]").expect("the empty list"), vec![]);
    }

    #[test]
    fn members_of_a_later_release_are_ignored() {
        let later = r#"[{"organizationId":"org_1","organizationSlug":null,"organizationName":"A","role":"r","imageUrl":null,"membershipId":"orgmem_1","createdAt":1,"updatedAt":2,"organizationUpdatedAt":3,"later":true}]"#;
        assert_eq!(decode_memberships(later.as_bytes()).expect("readable").len(), 1);
    }
}
