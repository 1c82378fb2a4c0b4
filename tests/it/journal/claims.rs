//! Several nodes on one Postgres: each open message is one node's at a time, a node that dies loses what it took, and none is
//! left over. I2.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rollcall::journal::{Filter, Row, Settings, Sharing, SqlJournal};
use rollcall::ports::{AppliedBy, Claimed, Deferred, Journal, Settled, Which};
use serde_json::json;
use tokio::runtime::Handle;

use super::{expect_unavailable, open_message};
use crate::world::postgres::Postgres;
use crate::world::served::Served;
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::wait::until;
use crate::world::webhooks::event;

const LEASE: Duration = Duration::from_secs(60);

async fn open(postgres: &Postgres) -> SqlJournal {
    let settings = Settings { url: postgres.url().into(), io: Handle::current() };
    SqlJournal::open(settings, Sharing::Nodes).await.expect("a journal")
}

async fn record(journal: &SqlJournal, count: usize) {
    let messages: Vec<_> = (0..count).map(|number| open_message(&format!("msg_{number:04}"), None)).collect();
    let recorded = stream::iter(&messages).map(|message| journal.record(message)).buffer_unordered(8);
    recorded.for_each(|recorded| async { recorded.map(drop).expect("recorded") }).await;
    assert_eq!(journal.make_all_due().await.expect("the journal answers"), count as u64);
}

