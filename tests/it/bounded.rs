//! What strangers may cost: the real binary under many ids that nobody knows, and under more users than fit. I12.
//!
//! Twenty thousand ids in the ordinary run. `ROLLCALL_TEST_UNKNOWN_IDS=1000000 cargo test --release --test it bounded` asks
//! for a million; with `ROLLCALL_TEST_ORIGIN_RATE=100000` too, so that most of them are asked of the origin and land;
//! `ROLLCALL_TEST_LOCAL_MIB=256` gives the local tier its default limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall::dev::{NewUser, World as ClerkWorld};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::world::answer::Answer;
use crate::world::rollcall::Rollcall;
use crate::world::service::READ_KEY;
use crate::world::wait::{until, until_eq};

const MIB: u64 = 1 << 20;
/// Beyond the local tier's limit the process may hold this much.
const ALLOWANCE: u64 = 64 * MIB;
const CALLERS: usize = 128;

/// How many answers of each kind there were, and the most memory that was seen.
struct Outcome {
    answers: BTreeMap<String, usize>,
    resident_max: u64,
    took: Duration,
}

/// Asks for the lists of `count` users, at most 128 at once, and looks at the process's memory meanwhile.
async fn ask_for(rollcall: &Rollcall, count: usize, user: fn(usize) -> String) -> Outcome {
    let began = Instant::now();
    let (next, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(BTreeMap::new())));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (http, url, next, answers) = (rollcall.http.clone(), rollcall.url.clone(), next.clone(), answers.clone());
        callers.spawn(async move {
            while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count) {
                let request = http.get(format!("{url}/v1/users/{}/orgs", user(n))).bearer_auth(READ_KEY);
                let kind = kind(Answer::of(request.send().await.expect("an answer")).await.expect("a body"));
                *answers.lock().expect("unpoisoned").entry(kind).or_insert(0) += 1;
            }
        });
    }
    let (mut look, mut resident_max) = (interval(Duration::from_millis(50)), 0);
    loop {
        tokio::select! {
            ended = callers.join_next() => match ended {
                Some(ended) => ended.expect("no panic"),
                None => break,
            },
            _ = look.tick() => resident_max = resident_max.max(rollcall.resident_bytes()),
        }
    }
    let answers = std::mem::take(&mut *answers.lock().expect("unpoisoned"));
    Outcome { answers, resident_max, took: began.elapsed() }
}

/// `200`, or a problem's status and code.
fn kind(answer: Answer) -> String {
    match answer.status {
        200 => "200".to_owned(),
        status => format!("{status} {}", answer.json()["code"].as_str().expect("a code")),
    }
}

