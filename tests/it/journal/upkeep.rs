//! What is deleted, and when: settled messages by age, in small batches; never what is open, and never what a lost history
//! would be put back from.

use std::time::Duration;

use rollcall::ports::{Journal, Recorded, Retention};

use super::{ADA, on_both_databases, open_message};
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::wait::until;

const DAY: Duration = Duration::from_secs(24 * 3600);
const KEEP: Retention = Retention { settled: Duration::from_secs(30 * 24 * 3600), buried: Duration::from_secs(180 * 24 * 3600) };

impl World {
    /// So many messages in this state, last seen so long ago.
    async fn settled(&self, count: usize, state: &str, age: Duration) {
        let ms = age.as_millis();
        for number in 0..count {
            let id = format!("msg_{state}_{}_{number}", age.as_secs());
            let recorded = self.journal.record(&open_message(&id, None)).await.expect("the journal answers");
            assert_eq!(recorded, Recorded::Open { is_repeated: false });
        }
        let applied_at = if state == "ignored" { "null" } else { "last_seen_at_ms" };
        let ids = format!("msg_{state}_{}_", age.as_secs());
        self.sql(&format!(
            "update webhook_messages set state = '{state}', last_seen_at_ms = last_seen_at_ms - {ms}, next_attempt_at_ms = null
            where message_id like '{ids}%'"
        ))
        .await;
        self.sql(&format!("update webhook_messages set applied_at_ms = {applied_at} where message_id like '{ids}%'")).await;
    }

    /// How many are left of each kind made above.
    async fn left(&self, state: &str, age: Duration) -> usize {
        let ids = format!("msg_{state}_{}_", age.as_secs());
        self.rows().await.iter().filter(|row| row.message_id.starts_with(&ids)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_messages_are_deleted_in_small_batches_and_open_ones_never() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        for state in ["applied", "ignored"] {
            world.settled(60, state, DAY * 31).await;
            world.settled(5, state, DAY * 29).await;
        }
        world.settled(5, "buried", DAY * 179).await;
        world.settled(5, "buried", DAY * 181).await;
        world.settled(5, "pending", DAY * 1_000).await;
        let mut batches = Vec::new();
        while batches.last() != Some(&0) {
            batches.push(world.journal.prune(KEEP, 50).await?);
        }
        assert_eq!(batches, [50, 50, 25, 0]);
        for (state, age, count) in [
            ("applied", DAY * 31, 0),
            ("ignored", DAY * 31, 0),
            ("applied", DAY * 29, 5),
            ("ignored", DAY * 29, 5),
            ("buried", DAY * 179, 5),
            ("buried", DAY * 181, 0),
            ("pending", DAY * 1_000, 5),
        ] {
            assert_eq!(world.left(state, age).await, count, "{state} {age:?}");
        }
        Ok(())
    })
    .await;
}

/// It was asked for again, or was open for long: what it made true a moment ago may be needed once more.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_old_message_that_was_applied_just_now_is_kept() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        // It deletes what is old when it starts.
        world.stop_nodes().await;
        world.settled(2, "applied", DAY * 40).await;
        let now = "applied_at_ms = applied_at_ms + 40 * cast(86400000 as bigint)";
        assert_eq!(world.sql(&format!("update webhook_messages set {now} where message_id like '%_0'")).await, 1);
        assert_eq!(world.journal.prune(KEEP, 50).await?, 1);
        assert_eq!(world.left("applied", DAY * 40).await, 1);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_deletes_old_messages_when_it_starts() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        world.ada_leaves_and_is_told().await?;
        world.stop_nodes().await;
        world.settled(20, "applied", DAY * 31).await;
        world.add_node().await;
        until("old messages to be deleted", async || (world.left("applied", DAY * 31).await == 0).then_some(())).await;
        let rows = world.rows().await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].user_id.as_deref(), Some(ADA));
        until("it to be counted", async || {
            (world.metric("rollcall_journal_pruned_total").await.ok()? == Some(20.0)).then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

impl World {
    async fn ada_leaves_and_is_told(&self) -> anyhow::Result<()> {
        let webhook = self.ada_leaves();
        assert_eq!(self.post(&webhook).await?.status, 204);
        Ok(())
    }
}

/// Somebody opens an old message again while the prune has already seen that it is settled.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_opened_again_is_not_deleted() {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        world.stop_nodes().await;
        world.settled(3, "applied", DAY * 31).await;
        let database = world.database().await;
        let mut opening = database.begin().await?;
        let open = "update webhook_messages set state = 'pending' where message_id like 'msg_applied_%_1'";
        assert_eq!(sqlx::query(open).execute(&mut *opening).await?.rows_affected(), 1);
        let pruned = world.journal.prune(KEEP, 50).await?;
        opening.commit().await?;
        assert_eq!(pruned, 2);
        assert_eq!(world.rows().await.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["pending"]);
        Ok(())
    })
    .await;
}
