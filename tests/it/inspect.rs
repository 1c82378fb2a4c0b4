//! `rollcall inspect` and the route it asks: what every tier says, side by side, and that looking changes nothing.

use rollcall::dev::{Done, Faults, Options, StandIn, World as ClerkWorld};
use serde_json::{Value, json};

use crate::world::redis_server::RedisServer;
use crate::world::rollcall::Rollcall;
use crate::world::service::{ADMIN_KEY, EVICT_KEY, READ_KEY, Setup, World, run_on_both};
use crate::world::shell::{Ran, Shell};
use crate::world::wait::until;

const ADA: &str = "user_ada";
const WORKS: &str = "org_harbour_works";
const LIST: &str = "/v1/users/user_ada/orgs";

/// Asks the service for everything it knows.
fn through(rollcall: &Rollcall, words: &[&str]) -> Ran {
    rollcall.run(&[&["inspect"], words, &["--server", &rollcall.url, "--key", ADMIN_KEY]].concat())
}

/// The role that a tier gives in an organization; none: it has a list without it.
#[track_caller]
fn role<'a>(tier: &'a Value, organization: &str) -> Option<&'a str> {
    assert_eq!(tier["status"], "list", "{tier}");
    assert!(tier["ageMs"].is_u64(), "{tier}");
    let mut rows = tier["memberships"].as_array().expect("memberships").iter();
    rows.find(|row| row["organizationId"] == organization)?["role"].as_str()
}

/// Clerk's replicas show what was true a minute ago.
fn clerk_lags(rollcall: &Rollcall) {
    rollcall.clerk.faults().set(Faults { reads_lag_ms: 60_000, ..Faults::default() });
}

