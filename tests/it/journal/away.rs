//! The journal locked, full, or away: nothing is acknowledged, "yes" ends all the same, and it is told. I2.

use std::time::{Duration, Instant};

use rollcall::journal::State;
use sqlx::Executor;

use super::{ADA, WORKS, expect_unavailable};
use crate::world::served::Served;
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::wait::until;

/// Longer than the journal may take to say that it cannot.
const TOLD: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_locked_file_is_503_and_the_change_holds_all_the_same() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.origin_lags();
        let webhook = world.ada_leaves();
        let database = world.database().await;
        let mut locking = database.acquire().await?;
        locking.execute("begin immediate").await?;
        let began = Instant::now();
        expect_unavailable(&world.post(&webhook).await?, "journal-unavailable");
        assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
        world.check(ADA, WORKS).await?.is_not_a_member();
        let told = world.until_status("degraded").await;
        assert_eq!(told["journal"]["status"], "unavailable");
        locking.execute("rollback").await?;
        assert_eq!(world.post(&webhook).await?.status, 204);
        world.until_state(&webhook, State::Applied).await;
        world.until_status("ready").await;
        drop(locking);
        database.close().await;
        Ok(())
    })
    .await;
}

/// A limit on the size of files, which fails writes like a full disk and needs no disk of its own.
#[tokio::test(flavor = "multi_thread")]
async fn i2_a_full_disk_is_503_until_there_is_room() {
    let served = Served::alone_with_files_of_at_most(1 << 20).await;
    served.check(ADA, WORKS).await.is_member();
    let mut refused = None;
    for number in 0..2_000 {
        let webhook = served.webhook_of("user.created", &format!("user_{number}"));
        let answer = served.post(&webhook).await;
        if answer.status != 204 {
            expect_unavailable(&answer, "journal-unavailable");
            refused = Some(webhook);
            break;
        }
    }
    let refused = refused.expect("the disk is full in the end");
    served.clerk.faults().set(rollcall::dev::Faults { reads_lag_ms: 600_000, ..Default::default() });
    let left = served.clerk.world().lock().revoke(ADA, WORKS).expect("she was in");
    let webhook = served.webhook(left.messages[0].body.clone());
    expect_unavailable(&served.post(&webhook).await, "journal-unavailable");
    served.check(ADA, WORKS).await.is_not_a_member();
    served.until_status("degraded").await;
    served.lift_the_limit();
    for webhook in [&refused, &webhook] {
        until("it to be taken", async || (served.post(webhook).await.status == 204).then_some(())).await;
    }
    served.until_status("ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_postgres_away_is_503_until_it_is_back() {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Redis(1), setup, async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.origin_lags();
        world.postgres().stop();
        let webhook = world.ada_leaves();
        let began = Instant::now();
        expect_unavailable(&world.post(&webhook).await?, "journal-unavailable");
        assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
        world.check(ADA, WORKS).await?.is_not_a_member();
        let told = world.until_status("degraded").await;
        assert_eq!(told["journal"]["status"], "unavailable");
        assert!(world.deliveries("unrecorded").await? > 0);
        world.postgres().restart();
        // Connections from before are found broken before anybody waits for them.
        assert_eq!(world.post(&webhook).await?.status, 204);
        let told = world.until_status("ready").await;
        assert_eq!(told["journal"]["status"], "available");
        let row = world.until_state(&webhook, State::Applied).await;
        assert_eq!((row.deliveries, row.applied_by.as_deref()), (1, Some("inline")));
        Ok(())
    })
    .await;
}