fn stranger(n: usize) -> String {
    // Spread like Clerk's own ids.
    format!("user_{:016x}{n:011}", (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn member(n: usize) -> String {
    format!("user_member_{n:05}")
}

fn keys(rollcall: &Rollcall) -> usize {
    rollcall.redis.query(&["DBSIZE"]).parse().expect("a number")
}

/// Waits until Redis holds at most so many keys: what is given back is gone a moment after the answer.
async fn expect_keys(rollcall: &Rollcall, keys_max: usize) {
    until_eq("no key of who is unknown", true, || keys(rollcall) <= keys_max).await;
}

/// A number of the ordinary run, unless a variable names another one.
fn by_hand(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).map_or(ordinary, |number| number.parse().expect("a number"))
}

/// Whoever asks for ids that nobody has gets neither our memory nor Redis', nor more of the origin than its budget.
#[tokio::test(flavor = "multi_thread")]
async fn i12_unknown_ids_cost_no_memory_no_keys_and_no_more_than_the_budget() {
    let (count, rate) = (by_hand("ROLLCALL_TEST_UNKNOWN_IDS", 20_000), by_hand("ROLLCALL_TEST_ORIGIN_RATE", 100));
    let limit = by_hand("ROLLCALL_TEST_LOCAL_MIB", 16) as u64;
    let settings = [("ROLLCALL_ORIGIN_RATE", rate.to_string()), ("ROLLCALL_LOCAL_BYTES_MAX", format!("{limit}MiB"))];
    let settings = settings.each_ref().map(|(variable, value)| (*variable, value.as_str()));
    let rollcall = Rollcall::serve_with(ClerkWorld::small(), &settings).await;
    let keys_before = keys(&rollcall);
    let outcome = ask_for(&rollcall, count, stranger).await;
    let (keys_after, calls) = (keys(&rollcall), rollcall.clerk.calls());
    let (busiest, asked) = (calls.busiest(Duration::from_secs(10)), calls.total());
    println!(
        "{count} ids in {:?}: {:?}; at most {} MiB resident; {asked} calls, {busiest} in the busiest 10 s; {keys_before} keys, then {keys_after}",
        outcome.took,
        outcome.answers,
        outcome.resident_max / MIB,
    );
    assert!(outcome.answers.keys().all(|kind| ["404 user-unknown", "503 origin-rate-limited"].contains(&kind.as_str())));
    assert_eq!(outcome.answers.values().sum::<usize>(), count);
    assert!(outcome.resident_max <= limit * MIB + ALLOWANCE);
    // Counted where they arrive: what left in a little more than ten seconds may arrive in ten.
    assert!(busiest <= rate + rate / 20, "{busiest}");
    // What was begun when Redis took too long, and by whom else was under way then, is given back by nobody.
    let timeouts = rollcall.metric("rollcall_redis_timeouts_total").await.expect("metrics") as usize;
    expect_keys(&rollcall, keys_before + 3 + timeouts * CALLERS).await;
    // Whoever is known is answered all the same, in his turn.
    until("a turn", async || (rollcall.get("/v1/users/user_ada/orgs", &[]).await.ok()?.status == 200).then_some(())).await;
}

/// More users than fit: the oldest go, the rest stays within the limit, and everybody is answered.
#[tokio::test(flavor = "multi_thread")]
async fn i12_the_local_tier_keeps_its_limit_and_counts_what_it_pushes_out() -> anyhow::Result<()> {
    const MEMBERS: usize = 4_000;
    let mut clerk = ClerkWorld::small();
    clerk.seed(|world| {
        for n in 0..MEMBERS {
            world.create_user(NewUser { id: Some(member(n)), ..NewUser::default() }).expect("a new user");
            world.grant(&member(n), "harbour-works", "org:member").expect("a new member");
        }
    });
    let settings = [("ROLLCALL_LOCAL_BYTES_MAX", "1MiB")];
    let rollcall = Rollcall::serve_with(clerk, &settings).await;
    for round in ["from the origin", "from Redis"] {
        let outcome = ask_for(&rollcall, MEMBERS, member).await;
        assert_eq!(outcome.answers, BTreeMap::from([("200".to_owned(), MEMBERS)]), "{round}");
        let (bytes, users) = (rollcall.metric("rollcall_local_bytes").await?, rollcall.metric("rollcall_local_users").await?);
        println!("{round}: {bytes} bytes of {users} users, {} MiB resident", outcome.resident_max / MIB);
        assert!(bytes <= MIB && bytes > MIB / 2, "{round}: {bytes}");
        assert!(users > 500 && users < MEMBERS as u64 / 2, "{round}: {users}");
        assert!(rollcall.metric("rollcall_local_evictions_total").await? >= MEMBERS as u64 - users);
    }
    let asked = rollcall.clerk.calls().total();
    // Without Redis it were twice as many, but for what is here. What took it too long now and then is not there.
    assert!((MEMBERS..MEMBERS * 5 / 4).contains(&(asked as usize)), "{asked}: what is pushed out here is still in Redis");
    // Strangers push out members, never the limit.
    let outcome = ask_for(&rollcall, MEMBERS, stranger).await;
    assert_eq!(outcome.answers, BTreeMap::from([("404 user-unknown".to_owned(), MEMBERS)]));
    assert!(rollcall.metric("rollcall_local_bytes").await? <= MIB);
    expect_keys(&rollcall, 2 * MEMBERS + 5 + MEMBERS / 20).await;
    Ok(())
}