/// Ada's membership ends, and the webhook says so.
async fn revoke(rollcall: &Rollcall) {
    let left = rollcall.clerk.world().lock().revoke(ADA, WORKS).expect("the world allows it");
    let delivery = rollcall.clerk.sender().deliver_now(&left.messages[0], &rollcall.webhooks()).await;
    assert_eq!(delivery.status, Some(204), "{delivery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tier_of_a_running_node_says_what_it_has_and_looking_changes_none() {
    let rollcall = Rollcall::serve().await;
    let before = through(&rollcall, &[ADA, "--json"]).ends_with(0).json();
    assert_eq!((&before["local"], &before["shared"]), (&json!({"status": "nothing"}), &json!({"status": "nothing"})));
    assert_eq!(role(&before["origin"], WORKS), Some("org:admin"));
    assert_eq!(rollcall.redis.query(&["EXISTS", "user-orgs:user_ada", "{user-orgs:user_ada}:guard"]), "0");

    rollcall.get(LIST, &[]).await.expect("an answer");
    // Clerk changes, and no webhook tells.
    rollcall.clerk.world().lock().change_role(ADA, WORKS, "org:member").expect("the world allows it");
    rollcall.clerk.calls().reset();
    let found = through(&rollcall, &[ADA, "--json"]).ends_with(0).json();
    let roles = ["local", "shared", "origin"].map(|tier| role(&found[tier], WORKS));
    assert_eq!(roles, [Some("org:admin"), Some("org:admin"), Some("org:member")]);
    assert_eq!(rollcall.clerk.calls().of_user(ADA), 1);
    assert!(found["lagMs"].is_u64(), "{found}");
    assert_eq!((&found["facts"]["memberships"], &found["facts"]["userChangedMsAgo"]), (&json!([]), &Value::Null));
    let answer = rollcall.get(LIST, &[]).await.expect("an answer");
    answer.came("hit; detail=local");
    assert!(
        String::from_utf8_lossy(&answer.body)
            .contains("\"role\":\"org:admin\",\"imageUrl\":\"https://img.example.test/org_harbour_works")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_stands_beside_what_it_outranks() {
    let rollcall = Rollcall::serve().await;
    clerk_lags(&rollcall);
    rollcall.get(LIST, &[]).await.expect("an answer");
    revoke(&rollcall).await;
    for server in [true, false] {
        let words = [ADA, "--json"];
        let ran = if server { through(&rollcall, &words) } else { rollcall.run(&["inspect", ADA, "--json"]) };
        let found = ran.ends_with(0).json();
        assert_eq!(role(&found["origin"], WORKS), Some("org:admin"), "Clerk has not heard");
        let ended = &found["facts"]["memberships"][0];
        assert_eq!(ended["membershipId"], "orgmem_ada_harbour_works", "{found}");
        assert!(ended["endedMsAgo"].as_u64().is_some_and(|ms| ms < 20_000), "{ended}");
        assert!(found["facts"]["userChangedMsAgo"].is_u64(), "{found}");
    }
    let ran = through(&rollcall, &[ADA, "harbour-works"]).ends_with(0);
    let text = ran.out();
    let line = text.lines().find(|line| line.starts_with(WORKS)).unwrap_or_else(|| panic!("no line: {text}"));
    assert!(line.contains("org:admin") && line.contains("ended ") && line.contains(" ago"), "{text}");
    assert_eq!(text.lines().count(), 3, "the others are left out: {text}");
    let text = through(&rollcall, &[ADA, "willow-ledger"]).ends_with(0).out();
    assert_eq!(text.lines().last().map(|line| line.split_whitespace().collect()), Some(vec!["willow-ledger", "-"]), "{text}");
}

/// Sends what Clerk would send of a change, as it was said to be.
async fn deliver(rollcall: &Rollcall, done: &Done) {
    for message in &done.messages {
        let delivery = rollcall.clerk.sender().deliver_now(message, &rollcall.webhooks()).await;
        assert_eq!(delivery.status, Some(204), "{delivery:?}");
    }
}

/// Every tier has caught up, so that nobody names the organization any more; who asks about it wants to know why.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_organization_that_nobody_names_any_more_is_told_to_who_asks_about_it() {
    let rollcall = Rollcall::serve().await;
    let deleted = rollcall.clerk.world().lock().delete_organization(WORKS).expect("the world allows it");
    deliver(&rollcall, &deleted).await;
    for server in [true, false] {
        let ask = |words: &[&str]| if server { through(&rollcall, words) } else { rollcall.run(&[&["inspect"], words].concat()) };
        let found = ask(&[ADA, WORKS, "--json"]).ends_with(0).json();
        assert_eq!(role(&found["origin"], WORKS), None, "{found}");
        assert_eq!(found["facts"]["organizations"][0]["organizationId"], WORKS, "{found}");
        assert!(found["facts"]["organizations"][0]["deletedMsAgo"].is_u64(), "{found}");
        let text = ask(&[ADA, WORKS]).ends_with(0).out();
        let last = text.lines().last().expect("a line");
        assert!(last.starts_with(WORKS) && last.contains("organization deleted "), "{text}");
    }
    let asked = format!("/v1/users/{ADA}/inspection?org=org_a%2Fb");
    let refused = rollcall.http.get(rollcall.url.clone() + &asked).bearer_auth(ADMIN_KEY).send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
}

/// Memory and Redis still know it by another slug.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_about_one_organization_is_told_of_that_one_alone_and_by_whatever_slug_it_has() {
    let rollcall = Rollcall::serve().await;
    rollcall.get(LIST, &[]).await.expect("an answer");
    for (organization, slug) in [(WORKS, "harbour-new"), ("org_northfold_bakery", "bakery-new")] {
        let renamed = rollcall.clerk.world().lock().rename(organization, None, Some(slug)).expect("the world allows it");
        deliver(&rollcall, &renamed).await;
    }
    for server in [true, false] {
        let words = [ADA, "harbour-new", "--json"];
        let ran = if server { through(&rollcall, &words) } else { rollcall.run(&["inspect", ADA, "harbour-new", "--json"]) };
        let found = ran.ends_with(0).json();
        assert_eq!([role(&found["shared"], WORKS), role(&found["origin"], WORKS)], [Some("org:admin"); 2], "{found}");
        let told = found["facts"]["organizations"].as_array().expect("an array");
        assert!(told.len() == 1 && told[0]["organizationId"] == WORKS, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_that_may_not_be_read_is_told_and_what_redis_holds_is_not_called_nothing() {
    let rollcall = Rollcall::serve().await;
    rollcall.get(LIST, &[]).await.expect("an answer");
    rollcall.redis.query(&["ACL", "SETUSER", "looker", "on", ">hidden", "~*", "&*", "+@all", "-xrange"]);
    let shell = Shell::new()
        .set("CLERK_SECRET_KEY", rollcall.clerk.secret_key())
        .set("CLERK_API_URL", &rollcall.clerk.url())
        .set("REDIS_URL", &format!("redis://looker:hidden@127.0.0.1:{}", rollcall.redis.port()));
    tokio::task::block_in_place(|| {
        let found = shell.run(&["inspect", ADA, "--json"]).ends_with(1).json();
        assert_eq!((&found["facts"], &found["shared"]["status"]), (&Value::Null, &json!("unavailable")), "{found}");
        for error in [&found["factsError"], &found["shared"]["error"]] {
            assert!(error.as_str().is_some_and(|error| error.contains("NOPERM")), "{found}");
        }
        assert_eq!(role(&found["origin"], WORKS), Some("org:admin"));
        let text = shell.run(&["inspect", ADA]).ends_with(1).out();
        assert_eq!((text.matches("NOPERM").count(), text.matches("ask with --server").count()), (2, 1), "{text}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_promised_no_lag_is_told_and_everything_else_is() {
    let settings = [("ROLLCALL_CONSISTENCY", "eventual")];
    let rollcall = Rollcall::serve_on(RedisServer::start(), ClerkWorld::small(), &settings).await;
    clerk_lags(&rollcall);
    rollcall.get(LIST, &[]).await.expect("an answer");
    revoke(&rollcall).await;
    let through_it = async || through(&rollcall, &[ADA, "--json"]).ends_with(0).json();
    let found = until("the node has heard", async || {
        let found = through_it().await;
        found["facts"]["memberships"][0]["endedMsAgo"].is_u64().then_some(found)
    });
    for found in [found.await, rollcall.run(&["inspect", ADA, "--json"]).ends_with(0).json()] {
        assert_eq!((&found["lagMs"], role(&found["origin"], WORKS)), (&Value::Null, Some("org:admin")), "{found}");
        assert_eq!(found["facts"]["memberships"][0]["membershipId"], "orgmem_ada_harbour_works", "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_redis_and_clerk_are_asked_and_nothing_is_written() {
    let rollcall = Rollcall::serve().await;
    rollcall.get(LIST, &[]).await.expect("an answer");
    let guard = || rollcall.redis.query(&["HGETALL", "{user-orgs:user_ada}:guard"]);
    // The right to repair comes and goes by itself.
    let keys = || {
        let keys = rollcall.redis.query(&["KEYS", "*"]);
        let mut keys: Vec<_> = keys.lines().filter(|key| !key.ends_with(":repair")).map(str::to_owned).collect();
        keys.sort();
        keys
    };
    let before = (keys(), guard());
    let found = rollcall.run(&["inspect", ADA, "--json"]).ends_with(0).json();
    assert_eq!((&found["local"], &found["lagMs"]), (&json!({"status": "not-asked"}), &Value::Null));
    assert_eq!([role(&found["shared"], WORKS), role(&found["origin"], WORKS)], [Some("org:admin"); 2]);
    assert!(found["shared"]["ageMs"].as_u64() < Some(20_000), "{found}");
    assert_eq!((keys(), guard()), before);
    assert_eq!(rollcall.redis.query(&["ZCARD", "user-orgs:~nodes"]), "1", "it is no node");
    let found = rollcall.run(&["inspect", "user_nobody", "--json"]).ends_with(0).json();
    assert_eq!((&found["origin"]["status"], &found["shared"]["status"]), (&json!("user-unknown"), &json!("nothing")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_redis_alone_knows_what_it_remembers() {
    let rollcall = Rollcall::serve_on(RedisServer::start(), ClerkWorld::small(), &[("REDIS_URL", "")]).await;
    rollcall.get(LIST, &[]).await.expect("an answer");
    clerk_lags(&rollcall);
    revoke(&rollcall).await;
    let found = rollcall.run(&["inspect", ADA, "--json"]).ends_with(0).json();
    assert_eq!((&found["shared"], &found["facts"]), (&json!({"status": "absent"}), &Value::Null));
    rollcall.run(&["inspect", ADA]).ends_with(0).says(&["no Redis", "ask with --server"]);
    let found = through(&rollcall, &[ADA, "--json"]).ends_with(0).json();
    assert_eq!(found["shared"], json!({"status": "absent"}));
    assert!(found["facts"]["memberships"][0]["endedMsAgo"].is_u64(), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_be_asked_is_named_and_the_others_are_shown() {
    let rollcall = Rollcall::serve().await;
    rollcall.get(LIST, &[]).await.expect("an answer");
    rollcall.clerk.faults().set(Faults::status(503));
    for ran in [through(&rollcall, &[ADA, "--json"]), rollcall.run(&["inspect", ADA, "--json"])] {
        let found = ran.ends_with(1).json();
        assert_eq!((&found["origin"]["status"], role(&found["shared"], WORKS)), (&json!("unavailable"), Some("org:admin")));
        assert!(found["origin"]["error"].as_str().is_some_and(|error| error.contains("503")), "{found}");
    }
    rollcall.clerk.faults().clear();
    rollcall.redis.pause();
    for ran in [through(&rollcall, &[ADA, "--json"]), rollcall.run(&["inspect", ADA, "--json"])] {
        let found = ran.ends_with(1).json();
        assert_eq!((&found["shared"]["status"], role(&found["origin"], WORKS)), (&json!("unavailable"), Some("org:admin")));
    }
    rollcall.redis.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_or_configured_wrongly_is_told() {
    let rollcall = Rollcall::serve().await;
    rollcall.run(&["inspect", "user ada"]).ends_with(2);
    rollcall.run(&["inspect", ADA, "a/b"]).ends_with(2);
    rollcall.run(&["inspect", ADA, "--server", &rollcall.url]).ends_with(2).says(&["ROLLCALL_KEY"]);
    let refused = |key| rollcall.run(&["inspect", ADA, "--server", &rollcall.url, "--key", key]).ends_with(1);
    refused(READ_KEY).says(&["403: the key's scope is not admin"]);
    refused("rk_nobody").says(&["401: the service does not know this key"]);
    rollcall.run(&["inspect", ADA, "--server", "http://127.0.0.1:9", "--key", ADMIN_KEY]).ends_with(1).says(&["no answer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_is_an_operators_and_decides_nothing() {
    run_on_both(Setup::default, async |world: &mut World| {
        let ask =
            |user: &str, key: &str| world.send(world.request("GET", &format!("/v1/users/{user}/inspection")).bearer_auth(key));
        assert_eq!((ask(ADA, "").await?.status, ask(ADA, READ_KEY).await?.status), (401, 403));
        assert_eq!((ask(ADA, EVICT_KEY).await?.status, ask("user%2Fada", ADMIN_KEY).await?.status), (403, 400));
        assert_eq!(world.clerk.calls().of_user(ADA), 0);
        let answer = ask(ADA, ADMIN_KEY).await?;
        assert_eq!((answer.status, answer.header("rollcall-decision")), (200, ""));
        assert_eq!(role(&answer.json()["origin"], WORKS), Some("org:admin"));
        let unknown = ask("user_nobody", ADMIN_KEY).await?;
        assert_eq!((unknown.status, &unknown.json()["origin"]["status"]), (200, &json!("user-unknown")));
        let posted = world.send(world.request("POST", "/v1/users/user_ada/inspection").bearer_auth(ADMIN_KEY)).await?;
        assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
        Ok(())
    })
    .await;
}

/// No service ran here yet; the change that counts comes after more entries than one question returns.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_stream_is_read_and_a_history_in_doubt_is_told() {
    let clerk = StandIn::start(Options { world: ClerkWorld::small(), ..Options::default() }).await.expect("Clerk starts");
    let redis = RedisServer::start();
    let others =
        "for i = 1, 1500 do redis.call('XADD', KEYS[1], '*', 'change', '{\"kind\":\"userCreated\",\"user\":\"u'..i..'\"}') end
        redis.call('XADD', KEYS[1], '*', 'change', ARGV[1])
        local time = redis.call('TIME')
        redis.call('HSET', KEYS[2], 'replid', 'x', 'whole', '0', 'since', string.format('%.0f', time[1] * 1000000 - 5000000))";
    let ended = r#"{"kind":"membershipDeleted","membership":"orgmem_ada_harbour_works","user":"user_ada"}"#;
    redis.query(&["EVAL", others, "2", "user-orgs:~changes", "{user-orgs:~changes}:history", ended]);
    assert_eq!(redis.query(&["XLEN", "user-orgs:~changes"]), "1501");
    let shell = Shell::new()
        .set("CLERK_SECRET_KEY", clerk.secret_key())
        .set("CLERK_API_URL", &clerk.url())
        .set("REDIS_URL", &redis.url());
    let found = tokio::task::block_in_place(|| shell.run(&["inspect", ADA, "--json"])).ends_with(0).json();
    assert_eq!(found["facts"]["memberships"][0]["membershipId"], "orgmem_ada_harbour_works", "{found}");
    assert!(found["facts"]["doubtedMsAgo"].as_u64().is_some_and(|ms| (4_000..60_000).contains(&ms)), "{}", found["facts"]);
    let ran = tokio::task::block_in_place(|| shell.set("CLERK_SECRET_KEY", "").run(&["inspect", ADA]));
    ran.ends_with(78).says(&["CLERK_SECRET_KEY is missing"]);
}
