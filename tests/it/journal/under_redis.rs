//! The worker: what a delivery could not confirm is applied when Redis is back, in the times that are promised, and cheaply. I2.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::{StreamExt, stream};
use rollcall::journal::State;
use rollcall::ports::Journal;
use serde_json::json;

use super::{ADA, WORKS, expect_unavailable, on_both_databases, open_message};
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::wait::until;
use crate::world::webhooks::{Webhook, event, now};

/// What is left of the lease of a try that is under way, which is nine seconds. No delay is seen in between: they are of two
/// seconds, and then of ten.
const LEASE_MS: RangeInclusive<i64> = 2_001..=9_000;

/// Redis stands still, and loses nothing; one that comes back empty is the subject of `lost_history`.
#[tokio::test(flavor = "multi_thread")]
async fn i2_what_redis_could_not_confirm_is_applied_when_it_is_back() {
    on_both_databases(Deployment::Redis(1), async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.origin_lags();
        world.redis().pause();
        let webhook = world.ada_leaves();
        expect_unavailable(&world.post(&webhook).await?, "shared-unavailable");
        world.check(ADA, WORKS).await?.is_not_a_member();
        let row = world.row(&webhook).await.expect("a row");
        assert_eq!((row.state.as_str(), row.deliveries, row.applied_at_ms), ("pending", 1, None));
        assert!(row.reason.is_some(), "{row:?}");
        world.redis().resume();
        let row = world.until_state(&webhook, State::Applied).await;
        assert_eq!((row.applied_by.as_deref(), row.deliveries), (Some("worker"), 1));
        assert!(row.attempts > 1 && row.reason.is_none() && row.next_attempt_at_ms.is_none(), "{row:?}");
        assert!(world.redis().query(&["XRANGE", super::STREAM, "-", "+"]).contains(ADA), "it is in the stream");
        Ok(())
    })
    .await;
}

