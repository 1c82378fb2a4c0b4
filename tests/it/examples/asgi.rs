//! `examples/rollcall_asgi.py`, in an app of Starlette's.

use super::*;
use crate::world::canned::{Canned, SILENCE};
use crate::world::libraries::{ASGI, Interpreter, ask, check_types};

/// Sends requests, each a path and headers; of each the status and the body.
async fn send(service: SocketAddr, requests: &[(&str, Value)]) -> Vec<(u16, Value)> {
    let questions: Vec<Value> = requests.iter().map(|(path, headers)| question(path, headers)).collect();
    let outcomes = ask(ASGI, service, &questions).await;
    outcomes.into_iter().map(|mut outcome| (status(&outcome), outcome["body"].take())).collect()
}

/// Of a WebSocket that was refused: how it was closed.
fn status(outcome: &Value) -> u16 {
    let number = outcome["status"].as_u64().or(outcome["closed"].as_u64());
    number.and_then(|number| number.try_into().ok()).unwrap_or_else(|| panic!("no status: {outcome}"))
}

/// To an app that takes Clerk's cookie, unless it is said that it does not.
fn question(path: &str, headers: &Value) -> Value {
    json!({ "path": path, "headers": headers, "isCookieTaken": true })
}

fn bearer(token: &str) -> Value {
    json!({ "authorization": format!("Bearer {token}") })
}

