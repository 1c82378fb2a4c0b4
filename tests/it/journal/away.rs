//! The journal locked, full, or away: nothing is acknowledged, "yes" ends all the same, and it is told. I2.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, ready};
use futures_util::{StreamExt, stream};
use rollcall::journal::{Settings, Sharing, SqlJournal, State};
use rollcall::ports::Journal;
use sqlx::Executor;
use tokio::runtime::Handle;

use super::{ADA, WORKS, expect_unavailable, open_message};
use crate::world::postgres::Postgres;
use crate::world::served::Served;
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::silent_proxy::SilentProxy;
use crate::world::wait::until;

/// The journal has so many connections to Postgres.
const CONNECTIONS_MAX: usize = 16;
/// Longer than the journal may take to say that it cannot, which is two seconds, also on a busy machine.
const TOLD: Duration = Duration::from_secs(4);

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
        world.until_whole().await;
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

/// The machine of the database loses its power, and another takes its address: nothing ever comes back on the connections
/// from before, least of all an end.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_postgres_that_went_silent_are_given_up() {
    let postgres = Postgres::start();
    let proxy = SilentProxy::before(postgres.port());
    let settings = Settings { url: postgres.url_at(proxy.port()).into(), io: Handle::current() };
    let journal = SqlJournal::open(settings, Sharing::Nodes).await.expect("a journal");
    let messages: Vec<_> = (0..20_000).map(|number| open_message(&format!("msg_{number}"), None)).collect();
    let is_over = AtomicBool::new(false);
    // All the journal's connections are in use, each in the middle of something, when they go silent.
    let records = stream::iter(&messages)
        .take_while(|_| ready(!is_over.load(Ordering::Relaxed)))
        .map(|message| journal.record(message))
        .buffer_unordered(64)
        .map(|recorded| {
            if recorded.is_ok() && proxy.connections() >= CONNECTIONS_MAX && !is_over.swap(true, Ordering::Relaxed) {
                proxy.silence();
            }
            recorded.is_err()
        });
    let failed = records.filter(|is_error| ready(*is_error)).count().await;
    assert!(failed > CONNECTIONS_MAX / 2, "{failed} were under way");
    // Not some of them: those that nobody gives up would be missing for as long as the network keeps them.
    until("all connections to be made anew", async || {
        let records: Vec<_> = messages.iter().take(64).map(|message| journal.record(message)).collect();
        join_all(records).await;
        (proxy.connections() >= 2 * CONNECTIONS_MAX).then_some(())
    })
    .await;
    assert!(journal.record(&messages[0]).await.is_ok());
}
