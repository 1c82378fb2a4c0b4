//! How soon after the acknowledgement of a webhook all nodes know, when nothing fails: one member of many, one after the
//! other; and an organization of thousands. I2, I6.
//!
//! By hand more of both, and by a stricter measure: `ROLLCALL_TEST_REVOCATIONS=500 ROLLCALL_TEST_P99_MS=50` and
//! `ROLLCALL_TEST_MEMBERS=100000` before `cargo test --test it faults::promptness -- --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use rollcall::dev::{NewOrganization, NewUser, World as ClerkWorld};

use super::run::NODES;
use crate::world::dice::Dice;
use crate::world::fleet::Fleet;
use crate::world::history::{Read, Said};
use crate::world::readers::{Caller, Question};
use crate::world::webhooks::until_taken;

/// What the nodes promise, as shipped.
const BOUND: Duration = Duration::from_secs(1);
/// Requests under way while caches are filled and looked through.
const AT_ONCE: usize = 32;

fn by_hand(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).map_or(ordinary, |text| text.parse().expect("a number"))
}

fn user(n: usize) -> String {
    format!("user_{n}")
}

/// Everybody is in both of two organizations.
fn world_of(members: usize) -> ClerkWorld {
    let mut world = ClerkWorld::new();
    world.seed(|world| {
        for id in ["org_big", "org_other"] {
            let new = NewOrganization { id: Some(id.to_owned()), name: id.to_owned(), slug: None, created_by: None };
            world.create_organization(new).expect("a new organization");
        }
        for n in 0..members {
            world.create_user(NewUser { id: Some(user(n)), ..NewUser::default() }).expect("a new user");
            for id in ["org_big", "org_other"] {
                world.grant(&user(n), id, "org:member").expect("a new member");
            }
        }
    });
    world
}

/// A fleet that remembers everybody.
async fn filled(members: usize) -> (Arc<Fleet>, Caller) {
    let fleet = Fleet::start(NODES, world_of(members), &[]).await;
    let caller = Caller { http: fleet.http.clone(), nodes: fleet.urls() };
    for node in 0..NODES {
        each(members, |n| until_told(&caller, node, n), |n, read| expect_rows(n, &read, 2)).await;
    }
    (fleet, caller)
}

/// Asks until it is not too much for the origin.
async fn until_told(caller: &Caller, node: usize, n: usize) -> Read {
    loop {
        let read = caller.ask(node, Question::list(&user(n))).await;
        if read.said != Said::Nothing {
            return read;
        }
    }
}

/// Asks about everybody, many at once.
async fn each<F: Future<Output = Read>>(members: usize, ask: impl Fn(usize) -> F, look: impl Fn(usize, Read)) {
    let asks = (0..members).map(|n| {
        let asked = ask(n);
        async move { (n, asked.await) }
    });
    let mut answers = std::pin::pin!(futures_util::stream::iter(asks).buffer_unordered(AT_ONCE));
    while let Some((n, read)) = answers.next().await {
        look(n, read);
    }
}

fn expect_rows(n: usize, read: &Read, expected: usize) {
    assert_eq!(rows(read), Some(expected), "user {n}: {read:?}");
}

/// How many memberships there are; none, where nobody could find out.
fn rows(read: &Read) -> Option<usize> {
    match &read.said {
        Said::Rows(rows) => Some(rows.len()),
        Said::Nothing => None,
        other => panic!("no list: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_moment_after_its_acknowledgement_a_revocation_is_known_to_all_nodes() {
    let revocations = by_hand("ROLLCALL_TEST_REVOCATIONS", 100);
    let (fleet, caller) = filled(revocations).await;
    let (mut known_after, mut last_yes) = (Vec::new(), Duration::ZERO);
    for n in 0..revocations {
        let done = fleet.clerk.world().lock().revoke(&user(n), "org_big").expect("a member");
        let endpoint = format!("{}/webhooks/clerk", caller.nodes[n % NODES]);
        let acknowledged = until_taken(fleet.clerk.sender(), &done.messages[0], &endpoint).await;
        for (last, known) in join_all((0..NODES).map(|node| until_known(&caller, node, n, acknowledged))).await {
            last_yes = last_yes.max(last);
            known_after.push(known);
        }
    }
    known_after.sort();
    let at = |percent: usize| known_after[(known_after.len() - 1) * percent / 100];
    let (least, half, most) = (at(0), at(50), at(100));
    println!("{revocations} revocations on {NODES} nodes, known after: min {least:?} p50 {half:?} p99 {:?} max {most:?}", at(99));
    // Asked later than that nobody said yes; what came later than that took its time on the way.
    assert!(last_yes < BOUND, "{last_yes:?}");
    assert!(at(99) < Duration::from_millis(by_hand("ROLLCALL_TEST_P99_MS", 400) as u64), "{:?}", at(99));
}

/// Asks without a pause until the membership is gone: when the last "yes" was asked for and when the end was told.
async fn until_known(caller: &Caller, node: usize, n: usize, acknowledged: Instant) -> (Duration, Duration) {
    let mut last_yes = Duration::ZERO;
    loop {
        let read = caller.ask(node, Question::list(&user(n))).await;
        match rows(&read) {
            Some(1) => return (last_yes, read.ended - acknowledged),
            Some(_) => last_yes = read.began - acknowledged,
            None => {}
        }
        assert!(acknowledged.elapsed() < BOUND * 5, "never known to node {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_the_end_of_a_large_organization_is_acknowledged_and_known_as_soon_as_any() {
    let members = by_hand("ROLLCALL_TEST_MEMBERS", 2_000);
    let filling = Instant::now();
    let (fleet, caller) = filled(members).await;
    println!("{members} members on {NODES} nodes in {:?}", filling.elapsed());
    let done = fleet.clerk.world().lock().delete_organization("org_big").expect("it is there");
    let sent = Instant::now();
    let endpoint = format!("{}/webhooks/clerk", caller.nodes[0]);
    let delivery = fleet.clerk.sender().deliver_now(&done.messages[0], &endpoint).await;
    let (took, acknowledged) = (sent.elapsed(), Instant::now());
    assert_eq!(delivery.status, Some(204), "{delivery:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");

    let sampled = join_all((0..NODES).map(|node| last_yes_of(&caller, node, members, acknowledged))).await;
    let last_yes = sampled.iter().max().expect("nodes");
    println!("acknowledged in {took:?}; of a sample, the last yes was asked for {last_yes:?} after");
    assert!(*last_yes < BOUND, "{sampled:?}");
    let looking = Instant::now();
    for node in 0..NODES {
        each(members, |n| until_told(&caller, node, n), |n, read| expect_rows(n, &read, 1)).await;
    }
    println!("all {members} are right on all nodes, looked through in {:?}", looking.elapsed());
}

/// Asks about anybody for a little longer than the bound: when the last "yes" was asked for.
async fn last_yes_of(caller: &Caller, node: usize, members: usize, acknowledged: Instant) -> Duration {
    let (mut dice, mut last_yes) = (Dice::new(node as u64), Duration::ZERO);
    while acknowledged.elapsed() < BOUND * 3 / 2 {
        let read = caller.ask(node, Question::list(&user(dice.below(members)))).await;
        if rows(&read) == Some(2) {
            last_yes = read.began - acknowledged;
        }
    }
    last_yes
}
