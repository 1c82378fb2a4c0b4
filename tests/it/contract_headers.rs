//! What every answer says about itself: who may keep it, which request it answers, how old it is, where it was found, and
//! whether it decides anything.

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::world::answer::Answer;
use crate::world::service::{
    ADMIN_KEY, Deployment, EVICT_KEY, READ_KEY, Setup, World, run_on_both, run_on_both_at_once, run_test,
};
use crate::world::wait::until;

const LIST: &str = "/v1/users/user_ada/orgs";
const CHECK: &str = "/v1/users/user_ada/orgs/harbour-works";

/// That nobody may keep it and that it names its request is looked at wherever an answer arrives.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_every_route_is_private_and_names_its_request() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for (method, path, key, expected) in [
            ("GET", LIST, READ_KEY, 200),
            ("GET", CHECK, READ_KEY, 200),
            ("GET", "/v1/users/user_ada/orgs/willow-ledger", READ_KEY, 404),
            ("GET", "/v1/users/user_nobody/orgs", READ_KEY, 404),
            ("GET", "/v1/users/user.ada/orgs", READ_KEY, 400),
            ("GET", LIST, "rk_wrong", 401),
            ("DELETE", LIST, READ_KEY, 403),
            ("DELETE", LIST, EVICT_KEY, 204),
            ("POST", "/v1/checks", READ_KEY, 400),
            ("POST", "/webhooks/clerk", READ_KEY, 400),
            ("GET", "/livez", "", 200),
            ("GET", "/readyz", "", 200),
            ("GET", "/metrics", ADMIN_KEY, 200),
            ("GET", "/metrics", "", 401),
            ("OPTIONS", LIST, READ_KEY, 405),
            ("PATCH", "/webhooks/clerk", "", 405),
            ("GET", "/", "", 404),
        ] {
            let answer = world.send(world.request(method, path).bearer_auth(key)).await?;
            assert_eq!(answer.status, expected, "{method} {path}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sane_request_id_is_taken_and_another_is_made() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let asked_as = async |path: &str, id: &str| world.ask_with(0, path, &[("x-request-id", id)]).await;
        for path in [LIST, CHECK, "/v1/users/user_ada/orgs/willow-ledger", "/nowhere", "/livez"] {
            assert_eq!(asked_as(path, "req-7_a.b:9").await?.header("x-request-id"), "req-7_a.b:9", "{path}");
        }
        let mut made = BTreeSet::new();
        for insane in ["", "a b", "a\"b", "<script>", "a;b", &"x".repeat(200)] {
            let answer = asked_as(LIST, insane).await?;
            assert_ne!(answer.header("x-request-id"), insane);
            made.insert(answer.header("x-request-id").to_owned());
        }
        assert_eq!(made.len(), 6, "each is its own");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_are_counted_from_the_reading_and_the_lag_stays_within_the_bound() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        let began = std::time::Instant::now();
        let first = world.list("user_ada").await?;
        assert_eq!((first.number("age"), first.number("rollcall-age")), (0, 0), "read for this request");
        let last = Cell::new(0);
        until("an answer older than a second", async || {
            let answer = world.list("user_ada").await.ok()?;
            let (age, lag) = (answer.number("rollcall-age"), answer.number("rollcall-lag"));
            // On a machine that stalls for longer than the bound the origin is asked again, and its answer is young.
            let is_of_the_same_reading = answer.header("cache-status").contains("hit");
            assert!(age.min(lag) <= 1_000 && age <= began.elapsed().as_millis() as u64, "{answer:?}");
            assert!(age >= last.get() || !is_of_the_same_reading, "{answer:?}");
            assert_eq!(answer.number("age"), age / 1_000, "{answer:?}");
            last.set(age);
            (age > 1_000).then_some(())
        })
        .await;
        assert_eq!(world.list_under("no-cache", "user_ada").await?.number("rollcall-age"), 0);
        Ok(())
    })
    .await;
}