#[tokio::test(flavor = "multi_thread")]
async fn its_types_are_strict_and_those_of_httpx_and_starlette() {
    check_types(Interpreter::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_signed_in_has_a_context() {
    let town = Town::start().await;
    let token = town.mint(json!({ "user": "user_ada", "organization": "northfold-bakery" })).await.1;
    let cookie = json!({ "cookie": format!("theme=dark; __session={token}; __session_x=y") });
    // After one that is asked about, as whoever asks nobody has connected to nobody.
    let mut by_cookie_alone = question("/me", &cookie);
    by_cookie_alone["isCookieTaken"] = false.into();
    let refused = ask(ASGI, town.rollcall, &[question("/me", &bearer(&token)), by_cookie_alone]).await.remove(1);
    assert_eq!((&refused["status"], &refused["body"]["code"]), (&401.into(), &"caller-unknown".into()), "{refused}");
    let requests = [("/me", bearer(&token)), ("/me", cookie), ("/socket", bearer(&token))];
    for (status, body) in send(town.rollcall, &requests).await {
        let context = &body["rollcall"];
        assert!([200, 101].contains(&status), "{status} {body}");
        assert_eq!((&context["userId"], &context["organization"]["role"]), (&"user_ada".into(), &"org:member".into()), "{body}");
        assert_eq!(context["memberships"].as_array().map(Vec::len), Some(12), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_comes_to_public_paths_alone() {
    let town = Town::start().await;
    let (session, ended) = town.mint(json!({ "user": "user_ada" })).await;
    town.change("DELETE", &format!("/sessions/{session}"), json!({})).await;
    let (_, expired) = town.mint(json!({ "user": "user_ada", "livesSeconds": -60 })).await;
    let (_, pending) = town.mint(json!({ "user": "user_ada", "isPending": true })).await;
    let fresh = town.token("user_ada").await;
    let basic = json!({ "authorization": "Basic YTpi", "cookie": format!("__session={fresh}") });
    let refused = [
        (json!({}), "caller-unknown"),
        (basic, "caller-unknown"),
        (bearer(&ended), "session-ended"),
        (bearer(&expired), "token-expired"),
        (bearer(&pending), "session-pending"),
        (bearer("nonsense"), "token-invalid"),
    ];
    let paths = ["/me", "/orgs/harbour-works", "/team/harbour-works", "/public/orgs/harbour-works", "/socket", "/public"];
    let requests: Vec<_> = refused.iter().flat_map(|(headers, _)| paths.map(|path| (path, headers.clone()))).collect();
    let answers = send(town.rollcall, &requests).await;
    for (answers, (_, code)) in answers.chunks(paths.len()).zip(refused) {
        let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [401, 401, 401, 401, 1008, 200], "{code}");
        assert!(answers[..4].iter().all(|(_, body)| body["code"] == code), "{code}: {answers:?}");
        assert_eq!(answers[5].1, json!({ "rollcall": null }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_or_lacks_the_role_finds_nothing() {
    let town = Town::start().await;
    let token = town.token("user_ada").await;
    let paths = [
        ("/orgs/harbour-works", 200),
        ("/orgs/org_harbour_works", 200),
        ("/team/harbour-works", 200),
        ("/public/orgs/harbour-works", 200),
        ("/orgs/northfold-bakery?role=org:admin&role=org:member", 200),
        ("/orgs/northfold-bakery?role=org:admin", 404),
        ("/orgs/willow-ledger", 404),
        ("/team/willow-ledger", 404),
        ("/public/orgs/no-such-place", 404),
        ("/orgs/northfold-bakery?role=", 500),
    ];
    let answers = send(town.rollcall, &paths.map(|(path, _)| (path, bearer(&token)))).await;
    for ((path, expected), (status, body)) in paths.into_iter().zip(&answers) {
        assert_eq!(*status, expected, "{path}: {body}");
    }
    assert_eq!(answers[4].1["role"], "org:member");
    assert_eq!(answers[2].1["rollcall"]["organization"]["organizationSlug"], "harbour-works");
    assert!([5, 6, 7, 8].into_iter().all(|number| answers[number].1 == answers[5].1), "a role is not told from a stranger");
    town.change("DELETE", "/memberships", json!({ "user": "user_ada", "organization": "harbour-works" })).await;
    let answers = send(town.rollcall, &["/orgs/harbour-works", "/team/harbour-works"].map(|path| (path, bearer(&token)))).await;
    assert!(answers.iter().all(|(status, _)| *status == 404), "{answers:?}");
}

/// Every way to ask: for the context, for an organization before the route is known, and in a route.
const PATHS: [&str; 3] = ["/me", "/team/harbour-works", "/public/orgs/harbour-works"];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_decision_is_neither_a_yes_nor_a_no() {
    let answers = no_decisions();
    let canned = Canned::start(answers.iter().flat_map(|answer| vec![answer.clone(); PATHS.len()])).await;
    let requests = vec![PATHS.map(|path| (path, bearer("token"))); answers.len()].concat();
    let outcomes = send(canned.address, &requests).await;
    for (number, (status, body)) in outcomes.into_iter().enumerate() {
        assert_eq!(status, 503, "{} to {}: {body}", answers[number / PATHS.len()], PATHS[number % PATHS.len()]);
    }
    assert_eq!(canned.asked().len(), requests.len());
    // Nor is a decision about something else that was not asked.
    let canned = Canned::start([decided("member", CONTEXT), decided("context", CONTEXT), decided("context", CONTEXT)]).await;
    let answers = send(canned.address, &PATHS.map(|path| (path, bearer("token")))).await;
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    let canned = Canned::start([problem(500, "internal")]).await;
    assert_eq!(send(canned.address, &[("/socket", bearer("token"))]).await[0].0, 1013);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_app_and_a_user_who_is_gone_are_not_signed_in() {
    let gone = problem(404, "user-unknown").replacen("\r\n", "\r\nrollcall-decision: user-unknown\r\n", 1);
    let canned = Canned::start([problem(403, "party-unauthorized"), gone.clone(), gone]).await;
    let requests = ["/me", "/me", "/team/harbour-works"].map(|path| (path, bearer("token")));
    let answers = send(canned.address, &requests).await;
    let told: Vec<(u16, &Value)> = answers.iter().map(|(status, body)| (*status, &body["code"])).collect();
    assert_eq!(told, [(401, &"party-unauthorized".into()), (401, &"user-unknown".into()), (404, &Value::Null)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_or_silent_is_neither_a_yes_nor_a_no() {
    let silent = Canned::start([SILENCE]).await;
    let nobody = nobody();
    for service in [nobody.local_addr().expect("it is bound"), silent.address] {
        let outcome = ask(ASGI, service, &[question("/team/harbour-works", &bearer("token"))]).await.remove(0);
        assert_eq!((&outcome["status"], &outcome["headers"]["retry-after"]), (&503.into(), &"1".into()), "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_found_out_is_asked_once_more() {
    let again = "503 Service Unavailable\r\nretry-after: 1\r\n\r\n";
    let mut headers = bearer("token");
    headers["x-request-id"] = "page-1".into();
    let request = [("/team/harbour-works", headers)];
    let canned = Canned::start([again, &decided("member", CONTEXT)]).await;
    assert_eq!(send(canned.address, &request).await[0].0, 200);
    assert_eq!(canned.asked().len(), 2);
    for head in canned.asked() {
        assert!(head.starts_with("get /v1/context?org=harbour-works&include=memberships "), "{head}");
        assert!(head.contains("\r\nauthorization: bearer token\r\n") && head.contains("\r\nx-request-id: page-1\r\n"), "{head}");
        assert!(!head.contains("\r\ncache-control:"), "it would have Clerk asked: {head}");
    }
    let canned = Canned::start([again; 3]).await;
    assert_eq!(send(canned.address, &request).await[0].0, 503);
    assert_eq!(canned.asked().len(), 2);
}
