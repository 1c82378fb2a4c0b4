//! The process is killed (SIGKILL) at each point of a webhook's way: before it is recorded, before it is applied, before its
//! outcome is written, before the answer arrives. Started again, it has lost nothing that it acknowledged, and what it did
//! not acknowledge is right as soon as it is sent again. I2, I3.
//!
//! No point is built into the product: the test holds SQLite's lock or stops Redis, sees that the way was gone so far, and
//! kills. The origin lags ten minutes, so that nothing but the message brings its effect about.

use std::time::{Duration, SystemTime};

use rollcall::dev::{Delivery, Faults, Message, World as ClerkWorld};
use rollcall::domain::MessageId;
use rollcall::journal::Row;
use tokio::task::JoinHandle;

use crate::world::redis_server::RedisServer;
use crate::world::rollcall::Rollcall;
use crate::world::sqlite_lock::SqliteLock;
use crate::world::wait::until;
use crate::world::webhooks::Webhook;
use crate::world::wire::{Wire, request};

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";
/// What was open at a start is applied by then.
const HEALED_WITHIN: Duration = Duration::from_secs(5);

/// Ada has left the works. Only the message says so, and nobody has heard it.
struct Scene {
    rollcall: Rollcall,
    left: Message,
    /// Entries that the stream began with.
    entries_before: u64,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        Self::set_with(&[]).await
    }

    async fn set_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let rollcall = Rollcall::serve_on(RedisServer::start(), ClerkWorld::small(), settings).await;
        rollcall.check(ADA, WORKS).await?.is_member();
        rollcall.clerk.faults().set(Faults { reads_lag_ms: 600_000, ..Faults::default() });
        let mut left = rollcall.clerk.world().lock().revoke(ADA, WORKS)?.messages;
        let mut scene = Self { rollcall, left: left.remove(0), entries_before: 0 };
        scene.entries_before = scene.entries();
        Ok(scene)
    }

    /// Begins to deliver the message.
    fn begin(&self) -> JoinHandle<Delivery> {
        let (sender, left, url) = (self.rollcall.clerk.sender().clone(), self.left.clone(), self.rollcall.webhooks());
        tokio::spawn(async move { sender.deliver_now(&left, &url).await })
    }

    /// Delivers it once more; it must be taken.
    async fn deliver(&self) {
        let delivery = self.rollcall.clerk.sender().deliver_now(&self.left, &self.rollcall.webhooks()).await;
        assert_eq!(delivery.status, Some(204), "{delivery:?}");
    }

    /// Its row, if it is recorded.
    async fn row(&self) -> Option<Row> {
        let id = MessageId::parse(&self.left.id).expect("an id");
        self.rollcall.journal(async |journal| journal.show(&id).await).await
    }

    async fn until_recorded(&self) -> Row {
        until("the message to be recorded", async || self.row().await).await
    }

    /// How often the change was appended to the stream.
    fn entries(&self) -> u64 {
        let entries: u64 = self.rollcall.redis.query(&["XLEN", "user-orgs:~changes"]).parse().expect("a number");
        entries - self.entries_before
    }

    /// A message that is applied, and whose outcome waits for the lock that is given too. Redis is stopped until the lock is
    /// held; on a busy machine the delivery may give it up before, and the scene is set anew.
    async fn applied_and_not_settled() -> anyhow::Result<(Self, JoinHandle<Delivery>, SqliteLock)> {
        for _ in 0..5 {
            let scene = Self::set().await?;
            scene.rollcall.redis.pause();
            let delivering = scene.begin();
            scene.until_recorded().await;
            let lock = SqliteLock::take(&scene.rollcall.journal_file()).await;
            scene.rollcall.redis.resume();
            let is_over = async || (scene.entries() == 1 || delivering.is_finished()).then_some(());
            until("the entry of the change", is_over).await;
            if scene.entries() == 1 {
                return Ok((scene, delivering, lock));
            }
            lock.release().await;
        }
        anyhow::bail!("the delivery never waited for Redis")
    }

    /// Started then, it has applied by now what was open.
    async fn expect_applied_at_start(&self, began: SystemTime) -> Row {
        let row = until("what was open to be applied", async || self.row().await.filter(|row| row.state != "pending")).await;
        let took = began.elapsed().expect("time goes on");
        assert!(took <= HEALED_WITHIN, "{took:?}");
        assert_eq!((row.state.as_str(), row.deliveries), ("applied", 1), "{row:?}");
        row
    }

    async fn expect_left(&self) -> anyhow::Result<()> {
        // A start is ready once it has read the stream; until then it may ask a lagging origin, under what it knows so far.
        self.rollcall.until_ready().await;
        self.rollcall.check(ADA, WORKS).await?.is_not_a_member();
        Ok(())
    }
}

