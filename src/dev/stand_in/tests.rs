//! The stand-in over HTTP: shapes, refusals, faults, holds, counts, lag, and the world's own API.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use super::*;
use crate::dev::sender::Habits;

const BEARER: &str = "Bearer sk_test_rollcall_stand_in";

async fn small() -> StandIn {
    StandIn::start(Options { world: World::small(), retry_factor: 0.0001, ..Options::default() }).await.expect("starts")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("builds")
}

async fn ask(stand_in: &StandIn, path: &str) -> Response {
    let request = client().get(format!("{}{path}", stand_in.url())).header("authorization", BEARER);
    request.header("clerk-api-version", "2026-05-12").send().await.expect("answers")
}

async fn ask_json(stand_in: &StandIn, path: &str) -> (u16, Value) {
    let response = ask(stand_in, path).await;
    (response.status().as_u16(), response.json().await.expect("json"))
}

async fn tell(stand_in: &StandIn, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = client().request(method, format!("{}{path}", stand_in.url())).json(&body);
    let response = request.send().await.expect("answers");
    (response.status().as_u16(), response.json().await.expect("json"))
}

fn memberships_of(user: &str) -> String {
    format!("/v1/users/{user}/organization_memberships?limit=500")
}

async fn total(stand_in: &StandIn, user: &str) -> i64 {
    ask_json(stand_in, &memberships_of(user)).await.1["total_count"].as_i64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_the_shape_of_clerk() {
    let clerk = small().await;
    let response = ask(&clerk, "/v1/users/user_ada/organization_memberships").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().contains_key("date") && !response.headers().contains_key("retry-after"));
    let body: Value = response.json().await.expect("json");
    assert_eq!(body["total_count"], 12);
    let rows = body["data"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[0]["organization"]["slug"]), (10, &json!("velvet-anvil")), "ten by default, newest first");
    let row = &rows[9];
    assert_eq!(row["object"], "organization_membership");
    assert_eq!(row["id"], "orgmem_ada_northfold_bakery");
    assert_eq!(row["role"], "org:member");
    assert_eq!(row["public_user_data"]["user_id"], "user_ada");
    assert_eq!(row["organization"]["name"], "Northfold Bakery");
    assert_eq!(row["organization"]["members_count"], 2);
    assert!(row["created_at"].as_i64() > Some(crate::dev::EPOCH_MS));
    let (_, rest) = ask_json(&clerk, "/v1/users/user_ada/organization_memberships?limit=10&offset=10").await;
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(2));
    let (status, none) = ask_json(&clerk, &memberships_of("user_tomas")).await;
    assert_eq!((status, none), (200, json!({"data": [], "total_count": 0})));
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clerk_refuses_is_refused_in_its_words() {
    let clerk = small().await;
    let list = "/v1/users/user_ada/organization_memberships";
    for (path, status, code) in [
        (memberships_of("user_nobody"), 404, "resource_not_found"),
        ("/v1/users/user_nobody".to_owned(), 404, "resource_not_found"),
        (format!("{list}?limit=501"), 422, "form_param_value_invalid"),
        (format!("{list}?limit=0"), 422, "form_param_value_invalid"),
        (format!("{list}?offset=-1"), 422, "form_param_value_invalid"),
        (format!("{list}?limit=10.0"), 422, "form_param_type_invalid"),
        (format!("{list}?__clerk_api_version=2026-05-12"), 400, "api_version_invalid"),
        ("/v1/organizations/nowhere".to_owned(), 404, "resource_not_found"),
        ("/v1/elsewhere".to_owned(), 404, "resource_not_found"),
    ] {
        let (answered, body) = ask_json(&clerk, &path).await;
        assert_eq!((answered, &body["errors"][0]["code"]), (status, &json!(code)), "{path}");
        assert!(body["errors"][0]["long_message"].is_string() && body["errors"][0]["message"].is_string());
    }
    let url = format!("{}{list}", clerk.url());
    for (name, value, status, code) in [
        ("x-nothing", "", 401, "authentication_invalid"),
        ("authorization", "sk_test_rollcall_stand_in", 401, "authorization_header_format_invalid"),
        ("authorization", "Bearer sk_test_other", 401, "clerk_key_invalid"),
    ] {
        let response = client().get(&url).header(name, value).send().await.expect("answers");
        assert_eq!(response.status().as_u16(), status);
        let body: Value = response.json().await.expect("json");
        assert_eq!(body["errors"][0]["code"], code);
    }
    let asked = client().get(&url).header("authorization", BEARER);
    assert_eq!(asked.header("clerk-api-version", "2020-01-01").send().await.expect("answers").status().as_u16(), 400);
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_organizations_and_keys_are_served() {
    let clerk = small().await;
    let (status, body) = ask_json(&clerk, "/v1/users/user_mei").await;
    assert_eq!((status, &body["id"], &body["object"]), (200, &json!("user_mei"), &json!("user")));
    for path in ["/v1/organizations/harbour-works", "/v1/organizations/org_harbour_works"] {
        let (status, body) = ask_json(&clerk, path).await;
        assert_eq!((status, &body["id"], &body["object"]), (200, &json!("org_harbour_works"), &json!("organization")));
    }
    let (_, body) = ask_json(&clerk, "/v1/organizations/org_quiet_room").await;
    assert_eq!(body["slug"], "", "a text in Clerk's schema, always");
    let (_, with_key) = ask_json(&clerk, "/v1/jwks").await;
    let public = client().get(format!("{}/.well-known/jwks.json", clerk.url())).send().await.expect("answers");
    assert_eq!(public.json::<Value>().await.expect("json"), with_key);
    assert_eq!(with_key["keys"][0]["kid"], crate::dev::INSTANCE_ID);
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_status_are_met_as_often_as_told() {
    let clerk = small().await;
    clerk.faults().add(Rule::next(Act::Status { status: 429, retry_after: Some(7) }, 1));
    clerk.faults().add(Rule::next(Act::Status { status: 503, retry_after: None }, 1));
    let limited = ask(&clerk, &memberships_of("user_ada")).await;
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"7".parse().expect("a value")));
    assert_eq!(limited.json::<Value>().await.expect("json")["errors"][0]["code"], "too_many_requests");
    assert_eq!(ask(&clerk, &memberships_of("user_ada")).await.status().as_u16(), 503);
    assert_eq!(ask(&clerk, &memberships_of("user_ada")).await.status().as_u16(), 200);
    clerk.faults().set(Faults { rate_limit: Some(2), ..Faults::default() });
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask(&clerk, &memberships_of("user_ada")).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(ask(&clerk, "/v1/jwks").await.status().as_u16(), 200, "no limit on keys");
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_can_be_cut_spoilt_or_never_come() {
    let clerk = small().await;
    let path = memberships_of("user_ada");
    clerk.faults().set(Faults::of([Rule::next(Act::Cut, 1)]));
    let mut cut = ask(&clerk, &path).await;
    assert_eq!(cut.status().as_u16(), 200);
    let announced = cut.content_length().expect("a length");
    let first = cut.chunk().await.expect("the beginning arrives").expect("some bytes").len() as u64;
    assert!(first > 0 && first < announced);
    assert!(loop_to_end(cut).await.is_err(), "the rest must not come");
    clerk.faults().set(Faults::of([Rule::next(Act::Garbage, 1), Rule::next(Act::ContentType, 1)]));
    assert!(ask(&clerk, &path).await.json::<Value>().await.is_err());
    assert_eq!(ask(&clerk, &path).await.headers()["content-type"], "text/html");
    clerk.faults().set(Faults::of([Rule::next(Act::Hang, 1)]));
    let (before, hung) = (clerk.calls().total(), client().get(format!("{}{path}", clerk.url())).header("authorization", BEARER));
    let hung = tokio::spawn(hung.send());
    while clerk.calls().total() == before {
        tokio::task::yield_now().await;
    }
    assert!(tokio::time::timeout(Duration::from_millis(300), hung).await.is_err(), "it hangs");
    assert_eq!(ask(&clerk, &path).await.status().as_u16(), 200);
    clerk.stop().await;
}

async fn loop_to_end(mut response: Response) -> reqwest::Result<()> {
    while response.chunk().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_can_fail_to_add_up() {
    let clerk = small().await;
    let ids = async |offset: usize| {
        let path = format!("/v1/users/user_ada/organization_memberships?limit=6&offset={offset}");
        let (_, body) = ask_json(&clerk, &path).await;
        body["data"].as_array().expect("rows").iter().map(|row| row["id"].to_string()).collect::<Vec<_>>()
    };
    let right = [ids(0).await, ids(6).await].concat();
    clerk.faults().set(Faults::of([Rule::next(Act::RowMoved, 1)]));
    let moved = [ids(0).await, ids(6).await].concat();
    assert_eq!((right.len(), moved.len()), (12, 12));
    assert_eq!(moved[6], moved[5], "a row comes twice");
    assert!(!moved.contains(&right[11]), "and another is missing");
    assert_eq!([ids(0).await, ids(6).await].concat(), right);
    clerk.faults().set(Faults::of([Rule::next(Act::WrongTotal { by: 1 }, 1)]));
    assert_eq!((total(&clerk, "user_ada").await, total(&clerk, "user_ada").await), (13, 12));
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_answer_is_from_before_what_overtook_it() {
    let clerk = small().await;
    let held = clerk.hold_next_answer_about("user_ada");
    let (url, path) = (clerk.url(), memberships_of("user_ada"));
    let reading = tokio::spawn(async move {
        client().get(format!("{url}{path}")).header("authorization", BEARER).send().await?.json::<Value>().await
    });
    assert_eq!(total(&clerk, "user_noor").await, 2, "others are not held");
    held.reached().await.expect("reached");
    clerk.world().lock().revoke("user_ada", "harbour-works").expect("she is in it");
    assert_eq!(total(&clerk, "user_ada").await, 11, "only one answer is held");
    assert!(!reading.is_finished());
    held.release();
    assert_eq!(reading.await.expect("runs").expect("answers")["total_count"], 12);
    drop(clerk.hold_next_answer());
    assert_eq!(total(&clerk, "user_ada").await, 11, "a dropped hold holds nobody");
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_lag_behind_writes_when_told_to() {
    let clerk = small().await;
    clerk.world().lock().revoke("user_ada", "harbour-works").expect("she is in it");
    clerk.faults().set(Faults { reads_lag_ms: 300_000, ..Faults::default() });
    assert_eq!(total(&clerk, "user_ada").await, 12);
    clerk.faults().clear();
    assert_eq!(total(&clerk, "user_ada").await, 11);
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted() {
    let clerk = small().await;
    for path in [&memberships_of("user_ada"), &memberships_of("user_ada"), &memberships_of("user_none"), "/v1/jwks"] {
        ask(&clerk, path).await;
    }
    let seen = clerk.calls().seen();
    assert_eq!((seen.total, clerk.calls().of_user("user_ada")), (4, 2));
    assert_eq!(seen.by_path["GET /v1/users/{user_id}/organization_memberships"], 3);
    assert_eq!((seen.by_status[&200], seen.by_status[&404]), (3, 1));
    assert_eq!(clerk.calls().busiest(Duration::from_secs(10)), 3, "keys do not count against the limit");
    let (status, body) = tell(&clerk, Method::GET, "/world/calls", Value::Null).await;
    assert_eq!((status, &body["seen"]["byUser"]["user_ada"], &body["busiestTenSeconds"]), (200, &json!(2), &json!(3)));
    clerk.calls().reset();
    assert_eq!(clerk.calls().total(), 0);
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_can_be_changed_by_hand_and_silently() {
    let clerk = small().await;
    let place = json!({"user": "user_tomas", "organization": "harbour-works", "role": "org:admin"});
    for (method, path, body, status) in [
        (Method::POST, "/world/memberships?webhook=false", place.clone(), 200),
        (Method::POST, "/world/memberships?webhook=false", place.clone(), 409),
        (
            Method::PATCH,
            "/world/memberships?webhook=false",
            json!({"user": "user_tomas", "organization": "harbour-works", "role": "org:member"}),
            200,
        ),
        (Method::DELETE, "/world/memberships?webhook=false", json!({"user": "user_tomas", "organization": "harbour-works"}), 200),
        (Method::DELETE, "/world/memberships?webhook=false", json!({"user": "user_tomas", "organization": "harbour-works"}), 404),
        (Method::POST, "/world/users?webhook=false", json!({"id": "user_lena"}), 200),
        (Method::PATCH, "/world/users/user_lena?webhook=false", json!({"banned": true}), 200),
        (Method::PATCH, "/world/users/user_lena?webhook=false", json!({}), 400),
        (
            Method::POST,
            "/world/organizations?webhook=false",
            json!({"name": "New", "slug": "new", "createdBy": "user_lena"}),
            200,
        ),
        (Method::PATCH, "/world/organizations/new?webhook=false", json!({"slug": "newer"}), 200),
        (Method::DELETE, "/world/organizations/newer?webhook=false", Value::Null, 200),
        (Method::DELETE, "/world/users/user_lena?webhook=false", Value::Null, 200),
        (Method::POST, "/world/users", json!({"surprise": 1}), 400),
        (Method::POST, "/world/users?webhook=maybe", json!({}), 400),
        (Method::GET, "/world/elsewhere", Value::Null, 404),
    ] {
        let (answered, body) = tell(&clerk, method.clone(), path, body).await;
        assert_eq!(answered, status, "{method} {path}: {body}");
        assert_eq!(body["error"].is_string(), status >= 400, "{method} {path}: {body}");
    }
    let (_, world) = tell(&clerk, Method::GET, "/world", Value::Null).await;
    assert_eq!(world, World::small().describe(), "all is undone");
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_habits_are_set_over_http() {
    let clerk = small().await;
    let faults = json!({"rules": [{"do": "status", "status": 500, "next": 1}]});
    assert_eq!(tell(&clerk, Method::PUT, "/world/faults", faults).await.0, 200);
    assert_eq!(ask(&clerk, &memberships_of("user_ada")).await.status().as_u16(), 500);
    assert_eq!(clerk.faults().get(), Faults::default());
    assert_eq!(tell(&clerk, Method::PUT, "/world/faults", json!({"latency": 1})).await.0, 400);
    assert_eq!(tell(&clerk, Method::PUT, "/world/habits", json!({"loseShare": 1.0})).await.0, 200);
    let (_, done) = tell(&clerk, Method::DELETE, "/world/users/user_ivo", Value::Null).await;
    assert_eq!((&done["deliveries"], done["lost"].as_array().map(Vec::len)), (&json!([]), Some(1)));
    clerk.sender().set_habits(Habits::default());
    let (_, done) = tell(&clerk, Method::DELETE, "/world/users/user_kofi", Value::Null).await;
    assert_eq!(done["deliveries"][0]["error"], "no endpoint is set");
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stand_in_gives_its_port_back() {
    let clerk = small().await;
    let port = clerk.address().port();
    clerk.faults().add(Rule::always(Act::Hang));
    let url = format!("{}{}", clerk.url(), memberships_of("user_ada"));
    let hung = tokio::spawn(client().get(url).header("authorization", BEARER).send());
    while clerk.calls().total() == 0 {
        tokio::task::yield_now().await;
    }
    clerk.stop().await;
    assert!(hung.await.expect("runs").is_err());
    let again = StandIn::start(Options { port, ..Options::default() }).await.expect("the port is free");
    again.stop().await;
}

/// The claims of a token, verified with the keys that are published now.
async fn verified(clerk: &StandIn, token: &str) -> Result<crate::token::Claims, crate::token::TokenError> {
    use crate::token::{Jws, KeySet, Policy, TokenError};
    let document = client().get(format!("{}/.well-known/jwks.json", clerk.url())).send().await.expect("answers");
    let keys = KeySet::parse(&document.bytes().await.expect("a body")).expect("keys");
    let jws = Jws::parse(token)?;
    let key = keys.find(jws.key_id().expect("a key id")).ok_or(TokenError::Invalid { what: "retired" })?;
    let policy = Policy { issuer: Some(clerk.issuer().to_owned()), allows_pending: true, ..Policy::default() };
    policy.admit(&jws.verify(key)?, crate::clock::wall())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_both_versions_are_minted_over_http() {
    let clerk = small().await;
    for (version, organization, role, permissions) in [
        (1, "harbour-works", "org:admin", 3),
        (2, "org_harbour_works", "org:admin", 3),
        (1, "northfold-bakery", "org:member", 1),
        (2, "northfold-bakery", "org:member", 1),
    ] {
        let new =
            json!({"user": "user_ada", "organization": organization, "version": version, "authorizedParty": "https://a.test"});
        let (status, minted) = tell(&clerk, Method::POST, "/world/tokens", new).await;
        assert_eq!(status, 200, "{minted}");
        let claims = verified(&clerk, minted["jwt"].as_str().expect("a token")).await.expect("taken");
        assert_eq!((claims.user.as_str(), json!(claims.session.as_str())), ("user_ada", minted["session"].clone()));
        assert_eq!(claims.authorized_party.as_deref(), Some("https://a.test"));
        let active = claims.organization.expect("an organization");
        assert_eq!((active.role.as_deref(), active.permissions.len()), (Some(role), permissions), "version {version}");
        assert!(active.slug.is_some() && active.permissions[0] == "org:ledger:view");
    }
    let odd =
        NewToken { user: Some("user_noor".into()), actor: Some("user_ada".into()), is_pending: true, ..NewToken::default() };
    let claims = verified(&clerk, &clerk.mint(&odd).expect("minted")).await.expect("taken");
    assert_eq!((claims.status.as_deref(), claims.organization), (Some("pending"), None));
    assert_eq!(claims.actor.expect("an actor").sub, "user_ada");
    for (new, expected) in [
        (json!({"user": "user_nobody"}), 404),
        (json!({"session": "sess_nobody"}), 404),
        (json!({"user": "user_tomas", "organization": "harbour-works"}), 404),
        (json!({"user": "user_ada", "session": "sess_1"}), 400),
        (json!({}), 400),
    ] {
        let (status, body) = tell(&clerk, Method::POST, "/world/tokens", new.clone()).await;
        assert_eq!((status, body["error"].is_string()), (expected, true), "{new}");
    }
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_gets_no_token_and_its_end_is_told() {
    let clerk = small().await;
    for (how, event) in [("ended", "session.ended"), ("removed", "session.removed"), ("revoked", "session.revoked")] {
        let (_, started) = tell(&clerk, Method::POST, "/world/sessions?webhook=false", json!({"user": "user_ada"})).await;
        let session = started["id"].as_str().expect("an id").to_owned();
        let tokens = format!("{}/v1/sessions/{session}/tokens", clerk.url());
        let ask = async || {
            let request = client().post(&tokens).header("authorization", BEARER).header("clerk-api-version", "2026-05-12");
            let answer = request.json(&json!({"expires_in_seconds": 300})).send().await.expect("answers");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("json"))
        };
        let (status, minted) = ask().await;
        assert_eq!((status, &minted["object"]), (200, &json!("token")));
        let claims = verified(&clerk, minted["jwt"].as_str().expect("a token")).await.expect("taken");
        assert_eq!((claims.session.as_str(), claims.expires_at - claims.issued_at), (session.as_str(), 300));
        let (_, ended) = tell(&clerk, Method::DELETE, &format!("/world/sessions/{session}?how={how}"), Value::Null).await;
        assert_eq!((&ended["events"], ended["deliveries"].as_array().map(Vec::len)), (&json!([event]), Some(1)));
        assert_eq!(ask().await.0, 404);
    }
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_over_http() {
    let clerk = small().await;
    let mint = || clerk.mint(&NewToken { user: Some("user_ada".into()), ..NewToken::default() }).expect("minted");
    let old = mint();
    let (_, rotated) = tell(&clerk, Method::POST, "/world/keys", json!({})).await;
    assert_eq!(rotated["keys"].as_array().map(Vec::len), Some(2));
    for token in [&old, &mint()] {
        assert!(verified(&clerk, token).await.is_ok());
    }
    let (_, rotated) = tell(&clerk, Method::POST, "/world/keys", json!({"retire": true})).await;
    assert_eq!(rotated["keys"].as_array().map(Vec::len), Some(1));
    assert!(verified(&clerk, &old).await.is_err());
    assert!(verified(&clerk, &mint()).await.is_ok());
    clerk.stop().await;
}
