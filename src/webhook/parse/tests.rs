//! Every event type as a table, in both units of time, and properties over any bytes and any JSON.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{MembershipId, OrganizationId, SessionId, UserId};

const AT: i64 = 1_790_000_900_123;

fn user(n: &str) -> UserId {
    UserId::parse(n).expect("id")
}

fn organization(n: &str) -> OrganizationId {
    OrganizationId::parse(n).expect("id")
}

fn membership_id() -> MembershipId {
    MembershipId::parse("orgmem_1").expect("id")
}

fn event(event_type: &str, data: Value) -> Value {
    json!({"object": "event", "type": event_type, "timestamp": AT, "instance_id": "ins_1", "data": data})
}

fn outcome(event_type: &str, data: Value) -> Outcome {
    parse_body(event(event_type, data).to_string().as_bytes()).outcome
}

fn change(event_type: &str, data: Value) -> Change {
    match outcome(event_type, data) {
        Outcome::Change(change) => change,
        other => panic!("{event_type}: {other:?}"),
    }
}

fn membership() -> Value {
    json!({
        "object": "organization_membership", "id": "orgmem_1", "role": "org:admin", "permissions": ["org:reports:read"],
        "organization": {"object": "organization", "id": "org_1", "name": "Harbour Works", "slug": "harbour-works", "updated_at": 5},
        "public_user_data": {"user_id": "user_1", "first_name": "Ada", "identifier": "ada@example.test"},
        "created_at": 1_790_000_000_000_i64, "updated_at": 1_790_000_000_001_i64,
    })
}

fn without(mut value: Value, member: &str) -> Value {
    value.as_object_mut().expect("an object").remove(member);
    value
}

fn with(mut value: Value, member: &str, new: Value) -> Value {
    value[member] = new;
    value
}

#[test]
fn membership_events_name_the_membership_and_its_user() {
    let (membership_id, user) = (membership_id(), Some(user("user_1")));
    assert_eq!(
        change("organizationMembership.created", membership()),
        Change::MembershipCreated { membership: membership_id.clone(), user: user.clone() }
    );
    assert_eq!(
        change("organizationMembership.updated", membership()),
        Change::MembershipUpdated {
            membership: membership_id.clone(),
            user: user.clone(),
            role: "org:admin".to_owned(),
            updated_at: 1_790_000_000_001
        }
    );
    assert_eq!(
        change("organizationMembership.deleted", membership()),
        Change::MembershipDeleted { membership: membership_id, user }
    );
}

#[test]
fn a_membership_event_without_its_user_is_filed_under_the_membership() {
    for data in [
        without(membership(), "public_user_data"),
        with(membership(), "public_user_data", Value::Null),
        with(membership(), "public_user_data", json!({})),
        with(membership(), "public_user_data", json!({"user_id": null})),
    ] {
        for event_type in ["created", "updated", "deleted"] {
            let change = change(&format!("organizationMembership.{event_type}"), data.clone());
            assert!(change.users().is_empty() && change.is_unfiled(), "{change:?}");
        }
    }
}

#[test]
fn an_organization_event_carries_what_may_change() {
    let data = json!({"id": "org_1", "name": "Harbour Works", "slug": "harbour", "image_url": "https://img.example.test/o.png", "updated_at": 7});
    let expected = |slug: Option<&str>, image: Option<&str>| Change::OrganizationUpdated {
        organization: organization("org_1"),
        name: "Harbour Works".to_owned(),
        slug: slug.map(str::to_owned),
        image_url: image.map(str::to_owned),
        updated_at: 7,
    };
    let image = Some("https://img.example.test/o.png");
    assert_eq!(change("organization.updated", data.clone()), expected(Some("harbour"), image));
    for none in [without(data.clone(), "slug"), with(data.clone(), "slug", json!("")), with(data.clone(), "slug", Value::Null)] {
        assert_eq!(change("organization.updated", none), expected(None, image));
    }
    assert_eq!(change("organization.updated", without(data, "image_url")), expected(Some("harbour"), None));
    let deleted = json!({"object": "organization", "id": "org_1", "deleted": true});
    assert_eq!(change("organization.deleted", deleted), Change::OrganizationDeleted { organization: organization("org_1") });
}

#[test]
fn user_and_session_events_name_whom_they_end() {
    let data = json!({"id": "user_1"});
    assert_eq!(change("user.created", data.clone()), Change::UserCreated { user: user("user_1") });
    assert_eq!(change("user.deleted", data), Change::UserDeleted { user: user("user_1") });
    let session = SessionId::parse("sess_1").expect("id");
    for event_type in ["session.ended", "session.removed", "session.revoked"] {
        let data = json!({"id": "sess_1", "user_id": "user_1", "status": "ended", "user": null});
        assert_eq!(change(event_type, data), Change::SessionEnded { session: session.clone(), user: Some(user("user_1")) });
        let nobody = json!({"id": "sess_1"});
        assert_eq!(change(event_type, nobody), Change::SessionEnded { session: session.clone(), user: None });
    }
}

