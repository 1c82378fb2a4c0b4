//! The shared tier on a real Redis: leases, foreign values, lives, full memory, and what start refuses.

use std::time::{Duration, Instant};

use rollcall::clock;
use rollcall::domain::{List, UserId};
use rollcall::ports::{Break, ChangeStream, History, Landed, Lease, SharedError, SharedTier, SharedValue};
use rollcall::protocol::lease::Guard;
use rollcall::redis::{RedisShared, StartError};

use crate::world::redis_node::{BOUNDS, RedisNode, change, connect, list, user};
use crate::world::redis_server::RedisServer;
use crate::world::wait::{until, until_eq};

const VALUE: &str = "user-orgs:user_1";
const GUARD: &str = "{user-orgs:user_1}:guard";
const NODES: &str = "user-orgs:~nodes";
const HISTORY: &str = "{user-orgs:~changes}:history";

async fn fill(shared: &RedisShared, user: &UserId, list: &List) -> Landed {
    let lease = shared.begin(user).await.expect("a lease");
    shared.land(lease, list, None).await.expect("an answer")
}

async fn get(shared: &RedisShared, user: &UserId) -> Option<SharedValue> {
    shared.get(user).await.expect("an answer")
}

fn again(lease: &Lease) -> Lease {
    Lease { user: lease.user.clone(), token: lease.token.clone(), stamp: lease.stamp }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_landed_is_got_with_its_as_of() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let before = clock::now();
    assert!(get(&node.shared, &user(1)).await.is_none());
    assert_eq!(server.query(&["EXISTS", VALUE, GUARD]), "0", "a read creates nothing");
    assert_eq!(fill(&node.shared, &user(1), &list("org:admin")).await, Landed::Landed);
    let after = clock::now();
    let value = get(&node.shared, &user(1)).await.expect("the value");
    assert_eq!(value.list.body(), list("org:admin").body());
    assert_eq!(server.query(&["GET", VALUE]).as_bytes(), &list("org:admin").body()[..]);
    // Never later than the truth, and not much earlier: the width of one question.
    assert!(value.as_of <= after && value.as_of + Duration::from_secs(1) > before, "{:?}", value.as_of);
    let keys = server.query(&["DBSIZE"]);
    get(&node.shared, &user(1)).await.expect("the value");
    assert_eq!(server.query(&["DBSIZE"]), keys, "a read that hits creates nothing");
    assert!(node.shared.is_reachable());
}

/// A reading from before the step lies hours ahead. It is no answer, and keeps no later one out.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_redis_that_is_set_back_keeps_nothing_out_of_the_shared_tier() {
    let server = RedisServer::start_with_a_clock(&[]);
    let node = RedisNode::started(&server.url()).await;
    assert_eq!(fill(&node.shared, &user(1), &list("org:admin")).await, Landed::Landed);
    server.step_clock(-7_200_000);
    node.broke(Break::ClockStepped).await;
    node.caught_up().await;
    assert!(get(&node.shared, &user(1)).await.is_none(), "nobody can say how old it is");
    assert_eq!(fill(&node.shared, &user(1), &list("org:member")).await, Landed::Landed);
    let value = get(&node.shared, &user(1)).await.expect("the value");
    assert_eq!(value.list.body(), list("org:member").body());
}

/// A reading from before a small step would be told to be younger than it is. What is read once the clock has caught up is dated
/// right again.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_clock_of_redis_that_is_set_back_makes_no_reading_younger() {
    let server = RedisServer::start_with_a_clock(&[]);
    let node = RedisNode::started(&server.url()).await;
    assert_eq!(fill(&node.shared, &user(1), &list("org:admin")).await, Landed::Landed);
    assert!(get(&node.shared, &user(1)).await.is_some());
    server.step_clock(-400);
    node.broke(Break::ClockStepped).await;
    node.caught_up().await;
    assert!(get(&node.shared, &user(1)).await.is_none(), "it may be older than it says");
    until("a reading that can be dated", async || {
        fill(&node.shared, &user(1), &list("org:member")).await;
        get(&node.shared, &user(1)).await
    })
    .await;
}

