//! Clerk's JSON as it is spelled, and what we take from it. The client calls it; nothing here decides what an answer means.
//!
//! Strict in what we need, blind to everything else: Clerk adds members all the time. What lacks a needed member is no
//! answer at all (I8), never a shorter list.

use serde::Deserialize;

use crate::domain::{Membership, MembershipId, OrganizationId, UserId};

/// A page of `GET /v1/users/{id}/organization_memberships`.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    data: Vec<Row>,
    /// Memberships on all pages together.
    pub(super) total_count: u64,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: MembershipId,
    role: String,
    organization: Organization,
    public_user_data: Option<PublicUserData>,
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, Deserialize)]
struct Organization {
    id: OrganizationId,
    name: String,
    slug: Option<String>,
    image_url: Option<String>,
    updated_at: i64,
}

#[derive(Debug, Deserialize)]
struct PublicUserData {
    user_id: Option<String>,
}

impl Page {
    /// Reads a page.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The memberships in Clerk's order, or none at all if one of them is another user's: some cache on the way has mixed
    /// answers up. Upholds I13.
    pub(super) fn memberships_of(self, user: &UserId) -> Option<Vec<Membership>> {
        self.data.into_iter().map(|row| row.is_of(user).then(|| row.into())).collect()
    }
}

impl Row {
    fn is_of(&self, user: &UserId) -> bool {
        let named = self.public_user_data.as_ref().and_then(|data| data.user_id.as_deref());
        named.is_none_or(|named| named == user.as_str())
    }
}

impl From<Row> for Membership {
    fn from(row: Row) -> Self {
        Self {
            organization_id: row.organization.id,
            organization_slug: row.organization.slug.filter(|slug| !slug.is_empty()),
            organization_name: row.organization.name,
            role: row.role,
            image_url: row.organization.image_url.filter(|url| !url.is_empty()),
            membership_id: row.id,
            created_at: row.created_at,
            updated_at: row.updated_at,
            organization_updated_at: row.organization.updated_at,
        }
    }
}

/// Clerk's error body.
#[derive(Debug, Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Debug, Deserialize)]
struct ErrorEntry {
    code: String,
}

/// The first error code, if the body is Clerk's and the code looks like one: fit for a log.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    let errors: Errors = serde_json::from_slice(body).ok()?;
    let code = errors.errors.into_iter().next()?.code;
    let is_code =
        (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_code.then_some(code)
}

/// `GET /v1/jwks`, as far as it tells the instance.
#[derive(Debug, Deserialize)]
pub(super) struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kid: Option<String>,
}

impl Jwks {
    /// Reads the key set.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The first key's id, which is the instance's: `ins_…`.
    pub(super) fn into_instance_id(self) -> Option<String> {
        self.keys.into_iter().next()?.kid.filter(|kid| (1..=128).contains(&kid.len()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row() -> Value {
        json!({
            "object": "organization_membership", "id": "orgmem_1", "role": "org:admin", "role_name": "Admin", "permissions": [],
            "public_metadata": {}, "later": [1],
            "organization": {"id": "org_1", "name": "Harbour Works", "slug": "harbour-works", "image_url": "https://img.example.test/o.png",
                "created_at": 5, "updated_at": 7, "members_count": 4},
            "public_user_data": {"user_id": "user_1", "first_name": null},
            "created_at": 8, "updated_at": 9,
        })
    }

    fn parse(row: Value) -> Option<Vec<Membership>> {
        let user = UserId::parse("user_1").expect("id");
        Page::parse(json!({"data": [row], "total_count": 1}).to_string().as_bytes()).ok()?.memberships_of(&user)
    }

    #[test]
    fn a_row_becomes_a_membership() {
        let expected = Membership {
            organization_id: OrganizationId::parse("org_1").expect("id"),
            organization_slug: Some("harbour-works".to_owned()),
            organization_name: "Harbour Works".to_owned(),
            role: "org:admin".to_owned(),
            image_url: Some("https://img.example.test/o.png".to_owned()),
            membership_id: MembershipId::parse("orgmem_1").expect("id"),
            created_at: 8,
            updated_at: 9,
            organization_updated_at: 7,
        };
        assert_eq!(parse(row()), Some(vec![expected]));
    }

    #[test]
    fn a_slug_that_is_absent_null_or_empty_is_none() {
        for slug in [None, Some(Value::Null), Some(json!(""))] {
            let mut row = row();
            match slug {
                None => drop(row["organization"].as_object_mut().expect("object").remove("slug")),
                Some(value) => row["organization"]["slug"] = value,
            }
            assert_eq!(parse(row).expect("readable")[0].organization_slug, None);
        }
    }

    #[test]
    fn a_row_that_lacks_what_we_need_spoils_the_page() {
        for needed in ["id", "role", "organization", "created_at", "updated_at"] {
            let mut row = row();
            row.as_object_mut().expect("object").remove(needed);
            assert_eq!(parse(row), None, "{needed}");
        }
        for needed in ["id", "name", "updated_at"] {
            let mut row = row();
            row["organization"].as_object_mut().expect("object").remove(needed);
            assert_eq!(parse(row), None, "organization.{needed}");
        }
        for (pointer, wrong) in [("/organization/id", json!("acme")), ("/id", json!("a b")), ("/updated_at", json!("today"))] {
            let mut row = row();
            *row.pointer_mut(pointer).expect("there") = wrong;
            assert_eq!(parse(row), None, "{pointer}");
        }
    }

    #[test]
    fn another_users_membership_spoils_the_page_and_an_unnamed_one_does_not() {
        let mut other = row();
        other["public_user_data"]["user_id"] = json!("user_2");
        assert_eq!(parse(other), None);
        let mut unnamed = row();
        unnamed["public_user_data"] = Value::Null;
        assert!(parse(unnamed).is_some());
    }

    #[test]
    fn a_page_without_data_or_with_a_count_below_zero_is_no_page() {
        for body in [
            r#"{"data":null,"total_count":0}"#,
            r#"{"total_count":0}"#,
            r#"{"data":[]}"#,
            r#"{"data":[],"total_count":-1}"#,
            "[]",
            "null",
            "{",
        ] {
            assert!(Page::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_error_code_is_told_only_when_it_looks_like_one() {
        let body = |code: &str| json!({"errors": [{"message": "m", "long_message": "l", "code": code}]}).to_string();
        assert_eq!(error_code(body("resource_not_found").as_bytes()).as_deref(), Some("resource_not_found"));
        for no_code in ["", "Ada <ada@example.test>", &"x".repeat(65)] {
            assert_eq!(error_code(body(no_code).as_bytes()), None);
        }
        for no_body in ["", "<html>", "{}", r#"{"errors":[]}"#, r#"{"errors":null}"#] {
            assert_eq!(error_code(no_body.as_bytes()), None);
        }
    }

    #[test]
    fn the_instance_is_the_first_keys_id() {
        let id = |body: &str| Jwks::parse(body.as_bytes()).ok().and_then(Jwks::into_instance_id);
        assert_eq!(id(r#"{"keys":[{"kid":"ins_1","use":"sig"},{"kid":"ins_2"}]}"#).as_deref(), Some("ins_1"));
        assert_eq!(id(r#"{"keys":[]}"#), None);
        assert_eq!(id(r#"{"keys":[{}]}"#), None);
    }
}
