//! `rollcall evict` straight through Redis, beside a service that runs on it: what Clerk never told us about is right again.

use crate::world::answer::Answer;
use crate::world::redis_server::RedisServer;
use crate::world::rollcall::Rollcall;
use crate::world::shell::Shell;
use crate::world::wait::until;

/// Everybody asked about here, with an organization of theirs.
const PEOPLE: [(&str, &str); 4] = [
    ("user_ada", "harbour-works"),
    ("user_noor", "harbour-works"),
    ("user_mei", "tidewell-energy"),
    ("user_kofi", "willow-ledger"),
];

/// Everybody's membership ends, and no message tells of it.
async fn everybody_leaves_untold(rollcall: &Rollcall) -> anyhow::Result<()> {
    for (user, organization) in PEOPLE {
        rollcall.check(user, organization).await?.is_member();
        rollcall.clerk.world().lock().revoke(user, organization)?;
        rollcall.check(user, organization).await?.is_member();
    }
    Ok(())
}

/// The node has read the eviction's entry, a moment after it was confirmed.
async fn is_known_to_have_left(rollcall: &Rollcall, (user, organization): (&str, &str)) {
    let left = || async { Some(rollcall.check(user, organization).await.ok()?.status).filter(|status| *status == 404) };
    until("the eviction", left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_evicted_through_redis_are_read_again_by_every_node_and_others_are_not() -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    everybody_leaves_untold(&rollcall).await?;
    let ran = rollcall.run(&["evict", "user_ada", "user_noor", "user_nobody"]).ends_with(0);
    ran.says(&["evicted  user_ada", "evicted  user_noor", "evicted  user_nobody"]);
    is_known_to_have_left(&rollcall, PEOPLE[0]).await;
    is_known_to_have_left(&rollcall, PEOPLE[1]).await;
    for (user, organization) in &PEOPLE[2..] {
        rollcall.check(user, organization).await?.is_member();
    }
    let json = rollcall.run(&["evict", "user_mei", "--json"]).ends_with(0).json();
    assert_eq!(json, serde_json::json!([{"user": "user_mei", "evicted": true}]));
    is_known_to_have_left(&rollcall, PEOPLE[2]).await;
    Ok(())
}

/// Kofi's value is lost in Redis, and his entry is not: no walk finds him, and he is forgotten all the same.
#[tokio::test(flavor = "multi_thread")]
async fn when_everybody_is_evicted_no_node_answers_from_before() -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    everybody_leaves_untold(&rollcall).await?;
    rollcall.redis.query(&["DEL", "user-orgs:user_kofi", "{user-orgs:user_kofi}:guard"]);
    rollcall.check("user_kofi", "willow-ledger").await?.is_member();
    rollcall.run(&["evict", "--all"]).ends_with(0).says(&["evicted  everybody; values in Redis: 3"]);
    for person in PEOPLE {
        is_known_to_have_left(&rollcall, person).await;
    }
    Ok(())
}

/// The origin's answer is on its way, and nothing of the user is in Redis but the lease it was asked under.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_answer_on_its_way_when_everybody_is_evicted_is_not_given() -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    let held = rollcall.clerk.hold_next_answer_about("user_ivo");
    let check = async || -> anyhow::Result<Answer> { rollcall.check("user_ivo", "quillmark-press").await };
    let evicting = async {
        held.reached().await?;
        rollcall.clerk.world().lock().revoke("user_ivo", "quillmark-press")?;
        rollcall.run(&["evict", "--all"]).ends_with(0).says(&["values in Redis: 0"]);
        held.release();
        anyhow::Ok(())
    };
    let (answer, ()) = tokio::try_join!(check(), evicting)?;
    answer.is_not_a_member();
    check().await?.is_not_a_member();
    Ok(())
}

/// More users than one step of the walk meets, and beside them what is none of ours.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_evicted_step_by_step_and_nothing_else_is_touched() -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    let fill = "for n = 1, 2500 do redis.call('SET', KEYS[1] .. n, '[]') end";
    rollcall.redis.query(&["EVAL", fill, "1", "user-orgs:user_"]);
    rollcall.redis.query(&["MSET", "other:user_1", "x", "a:user-orgs:user_1", "x", "user-orgs:~mine", "x"]);
    let json = rollcall.run(&["evict", "--all", "--json"]).ends_with(0).json();
    assert_eq!(json["all"], true);
    // A walk may meet a key twice while Redis resizes its table.
    assert!((2_500..5_000).contains(&json["values"].as_u64().expect("a number")), "{json}");
    let left = "local left = 0 for n = 1, 2500 do left = left + redis.call('EXISTS', KEYS[1] .. n) end return left";
    assert_eq!(rollcall.redis.query(&["EVAL", left, "1", "user-orgs:user_"]), "0");
    let ours_not = ["EXISTS", "other:user_1", "a:user-orgs:user_1", "user-orgs:~mine", "user-orgs:~nodes"];
    assert_eq!(rollcall.redis.query(&ours_not), "4");
    let entries = rollcall.redis.query(&["XRANGE", "user-orgs:~changes", "-", "+"]);
    assert_eq!(entries.matches(r#"{"kind":"#).count(), 1, "one entry for all of them: {entries}");
    assert!(entries.trim_end().ends_with(r#"{"kind":"allEvicted"}"#), "{entries}");
    Ok(())
}

/// Confirmed or failed, and a Redis that cannot be rested on is refused as `serve` refuses it.
#[test]
fn an_eviction_that_redis_does_not_confirm_fails() {
    let shell = Shell::new().set("REDIS_URL", "redis://127.0.0.1:9");
    shell.run(&["evict", "user_1"]).ends_with(1).says(&["not confirmed", "user_1"]);
    shell.run(&["evict", "--all"]).ends_with(1).says(&["after 0 values; run it again"]);
    let redis = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    Shell::new().set("REDIS_URL", &redis.url()).run(&["evict", "user_1"]).ends_with(1).says(&["allkeys-lru"]);
}