/// Nothing was answered: the sender must try again.
async fn expect_unanswered(delivering: JoinHandle<Delivery>) -> anyhow::Result<()> {
    let delivery = delivering.await?;
    assert_eq!(delivery.status, None, "{delivery:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_killed_before_the_record_nothing_was_acknowledged_and_the_next_delivery_does_all() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    let lock = SqliteLock::take(&scene.rollcall.journal_file()).await;
    let delivering = scene.begin();
    until("the delivery to wait for its record", async || {
        let at = scene.rollcall.metric("rollcall_last_verified_message_timestamp_seconds").await.ok()?;
        (at > 0).then_some(())
    })
    .await;
    scene.rollcall.kill();
    expect_unanswered(delivering).await?;
    lock.release().await;
    assert_eq!((scene.row().await, scene.entries()), (None, 0));
    scene.rollcall.start_again();
    scene.rollcall.until_ready().await;
    scene.rollcall.check(ADA, WORKS).await?.is_member();
    scene.deliver().await;
    scene.expect_left().await?;
    let row = scene.until_recorded().await;
    assert_eq!((row.state.as_str(), row.applied_by.as_deref(), row.deliveries), ("applied", Some("inline"), 1), "{row:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_killed_before_it_is_applied_a_recorded_message_is_applied_at_the_next_start() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    scene.rollcall.redis.pause();
    let delivering = scene.begin();
    assert_eq!(scene.until_recorded().await.state, "pending");
    scene.rollcall.kill();
    // Or told, just before the end, that it could not be confirmed.
    assert_ne!(delivering.await?.status, Some(204));
    scene.rollcall.redis.resume();
    assert_eq!((scene.row().await.expect("it was recorded").state.as_str(), scene.entries()), ("pending", 0));
    let began = scene.rollcall.start_again();
    assert_eq!(scene.expect_applied_at_start(began).await.applied_by.as_deref(), Some("boot"));
    scene.expect_left().await?;
    // The sender, who heard nothing, tries again.
    scene.deliver().await;
    assert_eq!((scene.entries(), scene.until_recorded().await.deliveries), (1, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_killed_before_its_outcome_is_written_an_applied_message_is_applied_once_more() -> anyhow::Result<()> {
    let (mut scene, delivering, lock) = Scene::applied_and_not_settled().await?;
    scene.rollcall.kill();
    expect_unanswered(delivering).await?;
    lock.release().await;
    assert_eq!(scene.row().await.expect("it was recorded").state, "pending");
    let began = scene.rollcall.start_again();
    scene.expect_applied_at_start(began).await;
    assert_eq!(scene.entries(), 2, "twice is once");
    scene.expect_left().await
}

/// The sender is not kept waiting for the outcome to be written down, and it need not be: what is open is applied again.
#[tokio::test(flavor = "multi_thread")]
async fn i2_an_acknowledged_message_whose_outcome_could_not_be_written_is_applied_at_the_next_start() -> anyhow::Result<()> {
    let (mut scene, delivering, lock) = Scene::applied_and_not_settled().await?;
    assert_eq!(delivering.await?.status, Some(204));
    scene.rollcall.kill();
    lock.release().await;
    assert_eq!(scene.row().await.expect("it was recorded").state, "pending");
    let began = scene.rollcall.start_again();
    scene.expect_applied_at_start(began).await;
    scene.expect_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_killed_before_the_answer_arrives_a_settled_message_is_not_applied_again() -> anyhow::Result<()> {
    let mut scene = Scene::set().await?;
    let webhook = Webhook::signed_as(
        &scene.rollcall.clerk.sender().secret(),
        &scene.left.id,
        crate::world::webhooks::now(),
        scene.left.body.clone(),
    );
    // Whatever is answered, nobody reads it.
    let mut wire = Wire::to(scene.rollcall.url.trim_start_matches("http://").parse()?).await?;
    wire.send(request(&webhook)).await?;
    until("the message to be settled", async || scene.row().await.filter(|row| row.state == "applied")).await;
    scene.rollcall.kill();
    drop(wire);
    scene.rollcall.start_again();
    scene.expect_left().await?;
    scene.deliver().await;
    let row = scene.until_recorded().await;
    assert_eq!((row.state.as_str(), row.deliveries, scene.entries()), ("applied", 2, 1), "{row:?}");
    Ok(())
}

/// Without Redis what was acknowledged lives in the journal alone.
#[tokio::test(flavor = "multi_thread")]
async fn i2_killed_without_redis_what_was_acknowledged_is_remembered_from_the_journal() -> anyhow::Result<()> {
    let mut scene = Scene::set_with(&[("REDIS_URL", "")]).await?;
    scene.deliver().await;
    scene.rollcall.kill();
    scene.rollcall.start_again();
    scene.rollcall.check(ADA, WORKS).await?.is_not_a_member();
    scene.expect_left().await
}
