//! What a rightly signed token says, and when that is not enough.

use super::*;

const INVALID: &str = "invalid";
const EXPIRED: &str = "expired";
const EARLY: &str = "early";
const KIND: &str = "kind";
const PARTY: &str = "party";
const PENDING: &str = "pending";

fn name(result: &Result<Claims, TokenError>) -> &'static str {
    match result {
        Ok(_) => "taken",
        Err(TokenError::Invalid { .. }) => INVALID,
        Err(TokenError::Expired) => EXPIRED,
        Err(TokenError::NotYetValid) => EARLY,
        Err(TokenError::KindRefused) => KIND,
        Err(TokenError::PartyUnauthorized) => PARTY,
        Err(TokenError::SessionPending) => PENDING,
    }
}

#[test]
fn a_token_without_an_organization_says_who_and_until_when() {
    let claims = judge(claims()).expect("taken");
    assert_eq!((claims.user.as_str(), claims.session.as_str()), ("user_ada", "sess_1"));
    assert_eq!((claims.issued_at, claims.expires_at), (NOW, NOW + 60));
    assert_eq!(claims.authorized_party.as_deref(), Some("https://app.test"));
    assert_eq!((claims.factor_ages, claims.status.as_deref()), (Some([3, -1]), Some("active")));
    assert_eq!((&claims.actor, &claims.organization), (&None, &None));
    assert!(!claims.has_expired(Duration::from_secs(NOW as u64 + 64), SKEW));
    assert!(claims.has_expired(Duration::from_secs(NOW as u64 + 65), SKEW));
}

#[test]
fn an_impersonator_is_named() {
    let act = json!({"iss": "https://dashboard.test", "sid": "sess_9", "sub": "user_root", "type": "agent", "more": 1});
    let actor = judge(with(claims(), json!({"act": act}))).expect("taken").actor.expect("an actor");
    assert_eq!((actor.sub.as_str(), actor.sid.as_deref()), ("user_root", Some("sess_9")));
    let written = serde_json::to_value(&actor).expect("json");
    assert_eq!(written, json!({"iss": "https://dashboard.test", "sid": "sess_9", "sub": "user_root", "type": "agent"}));
}

#[test]
fn both_versions_name_the_active_organization() {
    let first = json!({
        "org_id": "org_1", "org_slug": "harbour-works", "org_role": "org:admin", "org_permissions": ["org:ledger:view"],
    });
    let second = json!({
        "v": 2, "fea": "o:ledger,u:beta", "pla": "o:pro",
        "o": {"id": "org_1", "slg": "harbour-works", "rol": "admin", "per": "view,edit", "fpm": "1,3"},
    });
    let expected = ActiveOrganization {
        id: crate::domain::OrganizationId::parse("org_1").expect("id"),
        slug: Some("harbour-works".to_owned()),
        role: Some("org:admin".to_owned()),
        permissions: vec!["org:ledger:view".to_owned()],
    };
    for version in [first, second] {
        let organization = judge(with(claims(), version.clone())).expect("taken").organization;
        assert_eq!(organization.as_ref(), Some(&expected), "{version}");
    }
}

#[test]
fn each_version_is_read_by_its_own_members_only() {
    let organization = |members| judge(with(claims(), members)).expect("taken").organization.map(|found| found.id.to_string());
    let (first, second) = (json!("org_1"), json!({"id": "org_2"}));
    assert_eq!(organization(json!({"org_id": first, "o": second})).as_deref(), Some("org_1"));
    assert_eq!(organization(json!({"v": 1, "org_id": first, "o": second})).as_deref(), Some("org_1"));
    assert_eq!(organization(json!({"v": 2, "org_id": first, "o": second})).as_deref(), Some("org_2"));
    assert_eq!(organization(json!({"v": 2, "org_id": first})), None);
    assert_eq!(organization(json!({"o": second})), None);
}

#[test]
fn what_only_informs_may_be_missing_or_odd() {
    for members in [
        json!({"fva": "3"}),
        json!({"fva": [1]}),
        json!({"fva": null, "sts": null, "azp": null, "nbf": null, "jti": null}),
        json!({"v": 2, "o": {"id": "org_1"}}),
        json!({"v": 2, "o": {"id": "org_1", "rol": 1, "slg": {}, "per": [], "fpm": 3}, "fea": ["o:a"]}),
        json!({"org_id": "org_1", "org_role": 1, "org_permissions": "all"}),
        json!({"later": {"deep": [1]}}),
    ] {
        let claims = judge(with(claims(), members.clone())).unwrap_or_else(|error| panic!("{members}: {error}"));
        let permissions = claims.organization.map(|organization| organization.permissions).unwrap_or_default();
        assert!(permissions.is_empty(), "{members}");
    }
}

