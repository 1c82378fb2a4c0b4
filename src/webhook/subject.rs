//! Whom and what an event is about: ids only, taken leniently. `parse` calls it; the outcome never depends on it.

use serde_json::Value;

use super::wire::time_in_ms;
use crate::domain::{MembershipId, OrganizationId, SessionId, Subject, UserId};

/// The subject of an event. What is absent, or not of the form of an id, is none.
pub(super) fn subject(event_type: &str, data: &Value) -> Subject {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let user = |value: &Value| UserId::parse(&text(value)?).ok();
    let organization = |value: &Value| OrganizationId::parse(&text(value)?).ok();
    let updated_at_ms = time_in_ms(&data["updated_at"]);
    let subject = Subject { updated_at_ms, ..Subject::default() };
    match event_type.split('.').next().unwrap_or_default() {
        "organizationMembership" => Subject {
            user: user(&data["public_user_data"]["user_id"]),
            organization: organization(&data["organization"]["id"]),
            membership: text(&data["id"]).and_then(|id| MembershipId::parse(&id).ok()),
            ..subject
        },
        "organization" => Subject { organization: organization(&data["id"]), ..subject },
        "user" => Subject { user: user(&data["id"]), ..subject },
        "session" => Subject {
            user: user(&data["user_id"]),
            session: text(&data["id"]).and_then(|id| SessionId::parse(&id).ok()),
            ..subject
        },
        _ => Subject { organization: organization(&data["organization_id"]), user: user(&data["user_id"]), ..subject },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_event_is_filed_under_its_ids() {
        let membership = json!({"id": "orgmem_1", "organization": {"id": "org_1"}, "public_user_data": {"user_id": "user_1",
            "identifier": "ada@example.test"}, "updated_at": 1_700_000_000_000_i64});
        let subject_of = subject("organizationMembership.deleted", &membership);
        assert_eq!(subject_of.user.unwrap().as_str(), "user_1");
        assert_eq!(subject_of.organization.unwrap().as_str(), "org_1");
        assert_eq!(subject_of.membership.unwrap().as_str(), "orgmem_1");
        assert_eq!(subject_of.updated_at_ms, Some(1_700_000_000_000));
        assert_eq!(subject("organization.updated", &json!({"id": "org_2"})).organization.unwrap().as_str(), "org_2");
        assert_eq!(subject("user.deleted", &json!({"id": "user_2"})).user.unwrap().as_str(), "user_2");
        let session = subject("session.revoked", &json!({"id": "sess_1", "user_id": "user_3", "updated_at": 1_700_000_000}));
        assert_eq!((session.session.unwrap().as_str(), session.user.unwrap().as_str()), ("sess_1", "user_3"));
        assert_eq!(session.updated_at_ms, Some(1_700_000_000_000), "seconds are taken too");
        let invitation = subject("organizationInvitation.created", &json!({"organization_id": "org_3"}));
        assert_eq!(invitation.organization.unwrap().as_str(), "org_3");
    }

    #[test]
    fn what_is_no_id_is_nothing() {
        for data in [json!(null), json!([]), json!({"id": 7}), json!({"id": "a b"}), json!({"id": {"id": "user_1"}})] {
            for event_type in ["organizationMembership.created", "organization.updated", "user.created", "session.ended", "", "x"]
            {
                assert_eq!(subject(event_type, &data), Subject::default(), "{event_type} {data}");
            }
        }
    }
}
