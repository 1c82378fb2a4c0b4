//! What a delivery leaves in the journal: one row for every message, whatever becomes of it and however often it comes. I2.

use std::time::Duration;

use futures_util::future::join_all;
use rollcall::domain::MessageId;
use rollcall::journal::State;
use rollcall::ports::{AppliedBy, Deferred, Journal, Recorded, Settled, Which};
use serde_json::json;

use super::{ADA, WORKS, on_both_databases, open_message};
use crate::world::service::{Deployment, World};
use crate::world::wait::until;
use crate::world::webhooks::{event, fixture, now};

/// Fixture; state; user, organization, membership and session, without what their ids begin with.
const FILED: [(&str, &str, [&str; 4]); 12] = [
    ("organizationMembership.created", "applied", ["kofi", "tidewell_energy", "kofi_tidewell_energy", ""]),
    ("organizationMembership.updated", "applied", ["kofi", "northfold_bakery", "kofi_northfold_bakery", ""]),
    ("organizationMembership.deleted", "applied", ["mei", "copperline_rail", "mei_copperline_rail", ""]),
    ("organization.updated", "applied", ["", "harbour_works", "", ""]),
    ("organization.deleted", "applied", ["", "orchard_nine", "", ""]),
    ("user.created", "applied", ["lena", "", "", ""]),
    ("user.deleted", "applied", ["ivo", "", "", ""]),
    ("session.revoked", "applied", ["kofi", "", "", "kofi_laptop"]),
    ("session.created", "ignored", ["noor", "", "", "noor_laptop"]),
    ("organizationInvitation.accepted", "ignored", ["kofi", "tidewell_energy", "", ""]),
    ("role.updated", "ignored", ["", "", "", ""]),
    ("email.created", "ignored", ["kofi", "", "", ""]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_message_leaves_one_row_filed_under_its_ids() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        for (name, state, [user, organization, membership, session]) in FILED {
            let (event, began_ms) = (fixture(name), now() * 1_000);
            let webhook = world.webhook(event.to_string());
            assert_eq!(world.post(&webhook).await?.status, 204, "{name}");
            let row = world.row(&webhook).await.expect("a row");
            let id = |prefix: &str, rest: &str| (!rest.is_empty()).then(|| format!("{prefix}_{rest}"));
            assert_eq!((row.event_type.as_str(), row.state.as_str()), (name, state));
            assert_eq!([row.user_id, row.org_id], [id("user", user), id("org", organization)], "{name}");
            assert_eq!([row.membership_id, row.session_id], [id("orgmem", membership), id("sess", session)], "{name}");
            assert_eq!(
                (row.instance_id, row.occurred_at_ms),
                (Some("ins_rollcall_stand_in".into()), event["timestamp"].as_i64())
            );
            assert_eq!((row.deliveries, row.reason, row.next_attempt_at_ms), (1, None, None), "{name}");
            // The database's clock is this machine's.
            assert!((began_ms..began_ms + 10_000).contains(&row.received_at_ms), "{name} {}", row.received_at_ms);
            assert_eq!([row.last_seen_at_ms, row.opened_at_ms], [row.received_at_ms; 2], "{name}");
            let was_applied = state == "applied";
            assert_eq!((row.applied_by.as_deref(), row.attempts), (was_applied.then_some("inline"), i64::from(was_applied)));
            let took_ms = row.applied_at_ms.map(|at_ms| at_ms - row.received_at_ms);
            assert!(took_ms.is_none_or(|ms| (0..5_000).contains(&ms)) && took_ms.is_some() == was_applied, "{name} {took_ms:?}");
        }
        assert_eq!(world.rows().await.len(), FILED.len());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_evicts_whom_it_names_and_is_buried() {
    on_both_databases(Deployment::Redis(1), async |world: &mut World| {
        for user in [ADA, "user_noor", "user_kofi"] {
            world.list(user).await?;
        }
        let reads = |user: &str| world.clerk.calls().of_user(user);
        let before = [ADA, "user_noor", "user_kofi"].map(reads);
        let event = event("organizationMembership.deleted", json!({ "id": 7, "note": "was user_ada's or user_noor's" }));
        let webhook = world.webhook(event.to_string());
        assert_eq!(world.post(&webhook).await?.status, 204);
        for user in [ADA, "user_noor", "user_kofi"] {
            world.list(user).await?;
        }
        let reads = |user: &str| world.clerk.calls().of_user(user);
        let after = [ADA, "user_noor", "user_kofi"].map(reads);
        // Whoever is in use may be read again by themselves too.
        assert!(after[0] > before[0] && after[1] > before[1] && after[2] == before[2], "{before:?} {after:?}");
        let row = world.row(&webhook).await.expect("a row");
        assert_eq!((row.state.as_str(), row.applied_by.as_deref()), ("buried", Some("inline")));
        assert_eq!(row.reason.as_deref(), Some("data that lacks what its type needs"));
        assert_eq!(world.deliveries("unparsable").await?, 1);
        until("the operator is told", async || (world.readiness().await.ok()?.json()["journal"]["dead"] == 1).then_some(()))
            .await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_one_message_at_once_leave_one_row() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        let webhook = world.ada_leaves();
        let answers = join_all((0..16).map(|_| world.post(&webhook))).await;
        for answer in answers {
            assert_eq!(answer?.status, 204);
        }
        let rows = world.rows().await;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].state.as_str(), rows[0].deliveries), ("applied", 16));
        assert_eq!(world.metric("rollcall_duplicate_deliveries_total").await?, Some(15.0));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_of_an_open_message_applies_it() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.origin_lags();
        let webhook = world.ada_leaves();
        // As a node leaves it that died before it applied anything. The worker leaves it alone for fifteen seconds.
        let open = open_message(webhook.header("svix-id"), None);
        assert_eq!(world.journal.record(&open).await?, Recorded::Open { is_repeated: false });
        world.check(ADA, WORKS).await?.is_member();
        assert_eq!(world.post(&webhook).await?.status, 204);
        world.check(ADA, WORKS).await?.is_not_a_member();
        let row = world.row(&webhook).await.expect("a row");
        assert_eq!((row.state.as_str(), row.applied_by.as_deref()), ("applied", Some("inline")));
        assert_eq!((row.deliveries, row.attempts), (2, 2));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_is_applied_again_only_when_it_was_settled_long_ago() {
    on_both_databases(Deployment::Redis(1), async |world: &mut World| {
        let (webhook, before) = (world.ada_leaves(), world.changes());
        for _ in 0..3 {
            assert_eq!(world.post(&webhook).await?.status, 204);
            assert_eq!(world.changes(), before + 1, "applied once");
        }
        assert_eq!(world.deliveries("settled-before").await?, 2);
        world.let_pass(Duration::from_secs(9 * 60)).await;
        assert_eq!(world.post(&webhook).await?.status, 204);
        assert_eq!(world.changes(), before + 1, "after 9 minutes it is a retry whose answer got lost");
        world.let_pass(Duration::from_secs(2 * 60)).await;
        assert_eq!(world.post(&webhook).await?.status, 204);
        assert_eq!(world.changes(), before + 2, "after 11 minutes somebody wants it applied again");
        let row = world.until_state(&webhook, State::Applied).await;
        assert_eq!((row.deliveries, row.attempts), (5, 2));
        assert!(row.opened_at_ms > row.received_at_ms && row.applied_at_ms >= Some(row.opened_at_ms));
        assert_eq!(world.rows().await.len(), 1);
        Ok(())
    })
    .await;
}

impl World {
    /// No node, and so many open messages: `msg_0`, `msg_1` and so on.
    async fn only_open(&mut self, count: u64) -> anyhow::Result<()> {
        self.stop_nodes().await;
        self.journal.record(&open_message("msg_0", None)).await?;
        let more = format!(
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {})
            insert into webhook_messages (message_id, event_type, received_at_ms, last_seen_at_ms, deliveries, state, attempts,
                opened_at_ms, next_attempt_at_ms)
            select 'msg_' || n, event_type, received_at_ms, last_seen_at_ms, deliveries, state, attempts, opened_at_ms,
                next_attempt_at_ms from webhook_messages, numbers",
            count - 1
        );
        assert_eq!(self.sql(&more).await, count - 1);
        Ok(())
    }
}

/// A long outage leaves more than one statement could write in time.
#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_open_messages_is_made_due() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        world.only_open(5_000).await?;
        assert_eq!(world.journal.make_all_due().await?, 5_000);
        assert_eq!(world.journal.claim(Which::Due, 6_000, Duration::from_secs(60)).await?.len(), 5_000);
        Ok(())
    })
    .await;
}