/// Waits until the clock of Redis is past what it said then: only a stamp that lies behind could be dated at all.
async fn until_past(server: &RedisServer, then: &str) {
    let micros = |told: &str| -> u64 {
        let mut parts = told.lines().map(|part| part.parse::<u64>().expect("a number"));
        parts.next().expect("seconds") * 1_000_000 + parts.next().expect("microseconds")
    };
    let then = micros(then);
    until("the clock to catch up", async || (micros(&server.query(&["TIME"])) > then).then_some(())).await;
}

/// A node that starts after the step cannot have seen it: one that did notes it, however small the step is.
#[tokio::test(flavor = "multi_thread")]
async fn i7_who_starts_after_the_clock_of_redis_was_set_back_hears_of_it() {
    let server = RedisServer::start_with_a_clock(&[]);
    let node = RedisNode::started(&server.url()).await;
    assert_eq!(fill(&node.shared, &user(1), &list("org:admin")).await, Landed::Landed);
    let landed = server.query(&["TIME"]);
    assert!(get(&RedisNode::started(&server.url()).await.shared, &user(1)).await.is_some());
    server.step_clock(-400);
    node.broke(Break::ClockStepped).await;
    let is_noted = async || (server.query(&["HEXISTS", HISTORY, "twofold"]) == "1").then_some(());
    until("the step to be noted", is_noted).await;
    until_past(&server, &landed).await;
    assert!(get(&RedisNode::started(&server.url()).await.shared, &user(1)).await.is_none(), "it may be older than it says");
    // What a failover or a snapshot takes away is noted once more.
    server.query(&["HDEL", HISTORY, "twofold"]);
    until("it to be noted again", is_noted).await;
}

/// Nobody was there to see the step; what the clock said before is noted all along.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_clock_of_redis_that_is_set_back_while_no_node_runs_makes_no_reading_younger() {
    let server = RedisServer::start_with_a_clock(&[]);
    let node = RedisNode::started(&server.url()).await;
    assert_eq!(fill(&node.shared, &user(1), &list("org:admin")).await, Landed::Landed);
    let landed = server.query(&["TIME"]);
    node.redis.stop().await;
    server.step_clock(-3_000);
    let later = RedisNode::started(&server.url()).await;
    until_past(&server, &landed).await;
    later.caught_up().await;
    assert!(get(&later.shared, &user(1)).await.is_none(), "it may be older than it says");
}

/// A clock that was hours ahead says nothing of what lies between: a later, small step takes no more than its own.
#[tokio::test(flavor = "multi_thread")]
async fn after_two_steps_what_is_read_next_is_dated() {
    let server = RedisServer::start_with_a_clock(&[]);
    let node = RedisNode::started(&server.url()).await;
    for ms in [7_200_000, -7_200_000, -400] {
        let breaks = node.heard.breaks().len();
        server.step_clock(ms);
        until("the step to be seen", async || (node.heard.breaks().len() > breaks).then_some(())).await;
        node.caught_up().await;
    }
    until("a reading that can be dated", async || {
        fill(&node.shared, &user(1), &list("org:member")).await;
        get(&node.shared, &user(1)).await
    })
    .await;
    let is_noted = async || (server.query(&["HGET", HISTORY, "twofold"]).matches('-').count() == 2).then_some(());
    until("both to be noted", is_noted).await;
}