#[test]
fn of_a_changed_user_only_a_ban_matters() {
    let data = |banned: Value| json!({"id": "user_1", "banned": banned, "locked": true, "updated_at": 1_790_000_000_000_i64});
    assert_eq!(
        change("user.updated", data(json!(true))),
        Change::UserBanned { user: user("user_1"), tokens_until: AT / 1_000 + 5 }
    );
    assert_eq!(outcome("user.updated", data(json!(false))), Outcome::Ignored);
    assert_eq!(outcome("user.updated", data(Value::Null)), Outcome::Ignored);
    assert_eq!(outcome("user.updated", json!({"id": "user_1"})), Outcome::Ignored);
    assert!(matches!(outcome("user.updated", data(json!("yes"))), Outcome::Unparsable { .. }));
}

#[test]
fn a_ban_without_the_envelopes_time_goes_by_the_users_own() {
    let parse = |data: Value| parse_body(json!({"type": "user.updated", "data": data}).to_string().as_bytes()).outcome;
    let dated = json!({"id": "user_1", "banned": true, "updated_at": 1_790_000_000_000_i64});
    assert_eq!(parse(dated), Outcome::Change(Change::UserBanned { user: user("user_1"), tokens_until: 1_790_000_005 }));
    assert!(matches!(parse(json!({"id": "user_1", "banned": true})), Outcome::Unparsable { .. }));
}

#[test]
fn the_envelopes_time_may_be_in_seconds_or_milliseconds() {
    let at = |timestamp: Value| {
        let body = json!({"type": "user.created", "data": {"id": "user_1"}, "timestamp": timestamp});
        parse_body(body.to_string().as_bytes()).occurred_at_ms
    };
    assert_eq!(at(json!(1_716_883_200)), Some(1_716_883_200_000));
    assert_eq!(at(json!(AT)), Some(AT));
    assert_eq!(at(json!(999_999_999_999_i64)), Some(999_999_999_999_000));
    assert_eq!(at(json!(1_000_000_000_000_i64)), Some(1_000_000_000_000));
    for none in [json!(null), json!("1716883200"), json!(1.5), json!(0), json!(-5), json!(u64::MAX), json!({})] {
        assert_eq!(at(none.clone()), None, "{none}");
    }
}

