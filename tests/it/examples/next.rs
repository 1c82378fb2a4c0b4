//! `examples/rollcall.ts`, in pages that React's own server renderer renders, with Next's own `notFound()` and `redirect()`.

use super::*;
use crate::world::canned::{Canned, SILENCE};
use crate::world::libraries::{Interpreter, NEXT, ask, check_types};

/// A page of one visitor.
fn page(token: &str, parts: Value) -> Value {
    json!({ "token": token, "key": DEV_KEY, "headers": { "x-request-id": "page-1" }, "parts": parts })
}

/// Renders one page.
async fn render(service: SocketAddr, token: &str, parts: Value) -> Value {
    ask(NEXT, service, &[page(token, parts)]).await.remove(0)
}

fn not_found() -> Value {
    json!({ "error": { "digest": "NEXT_HTTP_ERROR_FALLBACK;404" } })
}

fn sign_in() -> Value {
    json!({ "error": { "digest": "NEXT_REDIRECT;replace;/sign-in;307;" } })
}

fn not_signed_in(code: &str) -> Value {
    json!({ "error": { "name": "NotSignedIn", "code": code } })
}

fn is_unavailable(part: &Value) -> bool {
    part["error"]["name"] == "RollcallUnavailable"
}

/// Every way to ask.
fn all_parts() -> Value {
    json!([
        ["currentUserContext"],
        ["getCachedUserOrgMemberships"],
        ["requireOrgAccess", "harbour-works"],
        ["verifyOrgMembership", "user_ada", "harbour-works"],
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn its_types_are_strict_and_those_of_next_react_and_clerk() {
    check_types(Interpreter::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_render_each_question_is_asked_once_and_in_the_next_anew() {
    let town = Town::start().await;
    let token = town.mint(json!({ "user": "user_ada", "organization": "northfold-bakery" })).await.1;
    let parts = json!([
        ["currentUserContext"],
        ["currentUserContext"],
        ["getCachedUserOrgMemberships"],
        ["getCachedUserOrgMemberships"],
        ["requireOrgAccess", "harbour-works", "org:admin"],
        ["requireOrgAccess", "harbour-works", ["org:admin"]],
        ["verifyOrgMembership", "user_ada", "harbour-works"],
        ["verifyOrgMembership", "user_ada", "harbour-works"],
    ]);
    let twice = [page(&token, parts.clone()), page(&token, parts)];
    for page in ask(NEXT, town.rollcall, &twice).await {
        let ok = |number: usize| &page["parts"][number]["ok"];
        assert_eq!((&ok(0)["userId"], &ok(0)["organization"]["role"]), (&"user_ada".into(), &"org:member".into()), "{page}");
        assert_eq!(ok(2).as_array().map(Vec::len), Some(12), "{page}");
        assert_eq!((&ok(4)["userId"], &ok(4)["organization"]["role"]), (&"user_ada".into(), &"org:admin".into()), "{page}");
        assert_eq!(ok(6), true);
        assert!([0, 2, 4, 6].into_iter().all(|number| ok(number) == ok(number + 1)), "{page}");
    }
    // Counted where nothing is asked once more because it could not be found out.
    let canned = Canned::start(vec![decided("member", CONTEXT); 8]).await;
    for page in ask(NEXT, canned.address, &twice).await {
        assert_eq!(page["requests"], 4, "{page}");
    }
    assert_eq!(canned.asked().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_or_lacks_the_role_finds_nothing() {
    let town = Town::start().await;
    let token = town.token("user_ada").await;
    let parts = json!([
        ["requireOrgAccess", "org_harbour_works"],
        ["requireOrgAccess", "willow-ledger"],
        ["requireOrgAccess", "no-such-place"],
        ["requireOrgAccess", "northfold-bakery", "org:admin"],
        ["requireOrgAccess", "northfold-bakery", ["org:admin", "org:member"]],
        ["requireOrgAccess", "northfold-bakery", []],
        ["verifyOrgMembership", "user_ada", "willow-ledger"],
        ["verifyOrgMembership", "user_ada", "northfold-bakery", "org:admin"],
        ["verifyOrgMembership", "user_ada", "northfold-bakery", ["org:admin", "org:member"]],
        ["verifyOrgMembership", "user_nobody", "northfold-bakery"],
    ]);
    let parts = render(town.rollcall, &token, parts).await["parts"].take();
    let organization = |number: usize| &parts[number]["ok"]["organization"]["organizationSlug"];
    assert_eq!((organization(0), organization(4)), (&"harbour-works".into(), &"northfold-bakery".into()), "{parts}");
    assert_eq!([&parts[1], &parts[2], &parts[3]], [&not_found(); 3], "{parts}");
    assert_eq!(parts[5]["error"]["name"], "TypeError", "no role at all would let everybody in: {parts}");
    let told: Vec<&Value> = (6..10).map(|number| &parts[number]["ok"]).collect();
    assert_eq!(told, [false, false, true, false], "{parts}");
    town.change("DELETE", "/memberships", json!({ "user": "user_ada", "organization": "harbour-works" })).await;
    let left = json!([["requireOrgAccess", "harbour-works"], ["verifyOrgMembership", "user_ada", "harbour-works"]]);
    let parts = render(town.rollcall, &token, left).await["parts"].take();
    assert_eq!(parts, json!([not_found(), { "ok": false }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_is_sent_to_sign_in_where_that_helps() {
    let town = Town::start().await;
    let (session, ended) = town.mint(json!({ "user": "user_ada" })).await;
    town.change("DELETE", &format!("/sessions/{session}"), json!({})).await;
    let (_, expired) = town.mint(json!({ "user": "user_ada", "livesSeconds": -60 })).await;
    let (_, pending) = town.mint(json!({ "user": "user_ada", "isPending": true })).await;
    let tokens = [
        ("", "caller-unknown", sign_in()),
        (&ended, "session-ended", sign_in()),
        (&expired, "token-expired", not_signed_in("token-expired")),
        (&pending, "session-pending", sign_in()),
        ("nonsense", "token-invalid", not_signed_in("token-invalid")),
    ];
    let parts = json!([["currentUserContext"], ["getCachedUserOrgMemberships"], ["requireOrgAccess", "harbour-works"]]);
    let pages: Vec<Value> = tokens.iter().map(|(token, ..)| page(token, parts.clone())).collect();
    for (page, (_, code, access)) in ask(NEXT, town.rollcall, &pages).await.iter().zip(tokens) {
        assert_eq!(page["parts"], json!([not_signed_in(code), not_signed_in(code), access]));
    }
    // Nor is a token of another instance or app a question of signing in; that its user is gone is told by a decision.
    let of_another = problem(403, "party-unauthorized");
    let gone = problem(404, "user-unknown").replacen("\r\n", "\r\nrollcall-decision: user-unknown\r\n", 1);
    let canned = Canned::start([[&*of_another; 3], [&*gone; 3]].concat()).await;
    let pages = ask(NEXT, canned.address, &[page("a", parts.clone()), page("b", parts)]).await;
    let [of_another, gone] = ["party-unauthorized", "user-unknown"].map(not_signed_in);
    assert_eq!(pages[0]["parts"], json!([of_another, of_another, of_another]));
    assert_eq!(pages[1]["parts"], json!([gone, gone, not_found()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_decision_is_neither_a_yes_nor_a_no() {
    let answers = no_decisions();
    let canned = Canned::start(answers.iter().flat_map(|answer| vec![answer.clone(); 4])).await;
    let pages = vec![page("token", all_parts()); answers.len()];
    for (page, answer) in ask(NEXT, canned.address, &pages).await.iter().zip(answers) {
        let parts = page["parts"].as_array().expect("parts");
        assert!(parts.iter().all(is_unavailable), "{answer}: {page}");
        assert_eq!(page["requests"], 4, "{answer}");
    }
    // Nor is a decision about something else that was not asked.
    let canned = Canned::start([decided("context", CONTEXT), decided("member", CONTEXT), decided("context", CONTEXT)]).await;
    let parts = ["requireOrgAccess", "currentUserContext", "verifyOrgMembership"].map(|verb| json!([[verb, "a", "b"]]));
    let pages = ask(NEXT, canned.address, &parts.map(|parts| page("token", parts))).await;
    assert!(pages.iter().all(|page| is_unavailable(&page["parts"][0])), "{pages:?}");
    // Nor is a key that rollcall does not know: whose session it is has nothing to do with it.
    let canned = Canned::start([problem(401, "caller-unknown")]).await;
    let refused = render(canned.address, "token", json!([["verifyOrgMembership", "user_ada", "harbour-works"]])).await;
    assert!(is_unavailable(&refused["parts"][0]) && refused["parts"][0]["error"]["code"] == "caller-unknown", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_or_silent_is_neither_a_yes_nor_a_no() {
    let silent = Canned::start([SILENCE; 4]).await;
    let nobody = nobody();
    for service in [nobody.local_addr().expect("it is bound"), silent.address] {
        let page = render(service, "token", all_parts()).await;
        assert!(page["parts"].as_array().expect("parts").iter().all(is_unavailable), "{page}");
        assert_eq!(page["requests"], 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_found_out_is_asked_once_more() {
    let again = "503 Service Unavailable\r\nretry-after: 1\r\n\r\n";
    let part = json!([["requireOrgAccess", "harbour-works"]]);
    let canned = Canned::start([again, &decided("member", CONTEXT)]).await;
    let page = render(canned.address, "token", part.clone()).await;
    assert_eq!((&page["parts"][0]["ok"]["userId"], &page["requests"]), (&"user_ada".into(), &2.into()), "{page}");
    for head in canned.asked() {
        assert!(head.starts_with("get /v1/context?org=harbour-works "), "{head}");
        assert!(head.contains("\r\nauthorization: bearer token\r\n") && head.contains("\r\nx-request-id: page-1\r\n"), "{head}");
        assert!(!head.contains("\r\ncache-control:"), "it would have Clerk asked: {head}");
    }
    let canned = Canned::start([again; 3]).await;
    let page = render(canned.address, "token", part).await;
    assert!(is_unavailable(&page["parts"][0]), "{page}");
    assert_eq!((&page["requests"], canned.asked().len()), (&2.into(), 2));
}