/// Else it would count, and be another journal's, for as long as the clock was ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_beat_from_before_the_clock_was_set_back_is_no_later_than_others() {
    let server = RedisServer::start_with_a_clock(&[]);
    server.step_clock(7_200_000);
    let beat = "return redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000, 'a-journal/dead')";
    assert_eq!(server.query(&["EVAL", beat, "1", NODES]), "1");
    server.step_clock(-7_200_000);
    let _node = RedisNode::started(&server.url()).await;
    let score = || server.query(&["ZSCORE", NODES, "a-journal/dead"]).parse::<f64>().expect("it counts as others do");
    until("the beat to be set right", async || {
        let seconds = server.query(&["TIME"]).lines().next().expect("seconds").parse::<f64>().expect("a number");
        (score() <= (seconds + 1.0) * 1_000.0).then_some(())
    })
    .await;
}

/// Also of a node that died while the clock was ahead: nobody would wait for hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_from_before_the_clock_was_set_back_ends_in_its_time() {
    let server = RedisServer::start_with_a_clock(&[]);
    let nodes = [RedisNode::started(&server.url()).await, RedisNode::started(&server.url()).await];
    server.step_clock(7_200_000);
    assert!(nodes[0].redis.history().hold().await.expect("an answer"));
    assert!(!nodes[1].redis.history().hold().await.expect("an answer"));
    server.step_clock(-7_200_000);
    assert!(nodes[1].redis.history().hold().await.expect("an answer"));
    assert!(!nodes[0].redis.history().hold().await.expect("an answer"), "it is another node's now");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_void_lease_lands_nothing() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let refused = async |lease| node.shared.land(lease, &list("stale"), None).await.expect("an answer");
    let begin = async || node.shared.begin(&user(1)).await.expect("a lease");

    let overtaken = begin().await;
    node.shared.invalidate(&[user(1)]).await.expect("void");
    assert_eq!(refused(again(&overtaken)).await, Landed::RefusedLease);
    // Absent never equals absent: whichever way the guard went.
    for losing in [vec!["DEL", GUARD], vec!["PEXPIRE", GUARD, "0"], vec!["FLUSHALL"]] {
        let lease = begin().await;
        server.query(&losing);
        assert_eq!(refused(again(&lease)).await, Landed::RefusedLease, "{losing:?}");
        begin().await;
        assert_eq!(refused(lease).await, Landed::RefusedLease, "{losing:?}, and another guard in its place");
    }
    assert!(get(&node.shared, &user(1)).await.is_none());
    let counted = node.redis.counts().fills_refused.get_or_create(&rollcall::redis::Reason { reason: "lease" }).get();
    assert_eq!(counted, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scripts_equal_the_protocol() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let mut random = Random(0x5eed);
    let timeouts = || node.redis.counts().timeouts.get();
    let (mut rounds, mut begun) = (0, 0);
    while rounds < 100 {
        let before = timeouts();
        match compare_with_the_protocol(&server, &node, &user(begun), &mut random).await {
            Ok(()) => rounds += 1,
            // Whether it came to pass nobody knows; from the beginning, with somebody else.
            Err(wrong) => assert!(timeouts() > before && begun < 110, "round {begun}: {wrong:#}"),
        }
        begun += 1;
    }
}

