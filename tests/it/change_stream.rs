//! The change stream on a real Redis: order, the fence, every kind of break, and how each heals.

use std::time::Duration;

use rollcall::clock;
use rollcall::domain::Moment;
use rollcall::ports::{Break, ChangeStream, Landed, SharedTier};

use crate::world::redis_node::{BOUNDS, RedisNode, Told, change, list, user};
use crate::world::redis_proxy::RedisProxy;
use crate::world::redis_server::RedisServer;
use crate::world::wait::{until, until_eq};

const STREAM: &str = "user-orgs:~changes";
const HISTORY: &str = "{user-orgs:~changes}:history";

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("user_{n}")).collect()
}

fn history(server: &RedisServer, field: &str) -> String {
    server.query(&["HGET", HISTORY, field])
}

/// The node hears of a new change, and its fence moves.
async fn expect_alive(node: &RedisNode, n: usize) {
    until("an append", async || node.stream.append(&change(n)).await.ok()).await;
    until_eq("the change", true, || node.heard.users().contains(&user(n).to_string())).await;
    node.caught_up().await;
    assert!(node.stream.standing().is_continuous);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_applied_in_order_and_the_fence_follows() {
    let server = RedisServer::start();
    let (one, two) = (RedisNode::started(&server.url()).await, RedisNode::started(&server.url()).await);
    assert_eq!(one.heard.breaks(), [], "an empty Redis is how everything begins");
    let before = clock::now();
    for n in 0..100 {
        [&one, &two][n % 2].append(&change(n)).await;
    }
    let after = clock::now();
    for node in [&one, &two] {
        node.caught_up().await;
        assert_eq!(node.heard.users(), names(0..100), "what was confirmed before the fence is applied");
        let moments = node.heard.moments();
        assert!(moments.iter().all(|at| *at >= before), "never earlier than it passed");
        assert!(moments.iter().all(|at| *at <= after + BOUNDS.staleness), "and not much later");
        assert_eq!(node.heard.breaks(), []);
    }
    // A node that starts later loads the same.
    let three = RedisNode::started(&server.url()).await;
    assert_eq!(three.heard.users(), names(0..100));
}

/// The answer is slow and an append overtakes it: the fence is when the question was asked, not when it was answered. I6.
#[tokio::test(flavor = "multi_thread")]
async fn i6_the_fence_never_passes_a_confirmed_change_that_is_not_applied() {
    let server = RedisServer::start();
    let proxy = RedisProxy::before(server.port());
    let (slow, quick) = (RedisNode::started(&proxy.url()).await, RedisNode::started(&server.url()).await);
    for n in 0..10 {
        proxy.deafen().await;
        quick.append(&change(n)).await;
        let confirmed = clock::now();
        proxy.release();
        while slow.fence_at() < confirmed {
            tokio::task::yield_now().await;
        }
        assert!(slow.heard.users().contains(&user(n).to_string()), "the fence vouches for a change that is not applied");
    }
    assert_eq!(slow.heard.breaks(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_one_answer_holds_are_all_applied() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let add = r#"for n = 0, 2499 do redis.call('XADD', KEYS[1], '*', 'change', '{"kind":"userCreated","user":"user_' .. n .. '"}') end"#;
    server.query(&["EVAL", add, "1", STREAM]);
    node.caught_up().await;
    assert_eq!(node.heard.users(), names(0..2500));
    assert_eq!(node.heard.breaks(), []);
    let late = RedisNode::started(&server.url()).await;
    assert_eq!(late.heard.users(), names(0..2500));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_later_release_is_survived() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    server.query(&["XADD", STREAM, "*", "change", r#"{"kind":"somethingNew","user":"user_1"}"#]);
    server.query(&["XADD", STREAM, "*", "elsewhere", "1"]);
    expect_alive(&node, 1).await;
    assert_eq!(node.heard.all().iter().filter(|told| **told == Told::Unreadable).count(), 2);
    assert_eq!(node.redis.counts().entries_unreadable.get(), 2);
    assert_eq!(node.heard.breaks(), []);
}

/// What happens to the stream, and how it shows: by its name on the node that sees it first, which may set things right before
/// the other one looks.
async fn check_break(harm: impl FnOnce(&mut RedisServer), cause: Break) {
    let mut server = RedisServer::start();
    let nodes = [RedisNode::started(&server.url()).await, RedisNode::started(&server.url()).await];
    expect_alive(&nodes[0], 0).await;
    nodes[1].caught_up().await;
    let since = history(&server, "since");
    let before = clock::now();
    harm(&mut server);
    let breaks = || nodes.iter().flat_map(|node| node.heard.breaks()).collect::<Vec<_>>();
    until_eq("the break", true, || breaks().contains(&cause)).await;
    expect_alive(&nodes[0], 1).await;
    nodes[1].caught_up().await;

    let is_lost = cause.may_have_lost_history();
    assert_eq!(history(&server, "since") != since, is_lost, "{cause:?}");
    assert!(breaks().iter().all(|other| other.may_have_lost_history() == is_lost), "{:?}", breaks());
    for node in &nodes {
        let doubted = node.heard.doubt().expect("the first doubt, at least");
        assert_eq!(doubted >= before, is_lost, "{cause:?}: readings from before are no answers");
        let doubts = node.heard.all().iter().filter(|told| matches!(told, Told::Doubt(_))).count();
        assert_eq!(doubts, 1 + usize::from(is_lost), "the second node changes nothing: {:?}", node.heard.all());
        assert!(node.heard.breaks().len() <= 1, "it heals at once: {:?}", node.heard.breaks());
        assert_eq!(node.stream.standing().breaks, node.heard.breaks().len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_a_break_and_heals() {
    check_break(|server| drop(server.query(&["FLUSHALL"])), Break::StreamMissing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_a_break_and_heals() {
    check_break(|server| drop(server.query(&["DEL", STREAM])), Break::StreamMissing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_deleted_and_begun_anew_is_a_break_and_heals() {
    check_break(|server| drop(server.query(&["EVAL", ANEW, "1", STREAM])), Break::StreamShorter).await;
}

const ANEW: &str = "redis.call('DEL', KEYS[1]) redis.call('XADD', KEYS[1], '*', 'history', 'x')";

#[tokio::test(flavor = "multi_thread")]
async fn the_second_node_that_sees_a_break_sets_no_later_since() {
    let server = RedisServer::start();
    let proxy = RedisProxy::before(server.port());
    let (first, second) = (RedisNode::started(&server.url()).await, RedisNode::started(&proxy.url()).await);
    expect_alive(&first, 0).await;
    second.caught_up().await;
    proxy.deafen().await;
    server.query(&["EVAL", ANEW, "1", STREAM]);
    first.broke(Break::StreamShorter).await;
    expect_alive(&first, 1).await;
    let since = history(&server, "since");
    proxy.release();
    second.broke(Break::StreamShorter).await;
    second.caught_up().await;
    assert_eq!(history(&server, "since"), since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_history_is_a_break_and_heals() {
    check_break(|server| drop(server.query(&["DEL", HISTORY])), Break::PrimaryChanged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_restarted_empty_is_a_break_and_heals() {
    check_break(RedisServer::restart, Break::StreamMissing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_trimmed_past_the_reader_is_a_break_and_loses_no_history() {
    let trim = "for _ = 1, 5 do redis.call('XADD', KEYS[1], '*', 'history', 'x') end redis.call('XTRIM', KEYS[1], 'MAXLEN', 2)";
    check_break(|server| drop(server.query(&["EVAL", trim, "1", STREAM])), Break::EntriesMissed).await;
}

/// Whoever loads a window that something is gone from knows up to where; whoever had read it all before missed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn i5_who_loads_a_trimmed_window_knows_what_may_be_missing() {
    let server = RedisServer::start();
    let reader = RedisNode::started(&server.url()).await;
    for (n, harm) in [vec!["XTRIM", STREAM, "MAXLEN", "1"], vec!["XTRIM", STREAM, "MAXLEN", "0"]].into_iter().enumerate() {
        reader.append(&change(2 * n)).await;
        reader.append(&change(2 * n + 1)).await;
        reader.caught_up().await;
        let last = *reader.heard.moments().last().expect("two were applied");
        server.query(&harm);
        let late = RedisNode::started(&server.url()).await;
        let [missed] = late.heard.missed()[..] else { panic!("told once: {:?}", late.heard.all()) };
        // The same entry in two nodes' words: the width of one question apart.
        assert!(missed + Duration::from_secs(1) > last && last + Duration::from_secs(1) > missed, "{missed:?} {last:?}");
        assert_eq!((late.heard.breaks(), reader.heard.breaks()), (vec![], vec![]));
    }
    assert_eq!(reader.heard.missed(), [], "its own window was whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_a_replica_stops_the_fence_until_it_is_one_again() {
    let (server, elsewhere) = (RedisServer::start(), RedisServer::start());
    let node = RedisNode::started(&server.url()).await;
    expect_alive(&node, 0).await;
    server.query(&["REPLICAOF", "127.0.0.1", &elsewhere.port().to_string()]);
    node.broke(Break::NotPrimary).await;
    let fence = node.fence_at();
    assert!(node.shared.invalidate(&[user(1)]).await.is_err(), "nothing is confirmed by a replica");
    until_eq("lag", true, || clock::now().since(fence) > BOUNDS.staleness).await;
    assert_eq!(node.fence_at(), fence);
    server.query(&["REPLICAOF", "NO", "ONE"]);
    expect_alive(&node, 1).await;
    assert_eq!(history(&server, "whole"), "0");
    assert!(node.heard.doubt() > Some(fence), "what the other server held may be anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_old_values_of_an_old_snapshot_are_doubted_before_they_can_be_got() {
    let mut server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let lease = node.shared.begin(&user(1)).await.expect("a lease");
    let fill = async |lease| node.shared.land(lease, &list("org:admin"), None).await.expect("an answer");
    assert_eq!(fill(lease).await, Landed::Landed);
    server.query(&["SAVE"]);
    node.shared.invalidate(&[user(1)]).await.expect("void");
    node.append(&change(1)).await;
    node.caught_up().await;
    assert!(node.shared.get(&user(1)).await.expect("an answer").is_none());

    server.restart();
    let value = until("the old value", async || node.shared.get(&user(1)).await.ok().flatten()).await;
    let doubt = node.heard.doubt().expect("told before the value could be got");
    assert!(value.as_of < doubt, "the revoked list is no answer: {:?} {doubt:?}", value.as_of);
    node.broke(Break::PrimaryChanged).await;
    expect_alive(&node, 2).await;
    // Whole again: somebody applied what was lost.
    server.query(&["HSET", HISTORY, "whole", "1"]);
    until_eq("the doubt to be lifted", Some(Moment::ZERO), || node.heard.doubt()).await;
}

/// What was put back and the word that all of it was come in one answer: only after the last of it is anything trusted again.
#[tokio::test(flavor = "multi_thread")]
async fn i5_doubt_is_lifted_after_what_was_put_back_is_applied() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    until_eq("doubt", true, || node.heard.doubt().is_some_and(|doubt| doubt > Moment::ZERO)).await;
    let entry = serde_json::to_string(&change(7)).expect("it serialises");
    let both = format!(
        "redis.call('HSET', '{HISTORY}', 'whole', '1') redis.call('XADD', 'user-orgs:~changes', '*', 'change', '{entry}')"
    );
    server.query(&["EVAL", &both, "0"]);
    until_eq("the doubt to be lifted", Some(Moment::ZERO), || node.heard.doubt()).await;
    let told = node.heard.all();
    let applied = told.iter().position(|told| matches!(told, Told::Applied(..))).expect("applied");
    let lifted = told.iter().rposition(|told| *told == Told::Doubt(Moment::ZERO)).expect("lifted");
    assert!(applied < lifted, "{told:?}");
}

/// A value is read, and before the answer arrives the server turns out to be another one: the answer is none.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_server_that_is_no_longer_the_primary_is_none() {
    let (server, elsewhere) = (RedisServer::start(), RedisServer::start());
    let proxy = RedisProxy::before(server.port());
    let node = RedisNode::started(&proxy.url()).await;
    let lease = node.shared.begin(&user(1)).await.expect("a lease");
    node.shared.land(lease, &list("org:admin"), None).await.expect("landed");
    assert!(node.shared.get(&user(1)).await.expect("an answer").is_some());

    proxy.hold(b"organizationId");
    let shared = node.shared.clone();
    let reading = tokio::spawn(async move { shared.get(&user(1)).await });
    proxy.until_holding_one().await;
    server.query(&["REPLICAOF", "127.0.0.1", &elsewhere.port().to_string()]);
    server.query(&["REPLICAOF", "NO", "ONE"]);
    until_eq("the tail to notice", true, || !node.heard.breaks().is_empty()).await;
    proxy.release();
    assert!(reading.await.expect("no panic").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_redis_stops_the_fence_and_heals_without_a_break() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    server.pause();
    let paused = clock::now();
    until_eq("the loss to show", false, || node.stream.standing().is_continuous).await;
    until_eq("lag", true, || clock::now().since(paused) > BOUNDS.staleness).await;
    assert!(node.fence_at() <= paused, "the fence is when the question was sent");
    server.resume();
    expect_alive(&node, 1).await;
    assert_eq!(node.heard.breaks(), [], "the next answer proves that the stream went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_alone_is_no_break() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    for n in 0..3 {
        let before = node.redis.counts().connections.get();
        server.query(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        until_eq("another connection", true, || node.redis.counts().connections.get() > before).await;
        expect_alive(&node, n).await;
    }
    assert_eq!(node.heard.breaks(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_servers_clock_is_a_break_and_facts_are_dated_late_rather_than_early() {
    let server = RedisServer::start();
    let proxy = RedisProxy::before(server.port());
    let node = RedisNode::started(&proxy.url()).await;
    let before = clock::now();
    expect_alive(&node, 1).await;
    proxy.step(3600);
    node.broke(Break::ClockStepped).await;
    expect_alive(&node, 2).await;
    assert_eq!(node.heard.users().iter().filter(|user| *user == "user_1").count(), 2, "the window was loaded again");
    assert!(node.heard.moments().iter().all(|at| *at >= before));
    proxy.step(-7200);
    until_eq("the step back", 2, || node.heard.breaks().len()).await;
    expect_alive(&node, 3).await;
    assert!(node.heard.moments().iter().all(|at| *at >= before && *at <= clock::now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_an_append_is_trimmed_by_age_and_the_fence_does_not_mind() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    expect_alive(&node, 1).await;
    // Entries from an hour ago, as many as the trimming needs to bother.
    server.query(&["DEL", STREAM]);
    node.broke(Break::StreamMissing).await;
    server.query(&["EVAL", OLD_ENTRIES, "1", STREAM]);
    expect_alive(&node, 2).await;
    let left: usize = server.query(&["XLEN", STREAM]).parse().expect("a number");
    assert!(left < 500, "{left} entries are left of 1,000 old ones");
    expect_alive(&node, 3).await;
}

/// A stream whose first 1,000 entries are an hour old.
const OLD_ENTRIES: &str = r"
redis.call('DEL', KEYS[1])
local hour_ago = redis.call('TIME')[1] * 1000 - 3600000
for n = 1, 1000 do
  redis.call('XADD', KEYS[1], string.format('%.0f', hour_ago + n), 'history', 'x')
end";

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_counted_and_take_their_leave() {
    let server = RedisServer::start();
    let (one, two) = (RedisNode::started(&server.url()).await, RedisNode::started(&server.url()).await);
    until_eq("both", (2, 2), || (one.redis.nodes(), two.redis.nodes())).await;
    two.redis.stop().await;
    assert_eq!(server.query(&["ZCARD", "user-orgs:~nodes"]), "1");
    until_eq("one", 1, || one.redis.nodes()).await;
    let fence = two.fence_at();
    until_eq("lag", true, || clock::now().since(fence) > Duration::from_millis(300)).await;
    assert_eq!(two.fence_at(), fence, "a stopped reader vouches for nothing");
}