#[test]
fn the_envelope_is_read_where_it_is_there() {
    let parsed = parse_body(event("user.created", json!({"id": "user_1"})).to_string().as_bytes());
    assert_eq!(parsed.event_type, "user.created");
    assert_eq!(parsed.instance_id.as_deref(), Some("ins_1"));
    let bare = parse_body(br#"{"type":"user.created","data":{"id":"user_1"},"instance_id":7}"#);
    assert_eq!((bare.instance_id, bare.occurred_at_ms), (None, None));
    assert!(matches!(bare.outcome, Outcome::Change(_)));
}

#[test]
fn what_changes_no_answer_is_ignored() {
    for event_type in [
        "organization.created",
        "role.created",
        "role.updated",
        "role.deleted",
        "permission.updated",
        "organizationDomain.created",
        "organizationInvitation.accepted",
        "session.created",
        "session.pending",
        "email.created",
        "waitlistEntry.created",
        "subscriptionItem.active",
        "something.new",
        "",
        "ORGANIZATION.DELETED",
    ] {
        // Whatever its data is: nothing of it is needed.
        for data in [Value::Null, json!([1]), membership()] {
            assert_eq!(outcome(event_type, data), Outcome::Ignored, "{event_type}");
        }
    }
}

#[test]
fn a_type_is_bounded_at_a_characters_edge() {
    let long = "ü".repeat(200);
    let parsed = parse_body(json!({"type": long}).to_string().as_bytes());
    assert_eq!(parsed.event_type, "ü".repeat(64));
    assert_eq!(parsed.outcome, Outcome::Ignored);
}

#[test]
fn a_known_type_that_lacks_what_it_needs_evicts_everybody_it_names() {
    let organization_data = json!({"id": "org_1", "name": "Harbour Works", "updated_at": 7, "created_by": "user_1"});
    let named = |extra: &str| json!({"note": format!("user_1 {extra}"), "organization": {"id": "org_1"}});
    let cases = [
        ("organizationMembership.created", without(membership(), "id")),
        ("organizationMembership.deleted", without(membership(), "id")),
        ("organizationMembership.deleted", with(membership(), "id", json!("a b"))),
        ("organizationMembership.updated", without(membership(), "role")),
        ("organizationMembership.updated", with(membership(), "role", json!(""))),
        ("organizationMembership.updated", with(membership(), "role", json!("r".repeat(129)))),
        ("organizationMembership.updated", without(membership(), "updated_at")),
        ("organization.updated", without(organization_data.clone(), "updated_at")),
        ("organization.updated", without(organization_data.clone(), "name")),
        ("organization.updated", with(organization_data.clone(), "name", json!("n".repeat(1_025)))),
        ("organization.updated", with(organization_data.clone(), "slug", json!("s".repeat(257)))),
        ("organization.updated", with(organization_data.clone(), "image_url", json!("u".repeat(2_049)))),
        ("organization.updated", with(organization_data, "slug", json!(5))),
        ("organization.deleted", named("")),
        ("user.created", named("")),
        ("user.deleted", named("")),
        ("user.updated", named("")),
        ("session.ended", named("")),
    ];
    for (event_type, data) in cases {
        let parsed = parse_body(event(event_type, data.clone()).to_string().as_bytes());
        assert_eq!(parsed.event_type, event_type);
        assert_eq!(parsed.occurred_at_ms, Some(AT));
        let Outcome::Unparsable { evict, .. } = parsed.outcome else { panic!("{event_type} {data}") };
        let expected = Change::Evicted { users: vec![user("user_1")], organizations: vec![organization("org_1")] };
        assert_eq!(evict, expected, "{event_type} {data}");
    }
}

#[test]
fn what_is_no_event_evicts_everybody_it_names() {
    let deep = format!("{}\"user_1\"{}", "[".repeat(5_000), "]".repeat(5_000));
    for body in [
        r#"{"data":{"id":"user_1"}}"#,
        r#"{"type":null,"data":{"id":"user_1"}}"#,
        r#"{"type":["user.deleted"],"data":"user_1"}"#,
        r#"["user_1"]"#,
        r#""user_1""#,
        r#"{"type":"user.deleted","data":{"id":"user_1""#,
        "user_1",
        deep.as_str(),
    ] {
        let parsed = parse_body(body.as_bytes());
        let Outcome::Unparsable { evict, .. } = parsed.outcome else { panic!("{body}") };
        assert_eq!(evict, Change::Evicted { users: vec![user("user_1")], organizations: vec![] }, "{body}");
    }
    for nobody in ["", "null", "{}", "[]", "17"] {
        let Outcome::Unparsable { evict, .. } = parse_body(nobody.as_bytes()).outcome else { panic!("{nobody}") };
        assert_eq!(evict, Change::Evicted { users: vec![], organizations: vec![] });
    }
}

#[test]
fn more_ids_than_an_eviction_names_are_admitted_to() {
    let many = json!((0..1_001).map(|n| format!("user_{n}")).collect::<Vec<_>>());
    assert!(parse_body(event("user.deleted", many.clone()).to_string().as_bytes()).is_cut);
    assert!(!parse_body(event("role.deleted", many).to_string().as_bytes()).is_cut);
}

/// Any JSON, with the words that matter strewn in.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("user_1".to_owned()),
        Just("org_1".to_owned()),
        Just("orgmem_1".to_owned()),
        Just("type".to_owned()),
        Just("organization.updated".to_owned()),
        ".{0,12}",
    ];
    let member = prop_oneof![
        Just("id".to_owned()),
        Just("data".to_owned()),
        Just("type".to_owned()),
        Just("timestamp".to_owned()),
        Just("public_user_data".to_owned()),
        Just("updated_at".to_owned()),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((member.clone(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn known_type() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "organizationMembership.created",
        "organizationMembership.updated",
        "organizationMembership.deleted",
        "organization.updated",
        "organization.deleted",
        "user.created",
        "user.updated",
        "user.deleted",
        "session.ended",
    ])
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        parse_body(&body);
    }

    #[test]
    fn no_event_makes_it_panic(event_type in known_type(), data in any_json(), timestamp in any_json()) {
        let body = json!({"type": event_type, "data": data, "timestamp": timestamp}).to_string();
        prop_assert_eq!(parse_body(body.as_bytes()).event_type, event_type);
    }

    #[test]
    fn whoever_is_named_in_what_cannot_be_read_is_evicted(
        event_type in known_type(), data in any_json(), name in "[A-Za-z0-9]{1,30}", cut in 0..3usize,
    ) {
        let (named_user, named_organization) = (format!("user_{name}"), format!("org_{name}"));
        let list = json!([data, {"deep": [named_user.clone()]}, format!("of {named_organization}.")]);
        let mut body = event(event_type, list).to_string();
        // Also when the end never came.
        body.truncate(body.rfind("\"timestamp\"").filter(|_| cut > 0).unwrap_or(body.len()));
        let Outcome::Unparsable { evict: Change::Evicted { users, organizations }, .. } = parse_body(body.as_bytes()).outcome else {
            panic!("a list is no data");
        };
        prop_assert!(users.contains(&user(&named_user)));
        prop_assert!(organizations.contains(&organization(&named_organization)));
    }
}