async fn compare_with_the_protocol(
    server: &RedisServer,
    node: &RedisNode,
    user: &UserId,
    random: &mut Random,
) -> anyhow::Result<()> {
    let guard_key = format!("{{user-orgs:{user}}}:guard");
    let mut model = Guard::default();
    let mut leases: Vec<Lease> = Vec::new();
    for step in 0..30 {
        match random.below(8) {
            0..3 => {
                let lease = node.shared.begin(user).await?;
                anyhow::ensure!(model.begin(&lease.token) == *lease.token, "step {step}: another lease");
                leases.push(lease);
            }
            3..6 if !leases.is_empty() => {
                let lease = again(&leases[random.below(leases.len())]);
                // Sometimes a reading that began earlier or later than its lease says.
                let stamp = lease.stamp + random.below(3) as u64 - 1;
                let list = list(&format!("role {}", random.below(5)));
                let digest = list.digest().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let expected = model.land(&lease.token, stamp, &digest);
                let landed = node.shared.land(Lease { stamp, ..lease }, &list, None).await?;
                anyhow::ensure!(landed == expected, "step {step}: {landed:?}, not {expected:?}");
            }
            6 => {
                node.shared.invalidate(std::slice::from_ref(user)).await?;
                model.invalidate(&server.query(&["HGET", &guard_key, "lease"]));
                anyhow::ensure!(node.shared.get(user).await?.is_none(), "step {step}: a value that was voided");
            }
            7 if !leases.is_empty() && random.below(4) > 0 => {
                let lease = leases.swap_remove(random.below(leases.len()));
                model.release(&lease.token);
                node.shared.release(lease).await;
            }
            7 if random.below(4) == 0 => {
                server.query(&["DEL", &guard_key]);
                model = Guard::default();
            }
            _ => {}
        }
        let found = guard(server, &guard_key);
        anyhow::ensure!(found == model, "step {step}: {found:?}, not {model:?}");
    }
    Ok(())
}