/// What one batch costs must not grow with what is open: it would keep every delivery from being recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_put_off_and_settled_however_much_is_open() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        world.only_open(100_000).await?;
        let batch = 1_000..1_500;
        let id = |number: usize| MessageId::parse(&format!("msg_{number}")).expect("an id");
        let deferred: Vec<_> =
            batch.clone().map(|number| Deferred { id: id(number), retry_in: Duration::from_secs(number as u64) }).collect();
        world.journal.defer(&deferred, "why").await?;
        let row = world.journal.show(&id(1_001)).await?.expect("a row");
        assert_eq!(row.reason.as_deref(), Some("why"));
        assert!(row.next_attempt_at_ms.expect("open") > row.received_at_ms + 900_000, "{row:?}");
        let why = |number: usize| number.is_multiple_of(2).then(|| "unreadable".to_owned());
        let settled: Vec<_> = batch.map(|number| Settled { id: id(number), buried_because: why(number) }).collect();
        world.journal.settle(&settled, AppliedBy::Worker).await?;
        let stats = world.journal.stats().await?;
        assert_eq!((stats.pending, stats.applied, stats.buried), (99_500, 250, 250));
        Ok(())
    })
    .await;
}

/// The sender resends it, or an operator replays it, while a lost history is put back: it was applied all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_opened_again_is_in_the_window_of_what_was_applied() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        world.stop_nodes().await;
        let message = open_message("msg_again", None);
        world.journal.record(&message).await?;
        let settled = [Settled { id: message.id.clone(), buried_because: None }];
        world.journal.settle(&settled, AppliedBy::Inline).await?;
        world.sql("update webhook_messages set applied_at_ms = applied_at_ms - 660000").await;
        assert_eq!(world.journal.record(&message).await?, Recorded::Open { is_repeated: true });
        let mut window = world.journal.window(Duration::from_secs(960)).await?;
        let found = world.journal.applied(&mut window, 10).await?;
        assert_eq!(found.iter().map(|claimed| (&claimed.id, claimed.is_open)).collect::<Vec<_>>(), [(&message.id, true)]);
        world.journal.reaffirm(&settled).await?;
        assert_eq!(world.journal.show(&message.id).await?.expect("a row").applied_by.as_deref(), Some("failover"));
        Ok(())
    })
    .await;
}

/// Whoever is late, the worker or another node, changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_written_once() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        let message = open_message("msg_once", None);
        world.journal.record(&message).await?;
        let settled = |because: Option<&str>| [Settled { id: message.id.clone(), buried_because: because.map(str::to_owned) }];
        world.journal.settle(&settled(None), AppliedBy::Inline).await?;
        let before = world.journal.show(&message.id).await?.expect("a row");
        assert_eq!((before.state.as_str(), before.applied_by.as_deref()), ("applied", Some("inline")));
        let deferred = [Deferred { id: message.id.clone(), retry_in: Duration::from_secs(1) }];
        world.journal.defer(&deferred, "late").await?;
        world.journal.settle(&settled(Some("late")), AppliedBy::Worker).await?;
        world.journal.settle(&settled(None), AppliedBy::Worker).await?;
        assert_eq!(world.journal.make_all_due().await?, 0);
        assert!(world.journal.claim(Which::Probe, 10, Duration::from_secs(1)).await?.is_empty());
        assert_eq!(world.journal.show(&message.id).await?.expect("a row"), before);
        Ok(())
    })
    .await;
}