fn ids(claimed: &[Claimed]) -> impl Iterator<Item = String> {
    claimed.iter().map(|claimed| claimed.id.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_claim_at_once_get_different_messages() {
    let postgres = Postgres::start();
    let nodes = [open(&postgres).await, open(&postgres).await];
    record(&nodes[0], 400).await;
    let claims = (0..40).map(|number| nodes[number % 2].claim(Which::Due, 10, LEASE));
    let claimed: Vec<_> = stream::iter(claims).buffer_unordered(12).collect().await;
    let claimed: Vec<_> = claimed.into_iter().flat_map(|claimed| claimed.expect("the journal answers")).collect();
    let different: BTreeSet<_> = ids(&claimed).collect();
    assert_eq!(claimed.len(), different.len(), "some were given to two");
    assert!(claimed.iter().all(|claimed| claimed.attempts == 2 && claimed.is_open));
    // Whoever meets another at the same message passes it over; the next claim finds it.
    let left = nodes[1].claim(Which::Due, 400, LEASE).await.expect("the journal answers");
    assert_eq!(different.len() + left.len(), 400);
    assert!(ids(&left).all(|id| !different.contains(&id)));
    assert!(nodes[0].claim(Which::Due, 400, LEASE).await.expect("the journal answers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_held_is_anothers_when_the_lease_ends() {
    let postgres = Postgres::start();
    let nodes = [open(&postgres).await, open(&postgres).await];
    record(&nodes[0], 5).await;
    let lease = Duration::from_secs(3);
    let claimed_at = Instant::now();
    assert_eq!(nodes[0].claim(Which::Due, 10, lease).await.expect("the journal answers").len(), 5);
    nodes[0].close().await;
    assert!(nodes[1].claim(Which::Due, 10, lease).await.expect("the journal answers").is_empty());
    let claimed = until("the lease to end", async || {
        let claimed = nodes[1].claim(Which::Due, 10, LEASE).await.ok()?;
        (!claimed.is_empty()).then_some(claimed)
    })
    .await;
    assert!(claimed_at.elapsed() >= lease, "{:?}", claimed_at.elapsed());
    assert_eq!(claimed.len(), 5);
    assert!(claimed.iter().all(|claimed| claimed.attempts == 3));
}

/// Each writes many messages in an order of its own: they must not wait for each other in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_write_the_same_messages_in_different_orders_do_not_block_each_other() {
    let postgres = Postgres::start();
    let nodes = [open(&postgres).await, open(&postgres).await];
    record(&nodes[0], 300).await;
    let message = |number: usize| open_message(&format!("msg_{number:04}"), None).id;
    let deferred = |number: usize| Deferred { id: message(number), retry_in: Duration::ZERO };
    let forth: Vec<_> = (0..300).map(deferred).collect();
    let back: Vec<_> = (0..300).rev().map(deferred).collect();
    let settled: Vec<_> = (0..300).map(|number| Settled { id: message(number * 7 % 300), buried_because: None }).collect();
    for round in 0..5 {
        let (forth, back, due) =
            tokio::join!(nodes[0].defer(&forth, "why"), nodes[1].defer(&back, "why"), nodes[0].make_all_due());
        assert!(forth.is_ok() && back.is_ok() && due.is_ok(), "{round}: {forth:?} {back:?} {due:?}");
    }
    let (first, second, due) =
        tokio::join!(nodes[0].settle(&settled, AppliedBy::Worker), nodes[1].reaffirm(&settled), nodes[1].make_all_due(),);
    assert!(first.is_ok() && second.is_ok() && due.is_ok(), "{first:?} {second:?} {due:?}");
    assert_eq!(nodes[0].stats().await.expect("the journal answers").applied, 300);
}

/// A thousand messages while Redis is away, each to one of the two: both work at them when it is back, and none is left.
#[tokio::test(flavor = "multi_thread")]
async fn i2_two_nodes_leave_nothing_of_a_thousand_messages() {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        world.redis().kill();
        let webhooks: Vec<_> =
            (0..1_000).map(|n| world.webhook(event("user.created", json!({ "id": format!("user_{n}") })).to_string())).collect();
        let posts = webhooks.iter().enumerate().map(|(number, webhook)| world.post_to(number % 7 % 2, webhook));
        let answers: Vec<_> = stream::iter(posts).buffer_unordered(24).collect().await;
        for answer in answers {
            expect_unavailable(&answer?, "shared-unavailable");
        }
        assert_eq!(world.journal.stats().await?.pending, 1_000);
        world.redis().restart();
        let stats = world.until_all_settled().await;
        assert_eq!((stats.applied, stats.buried, stats.ignored), (1_000, 0, 0));
        let stream = world.redis().query(&["XRANGE", super::STREAM, "-", "+"]);
        for n in 0..1_000 {
            assert!(stream.contains(&format!("\"user_{n}\"")), "user_{n} is on no other node");
        }
        Ok(())
    })
    .await;
}

/// Redis stands still, so that what a node has claimed stays in its hands, and the other node does too, so that it claims
/// nothing first. The other is neither started anew nor has it failed before: nothing but the end of the lease gives it these.
#[tokio::test(flavor = "multi_thread")]
async fn i2_what_a_killed_node_had_claimed_is_done_by_the_other() {
    let served = Served::on_postgres(2).await;
    let journal = served.journal().await;
    served.until_whole().await;
    let message = |n: usize| {
        let payload = json!({ "change": { "kind": "userCreated", "user": format!("user_{n}") } });
        open_message(&format!("msg_{n:04}"), Some(&payload.to_string()))
    };
    for n in 0..200 {
        journal.record(&message(n)).await.expect("recorded");
    }
    served.stand_still(1);
    served.redis_ref().pause();
    assert_eq!(journal.make_all_due().await.expect("the journal answers"), 200);
    let claimed = until("the first node to stand still with what it has claimed", async || {
        if held(&journal).await.is_empty() {
            return None;
        }
        served.stand_still(0);
        let claimed = held(&journal).await;
        if claimed.is_empty() {
            served.go_on(0);
            return None;
        }
        Some(claimed)
    })
    .await;
    served.kill(0);
    let killed_at_ms = now_ms(&journal).await;
    served.redis_ref().resume();
    served.go_on(1);

    let lease_ends_ms = claimed.iter().filter_map(|row| row.next_attempt_at_ms).max().expect("some are claimed");
    until("the lease to end", async || (now_ms(&journal).await >= lease_ends_ms).then_some(())).await;
    let stats = until("the other to do everything", async || journal.stats().await.ok().filter(|stats| stats.pending == 0)).await;
    assert_eq!(stats.applied, 200);
    for row in journal.list(&Filter::default(), 1_000).await.expect("the journal answers") {
        let applied_at_ms = row.applied_at_ms.expect("it was applied");
        assert_eq!(row.applied_by.as_deref(), Some("worker"), "{row:?}");
        // Ten seconds, and two for a machine that stands still now and then.
        assert!(applied_at_ms < killed_at_ms + 12_000, "{} ms: {row:?}", applied_at_ms - killed_at_ms);
        if let Some(claim) = claimed.iter().find(|claim| claim.message_id == row.message_id) {
            assert!(Some(applied_at_ms) >= claim.next_attempt_at_ms, "nobody waited for the lease: {claim:?} {row:?}");
            assert_eq!(row.attempts, claim.attempts + 1);
        }
    }
}

async fn now_ms(journal: &SqlJournal) -> i64 {
    i64::try_from(journal.now().await.expect("the journal answers").as_millis()).expect("a time before the end of times")
}

/// What is under a lease. What was only put off, at the second or third try, is due again within two seconds.
async fn held(journal: &SqlJournal) -> Vec<Row> {
    let (rows, now_ms) = (journal.list(&Filter::default(), 1_000).await.expect("the journal answers"), now_ms(journal).await);
    let is_held = |row: &Row| (2..=3).contains(&row.attempts) && row.next_attempt_at_ms > Some(now_ms + 5_000);
    rows.into_iter().filter(is_held).collect()
}