fn guard(server: &RedisServer, key: &str) -> Guard {
    let fields = server.query(&["HMGET", key, "lease", "as_of", "digest", "begun"]);
    let mut fields = fields.split('\n').map(|field| (!field.is_empty()).then(|| field.to_owned()));
    let mut field = || fields.next().flatten();
    let as_number = |field: String| field.parse().expect("a number");
    Guard {
        lease: field(),
        as_of: field().map(as_number),
        digest: field(),
        begun: field().map_or(0, |begun| as_number(begun) as u32),
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_foreign_values_are_misses_and_are_overwritten() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let five_fields =
        r#"[{"organizationId":"org_1","organizationSlug":"a","organizationName":"A","role":"org:admin","imageUrl":null}]"#;
    for foreign in [five_fields, "null", "", "[", "{}", "\"[]\"", "\u{0}", "[]"] {
        fill(&node.shared, &user(1), &list("org:admin")).await;
        server.query(&["SET", VALUE, foreign]);
        assert!(get(&node.shared, &user(1)).await.is_none(), "{foreign}");
        server.query(&["DEL", GUARD]);
        assert!(get(&node.shared, &user(1)).await.is_none(), "{foreign}, without a guard");
        assert_eq!(fill(&node.shared, &user(1), &list("org:member")).await, Landed::Landed, "{foreign}");
        assert_eq!(get(&node.shared, &user(1)).await.expect("ours").list.role(0), "org:member");
    }
    server.query(&["DEL", VALUE]);
    server.query(&["LPUSH", VALUE, "a list"]);
    assert!(get(&node.shared, &user(1)).await.is_none());
    assert_eq!(fill(&node.shared, &user(1), &list("org:member")).await, Landed::Landed);
    assert!(get(&node.shared, &user(1)).await.is_some());
    assert!(node.redis.counts().foreign_values.get() >= 15);
}

/// Whatever somebody made of a guard: it vouches for nothing, and the next fill writes it anew.
#[tokio::test(flavor = "multi_thread")]
async fn i8_corrupt_guards_are_misses_and_are_overwritten() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let corruptions: [&[&[&str]]; 6] = [
        &[&["HSET", GUARD, "as_of", "yesterday"]],
        &[&["HSET", GUARD, "as_of", ""]],
        &[&["HSET", GUARD, "begun", "many"]],
        &[&["HDEL", GUARD, "lease"]],
        &[&["DEL", GUARD], &["SET", GUARD, "a string"]],
        &[&["DEL", GUARD], &["LPUSH", GUARD, "a list"]],
    ];
    for corruption in corruptions {
        fill(&node.shared, &user(1), &list("org:admin")).await;
        for command in corruption {
            server.query(command);
        }
        let is_vouched_for = get(&node.shared, &user(1)).await.is_some();
        assert_eq!(is_vouched_for, corruption[0].contains(&"begun"), "{corruption:?}");
        assert_eq!(fill(&node.shared, &user(1), &list("org:member")).await, Landed::Landed, "{corruption:?}");
        assert_eq!(get(&node.shared, &user(1)).await.expect("ours").list.role(0), "org:member", "{corruption:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_its_guard_does_not_vouch_for_is_a_miss() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    fill(&node.shared, &user(1), &list("org:admin")).await;
    let other = list("org:owner");
    server.query(&["SET", VALUE, std::str::from_utf8(other.body()).expect("text")]);
    assert!(get(&node.shared, &user(1)).await.is_none());
    assert_eq!(node.redis.counts().digest_mismatches.get(), 1);
    server.query(&["DEL", VALUE]);
    assert!(get(&node.shared, &user(1)).await.is_none(), "a foreign DEL is noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_the_life_of_a_value_counts_from_its_as_of() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let check = async |age_s: u64, keep: Option<u64>, expected_ms: std::ops::RangeInclusive<u64>| {
        server.query(&["DEL", GUARD]);
        let began = Instant::now();
        let lease = node.shared.begin(&user(1)).await.expect("a lease");
        let stamp = lease.stamp - age_s * 1_000_000;
        let landed = node.shared.land(Lease { stamp, ..lease }, &list("r"), keep.map(Duration::from_secs)).await;
        assert_eq!(landed.expect("an answer"), Landed::Landed);
        let left: i64 = server.query(&["PTTL", VALUE]).parse().expect("milliseconds");
        // -2: its life is over, and it was no longer than this took.
        let (life, passed) = (left.max(0).cast_unsigned(), began.elapsed().as_millis() as u64);
        let is_expected = life <= *expected_ms.end() && life + passed >= *expected_ms.start();
        assert!(is_expected, "{age_s} s old, keep {keep:?}: lives {left} ms, after {passed} ms");
        let guard: u64 = server.query(&["PTTL", GUARD]).parse().expect("milliseconds");
        assert!(guard >= life + 50_000, "the guard outlives the value: {guard} {life}");
    };
    check(0, None, 299_000..=300_000).await;
    check(100, None, 199_000..=200_000).await;
    check(1000, None, 1..=1000).await;
    check(0, Some(5), 4000..=5000).await;
    check(0, Some(1000), 299_000..=300_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_life_of_a_guard_is_never_shortened() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    fill(&node.shared, &user(1), &list("r")).await;
    let life = || server.query(&["PTTL", GUARD]).parse::<u64>().expect("milliseconds");
    assert!(life() > 350_000);
    node.shared.begin(&user(1)).await.expect("a lease");
    assert!(life() > 350_000);
    node.shared.invalidate(&[user(1)]).await.expect("void");
    assert!(life() > 350_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_invalidations_and_appends_work_when_memory_is_full() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    fill(&node.shared, &user(1), &list("org:admin")).await;
    let lease = node.shared.begin(&user(1)).await.expect("a lease");
    server.query(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(server.query(&["SET", "a", "b"]).split(' ').next(), Some("OOM"), "memory is full");
    assert!(get(&node.shared, &user(1)).await.is_some(), "reads go on");

    node.shared.invalidate(&[user(1)]).await.expect("void");
    node.append(&change(1)).await;
    until_eq("the change", vec!["user_1".to_owned()], || node.heard.users()).await;
    node.caught_up().await;
    assert!(get(&node.shared, &user(1)).await.is_none());
    assert!(matches!(node.shared.land(lease, &list("r"), None).await, Err(SharedError::Unavailable { .. })));
    assert!(node.shared.begin(&user(2)).await.is_err(), "a new lease costs memory, and only the shared copy");

    server.query(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(fill(&node.shared, &user(1), &list("org:admin")).await, Landed::Landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_are_voided_in_batches() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let users: Vec<_> = (0..250).map(user).collect();
    for user in &users {
        fill(&node.shared, user, &list("r")).await;
    }
    node.shared.invalidate(&users).await.expect("void");
    assert_eq!(server.query(&["EVAL", "return #redis.call('KEYS', 'user-orgs:user_*')", "0"]), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_loaded_again() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    server.query(&["SCRIPT", "FLUSH"]);
    assert_eq!(fill(&node.shared, &user(1), &list("r")).await, Landed::Landed);
    server.query(&["SCRIPT", "FLUSH"]);
    node.shared.invalidate(&[user(1), user(2)]).await.expect("void");
    assert!(get(&node.shared, &user(1)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_redis_is_an_error_at_once_and_heals() {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    fill(&node.shared, &user(1), &list("r")).await;
    server.pause();
    assert!(matches!(node.shared.get(&user(1)).await, Err(SharedError::TimedOut)));
    // One of these waits for a new connection; the others are told at once.
    let began = clock::now();
    for _ in 0..100 {
        assert!(node.shared.get(&user(1)).await.is_err());
    }
    assert!(clock::now().since(began) < Duration::from_secs(2), "{:?}", clock::now().since(began));
    until_eq("reachable by the fence", false, || node.shared.is_reachable()).await;
    server.resume();
    until("the value again", async || node.shared.get(&user(1)).await.ok().flatten()).await;
    until_eq("reachable by the fence", true, || node.shared.is_reachable()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_refuses_a_redis_that_cannot_carry_the_protocol() {
    let evicting = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let refused = connect(&evicting.url()).await.expect_err("refused");
    assert!(matches!(&refused, StartError::EvictionPolicy { policy } if policy == "allkeys-lru"));
    assert!(refused.to_string().contains("volatile-ttl"), "it says what to do: {refused}");

    let primary = RedisServer::start();
    let replica = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
    assert_eq!(connect(&replica.url()).await.expect_err("refused"), StartError::Replica);
    assert!(matches!(connect("redis+cluster://127.0.0.1/1").await, Err(StartError::Url { .. })));
    assert!(matches!(connect("http://secret@127.0.0.1").await, Err(StartError::Url { what }) if !what.contains("secret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_at_start_is_used_when_it_comes() {
    let mut server = RedisServer::start();
    server.kill();
    let node = RedisNode::start(&server.url()).await;
    assert!(matches!(node.redis.check().await, Err(StartError::Unreachable { .. })));
    assert!(matches!(node.redis.check_instance("ins_1").await, Err(StartError::Unreachable { .. })));
    assert!(node.shared.get(&user(1)).await.is_err());
    assert!(node.stream.append(&change(1)).await.is_err());
    server.restart();
    node.caught_up().await;
    until("a lease", async || node.shared.begin(&user(1)).await.ok()).await;
    // The claim that could not be made at start was made meanwhile.
    assert_eq!(server.query(&["HGET", "{user-orgs:~changes}:history", "instance"]), "ins_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_prefix_belongs_to_one_instance() {
    let server = RedisServer::start();
    let ours = connect(&server.url()).await.expect("ours");
    assert_eq!(ours.check_instance("ins_1").await, Ok(()));
    assert_eq!(ours.check_instance("ins_1").await, Ok(()));
    let theirs = RedisNode::started(&server.url()).await;
    let refused = theirs.redis.check_instance("ins_2").await.expect_err("refused");
    assert!(matches!(&refused, StartError::OtherInstance { found, ours, .. } if found == "ins_1" && ours == "ins_2"));
    // Should it go on all the same, nothing of the stream ever vouches for its answers.
    until_eq("the stream is refused", false, || theirs.stream.standing().is_continuous).await;
    let fence = theirs.fence_at();
    assert!(theirs.stream.append(&change(1)).await.is_ok());
    until_eq("lag", true, || clock::now().since(fence) > BOUNDS.staleness).await;
    assert_eq!(theirs.fence_at(), fence);
}