#[test]
fn claims_that_decide_are_of_their_type_or_nothing_is_taken() {
    let check = |members: Value, expected| {
        let result = judge(with(claims(), members.clone()));
        assert_eq!(name(&result), expected, "{members}: {result:?}");
    };
    for member in ["iat", "exp", "sub"] {
        check(json!({ member: null }), INVALID);
    }
    for member in ["iat", "nbf", "exp"] {
        for value in [json!("1790000000"), json!(1_790_000_000.5), json!(1e300), json!([NOW]), json!(true)] {
            check(json!({ member: value }), INVALID);
        }
    }
    for member in ["iss", "sub", "sid", "azp", "sts"] {
        check(json!({ member: ["https://app.test"] }), INVALID);
    }
    for members in [
        json!({"iss": "https://clerk.elsewhere.test"}),
        json!({"iss": format!("{ISSUER}/")}),
        json!({"iss": null}),
        json!({"sub": "user/1"}),
        json!({"sub": ""}),
        json!({"sid": ""}),
        json!({"sid": "../1"}),
        json!({"act": {"sid": "sess_9"}}),
        json!({"act": "user_root"}),
        json!({"org_id": "acme"}),
        json!({"v": 2, "o": {"slg": "acme"}}),
        json!({"v": 2, "o": {"id": "../org"}}),
        json!({"v": "2"}),
    ] {
        check(members, INVALID);
    }
}

#[test]
fn times_are_held_to_with_five_seconds_of_skew() {
    let check = |members: Value, now_ms: i64, expected| {
        let token = OURS.sign(&header().to_string(), &with(claims(), members.clone()).to_string());
        assert_eq!(name(&take(&token, &policy(), now_ms)), expected, "{members} at {now_ms}");
    };
    let at = |seconds: i64, ms: i64| (NOW + seconds) * 1_000 + ms;
    check(json!({}), at(64, 999), "taken");
    check(json!({}), at(65, 0), EXPIRED);
    check(json!({}), at(-5, 0), "taken");
    check(json!({}), at(-5, -1), EARLY);
    check(json!({"nbf": NOW + 6}), at(1, 0), "taken");
    check(json!({"nbf": NOW + 6}), at(0, 999), EARLY);
    check(json!({"exp": NOW + 600}), at(0, 0), "taken");
    check(json!({"exp": NOW + 601}), at(0, 0), INVALID);
    check(json!({"exp": NOW - 1}), at(0, 0), "taken");
    check(json!({"exp": i64::MAX}), at(0, 0), INVALID);
    check(json!({"iat": i64::MIN, "exp": i64::MAX}), at(0, 0), INVALID);
    check(json!({"iat": i64::MAX, "exp": i64::MAX}), at(0, 0), EARLY);
    check(json!({"iat": i64::MIN, "exp": i64::MIN}), at(0, 0), EXPIRED);
}

#[test]
fn machines_and_templates_are_named_as_such() {
    let check = |header_members: Value, claim_members: Value, expected| {
        let (header, claims) = (with(header(), header_members), with(claims(), claim_members));
        let token = OURS.sign(&header.to_string(), &claims.to_string());
        let result = take(&token, &policy(), NOW * 1_000);
        assert_eq!(name(&result), expected, "{header} {claims}: {result:?}");
    };
    let none = || json!({});
    for taken in [json!({"typ": null}), json!({"cat": null}), json!({"cat": "cl_I7d4PD111III"})] {
        check(taken, none(), "taken");
    }
    for typ in ["at+jwt", "application/at+jwt", "JWS", "jwt", ""] {
        check(json!({ "typ": typ }), none(), KIND);
    }
    for category in ["cl_B7d4PD222AAA", "cl_B7d4PD333AAA", "cl_later"] {
        check(json!({ "cat": category }), none(), KIND);
    }
    check(none(), json!({"sub": "mch_1"}), KIND);
    check(none(), json!({"sid": null}), KIND);
    // Whatever else is wrong with it: a fresh one would not help.
    check(none(), json!({"sub": "mch_1", "iss": "https://elsewhere.test", "exp": NOW + 100_000}), KIND);
    check(json!({"cat": "cl_B7d4PD333AAA"}), json!({"sub": null, "iat": null}), KIND);
    for opaque in ["ak_0123", "mt_0123", "m2m_0123", "oat_0123"] {
        assert_eq!(name(&take(opaque, &policy(), NOW * 1_000)), KIND, "{opaque}");
    }
}

#[test]
fn only_authorized_parties_are_admitted_where_any_are_named() {
    let parties = Policy { authorized_parties: vec!["https://app.test".into(), "https://b.test".into()], ..policy() };
    let check = |policy: &Policy, party: Value, expected| {
        let token = OURS.sign(&header().to_string(), &with(claims(), json!({"azp": party})).to_string());
        assert_eq!(name(&take(&token, policy, NOW * 1_000)), expected, "{party}");
    };
    check(&parties, json!("https://app.test"), "taken");
    for party in [json!("https://app.test/"), json!("https://evil.test"), json!(""), Value::Null] {
        check(&parties, party.clone(), PARTY);
        check(&policy(), party, "taken");
    }
}

#[test]
fn a_pending_session_is_signed_in_only_where_that_is_allowed() {
    let token = OURS.sign(&header().to_string(), &with(claims(), json!({"sts": "pending"})).to_string());
    assert_eq!(name(&take(&token, &policy(), NOW * 1_000)), PENDING);
    let allowing = Policy { allows_pending: true, ..policy() };
    assert_eq!(name(&take(&token, &allowing, NOW * 1_000)), "taken");
}

#[test]
fn without_an_issuer_the_keys_alone_decide() {
    let token = OURS.sign(&header().to_string(), &with(claims(), json!({"iss": "https://elsewhere.test"})).to_string());
    assert_eq!(name(&take(&token, &Policy::default(), NOW * 1_000)), "taken");
}