/// The headers' names, without those of a body.
fn names(answer: &Answer) -> BTreeSet<&str> {
    let of_a_body = ["content-length", "content-type", "transfer-encoding"];
    answer.headers.keys().map(|name| name.as_str()).filter(|name| !of_a_body.contains(name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_has_already_is_304_with_the_same_headers() {
    run_on_both(Setup::default, async |world: &mut World| {
        for path in [LIST, CHECK] {
            world.ask(0, path).await?;
            let full = world.ask(0, path).await?;
            let tag = full.header("etag").to_owned();
            assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
            for given in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}"), "*".to_owned()] {
                let known = world.ask_with(0, path, &[("if-none-match", &given)]).await?;
                assert_eq!((known.status, known.body.len()), (304, 0), "{given}");
                assert_eq!(names(&known), names(&full), "{given}");
                for name in ["etag", "rollcall-decision", "cache-status"] {
                    assert_eq!(known.header(name), full.header(name), "{name}");
                }
            }
            assert_eq!(world.ask_with(0, path, &[("if-none-match", "\"other\"")]).await?.body, full.body);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_etag_is_of_the_content_alone() {
    run_on_both(Setup::default, async |world: &mut World| {
        for path in [LIST, CHECK] {
            let before = world.ask(0, path).await?;
            let again = world.ask_under("no-cache", path).await?;
            assert_eq!(again.header("etag"), before.header("etag"), "another reading, the same content");
            let role = if path == LIST { "org:guest" } else { "org:owner" };
            let changed = world.change(|clerk| clerk.change_role("user_ada", "harbour-works", role));
            world.deliver(&changed).await;
            let after = world.ask_with(0, path, &[("if-none-match", before.header("etag"))]).await?;
            assert_eq!(after.status, 200, "another content");
            assert_ne!(after.header("etag"), before.header("etag"));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_on_decisions_and_on_nothing_else() {
    run_on_both(Setup::default, async |world: &mut World| {
        for (path, status, decision) in [
            (LIST, 200, "list"),
            ("/v1/users/user_tomas/orgs", 200, "list"),
            (CHECK, 200, "member"),
            ("/v1/users/user_ada/orgs/willow-ledger", 404, "not-a-member"),
            ("/v1/users/user_ada/orgs/no-such-organization", 404, "not-a-member"),
            ("/v1/users/user_ada/orgs/harbour-works?role=org:none", 403, "role-missing"),
            ("/v1/users/user_nobody/orgs", 404, "user-unknown"),
            ("/v1/users/user_nobody/orgs/harbour-works", 404, "user-unknown"),
            ("/v1/users/user.ada/orgs", 400, ""),
            ("/v1/users/user_ada/orgs/harbour-works?role=", 400, ""),
            ("/v1/users/user_ada/org/harbour-works", 404, ""),
            ("/v1/users/user_ada", 404, ""),
            ("/v1/users/user_ada/orgs/", 404, ""),
            ("/v1/users/user_ada/orgs/harbour-works/role", 404, ""),
            ("/v1/checks", 405, ""),
            ("/metrics", 403, ""),
            ("/livez", 200, ""),
            ("/readyz", 200, ""),
        ] {
            let answer = world.ask(0, path).await?;
            assert_eq!((answer.status, answer.header("rollcall-decision")), (status, decision), "{path}");
        }
        world.origin_answers(500);
        world.check("user_mei", "org_quiet_room").await?.could_not_find_out("origin-unavailable");
        let not_cached = world.list_under("only-if-cached", "user_mei").await?;
        assert_eq!(not_cached.header("rollcall-decision"), "");
        assert_eq!(world.request("GET", LIST).send().await?.headers().get("rollcall-decision"), None, "without a key");
        let batch = world.batch(serde_json::json!([{"userId": "user_ada", "org": "harbour-works"}])).await?;
        assert_eq!((batch.status, batch.header("rollcall-decision")), (200, ""), "a batch decides in its body");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_status_says_where_the_answer_was_found() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?.came("fwd=miss; stored");
        world.list("user_ada").await?.came("hit; detail=local");
        world.check("user_ada", "harbour-works").await?.came("hit; detail=local");
        world.check("user_nobody", "harbour-works").await?.came("fwd=miss; stored");
        world.list_under("no-cache", "user_ada").await?.came("fwd=request");
        world.list_under("max-age=0", "user_ada").await?.came("fwd=request");
        world.list_under("no-cache", "user_kofi").await?.came("fwd=request");
        world.list_under("max-age=60", "user_ada").await?.came("hit; detail=local");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_status_tells_the_shared_tier_from_the_local_one() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.ask(0, CHECK).await?.came("fwd=miss; stored");
        world.ask(1, CHECK).await?.came("hit; detail=shared");
        world.ask(1, CHECK).await?.came("hit; detail=local");
        assert_eq!(world.clerk.calls().of_user("user_ada"), 1);
        Ok(())
    })
    .await;
}