/// The delays as they are written down, each when it is seen for the first time: later than it was given, on a busy machine, or
/// never. What is exact about them is told where they are made.
#[tokio::test(flavor = "multi_thread")]
async fn tries_come_soon_at_first_and_then_once_a_minute() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.redis().kill();
        let webhook = world.ada_leaves();
        expect_unavailable(&world.post(&webhook).await?, "shared-unavailable");
        // By number of tries: when the next was due at first sight.
        let delays = Mutex::new(BTreeMap::new());
        let seen = AtomicI64::default();
        until("the fifth try", async || {
            let row = world.row(&webhook).await?;
            let due_ms = row.next_attempt_at_ms?;
            let delay_ms = due_ms - world.journal.now().await.ok()?.as_millis() as i64;
            if seen.swap(due_ms, Ordering::Relaxed) != due_ms && !LEASE_MS.contains(&delay_ms) {
                delays.lock().expect("unpoisoned").insert(row.attempts, delay_ms);
            }
            delays.lock().expect("unpoisoned").range(5..).next().map(|_| ())
        })
        .await;
        let delays = delays.into_inner()?;
        for (tries, most_ms) in [(1, 100), (2, 500), (3, 2_000), (4, 10_000)] {
            assert!(delays.get(&tries).is_none_or(|delay_ms| *delay_ms <= most_ms), "{tries}: {delays:?}");
        }
        assert!(delays.range(5..).all(|(_, delay_ms)| (40_000..=72_000).contains(delay_ms)), "{delays:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_about_one_user_voids_their_values_once_per_batch() {
    on_both_databases(Deployment::Redis(1), async |world: &mut World| {
        world.redis().kill();
        let webhooks: Vec<_> = (0..500).map(|_| world.webhook(event("user.created", json!({ "id": ADA })).to_string())).collect();
        // The first finds out that Redis is away; the others are told at once.
        expect_unavailable(&world.post(&webhooks[0]).await?, "shared-unavailable");
        let posts = stream::iter(&webhooks[1..]).map(|webhook| world.post(webhook)).buffer_unordered(32);
        let answers: Vec<_> = posts.collect().await;
        for answer in answers {
            expect_unavailable(&answer?, "shared-unavailable");
        }
        assert_eq!(world.journal.stats().await?.pending, 500);
        world.redis().restart();
        world.until_all_settled().await;
        assert!(world.changes() >= 500, "each is in the stream");
        let stats = world.redis().query(&["INFO", "commandstats"]);
        let deletions =
            stats.lines().find_map(|line| line.strip_prefix("cmdstat_del:calls=")?.split(',').next()?.parse::<u32>().ok());
        // Two per voiding: the value, and the guard. One probe, and then batches of 500; a claim may find half of them.
        assert!(deletions.is_some_and(|count| (2..=20).contains(&count)), "{deletions:?} of {stats}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_later_release_is_left_open_for_it() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        let later = open_message("msg_later", Some(r#"{"change":{"kind":"ofALaterRelease"}}"#));
        let known = open_message("msg_known", Some(r#"{"change":{"kind":"userCreated","user":"user_lena"}}"#));
        for message in [&later, &known] {
            world.journal.record(message).await?;
        }
        assert_eq!(world.journal.make_all_due().await?, 2);
        let row = until("the later one to be put off", async || {
            let row = world.journal.show(&later.id).await.ok()??;
            row.reason.is_some().then_some(row)
        })
        .await;
        assert_eq!((row.state.as_str(), row.attempts), ("pending", 2));
        let now_ms = world.journal.now().await?.as_millis() as i64;
        let put_off_ms = row.next_attempt_at_ms.expect("it is open") - now_ms;
        assert!((50_000..=60_000).contains(&put_off_ms), "{put_off_ms}");
        until("the other to be applied", async || (world.journal.show(&known.id).await.ok()??.state == "applied").then_some(()))
            .await;
        Ok(())
    })
    .await;
}

/// It is open because a later release saw a change in it; nobody here can confirm that change.
#[tokio::test(flavor = "multi_thread")]
async fn i2_an_open_message_in_which_this_release_sees_nothing_is_not_acknowledged() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let later = open_message("msg_later", Some(r#"{"change":{"kind":"ofALaterRelease"}}"#));
        world.journal.record(&later).await?;
        let (secret, body) = (world.clerk.sender().secret(), event("email.created", json!({ "id": "ema_1" })).to_string());
        let answer = world.post(&Webhook::signed_as(&secret, later.id.as_str(), now(), body)).await?;
        expect_unavailable(&answer, "shared-unavailable");
        assert_eq!(world.journal.show(&later.id).await?.expect("a row").state, "pending");
        Ok(())
    })
    .await;
}

/// Two deliveries and the worker, all at the same message at once while Redis comes and goes: it ends applied, once.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_and_the_worker_may_meet_at_one_message() {
    on_both_databases(Deployment::Redis(1), async |world: &mut World| {
        world.redis().pause();
        let webhooks: Vec<_> =
            (0..20).map(|n| world.webhook(event("user.created", json!({ "id": format!("user_{n}") })).to_string())).collect();
        let all = stream::iter(webhooks.iter().cycle().take(60)).map(|webhook| world.post(webhook)).buffer_unordered(60);
        let resume = async {
            until("all to be recorded", async || (world.journal.stats().await.ok()?.pending == 20).then_some(())).await;
            world.journal.make_all_due().await.expect("the journal answers");
            until("some to be refused", async || (world.deliveries("unconfirmed").await.ok()? > 0).then_some(())).await;
            world.redis_ref().resume();
        };
        let (answers, ()) = tokio::join!(all.collect::<Vec<_>>(), resume);
        for answer in answers {
            let answer = answer?;
            assert!([204, 503].contains(&answer.status), "{answer:?}");
        }
        let stats = world.until_all_settled().await;
        assert_eq!(stats.applied, 20);
        Ok(())
    })
    .await;
}
