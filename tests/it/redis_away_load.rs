//! Redis away for seconds under a hundred webhooks a second: every one is recorded, none is refused for want of room, and when
//! Redis is back all are applied within two seconds, without one more delivery. I2, I12.
//!
//! Three seconds in the ordinary run; `ROLLCALL_TEST_AWAY_SECONDS=30 cargo test --test it redis_away_load` asks for more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rollcall::journal::{Filter, State};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::world::crowd::Crowd;
use crate::world::dice::Dice;
use crate::world::redis_server::RedisServer;
use crate::world::rollcall::Rollcall;
use crate::world::wait::until;
use crate::world::webhooks::{Webhook, now};

/// Ten milliseconds apart: a hundred a second.
const APART: Duration = Duration::from_millis(10);
/// The load before Redis goes.
const BEFORE: Duration = Duration::from_millis(300);
/// After Redis is back everything is applied by then.
const HEALED_WITHIN: Duration = Duration::from_secs(2);
/// How long the default node may be behind.
const BOUND: Duration = Duration::from_secs(1);
const ALL: u32 = 1_000_000;

/// How Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// Killed, and started again with what it had.
    Killed,
    /// Stopped where it stood, and let go on.
    Stalled,
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_what_came_while_redis_was_dead_is_applied_within_two_seconds_of_its_return() -> anyhow::Result<()> {
    run(Away::Killed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_what_came_while_redis_was_stalled_is_applied_within_two_seconds_of_its_return() -> anyhow::Result<()> {
    run(Away::Stalled).await
}

async fn run(away: Away) -> anyhow::Result<()> {
    let seconds = std::env::var("ROLLCALL_TEST_AWAY_SECONDS").map_or(3, |text| text.parse().expect("a number"));
    let (crowd, mut dice) = (Crowd::of(100, 9), Dice::new(5));
    // What it wrote is on disk when it is killed.
    let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut rollcall = Rollcall::serve_on(redis, crowd.world(&mut dice), &[]).await;
    crowd.warm(&rollcall).await;
    let mut load = Load::default();
    load.send_for(BEFORE, &rollcall, &crowd, &mut dice).await;
    match away {
        Away::Killed => rollcall.redis.kill(),
        Away::Stalled => rollcall.redis.pause(),
    }
    load.send_for(Duration::from_secs(seconds), &rollcall, &crowd, &mut dice).await;
    match away {
        Away::Killed => tokio::task::block_in_place(|| rollcall.redis.restart()),
        Away::Stalled => rollcall.redis.resume(),
    }
    let back = Instant::now();
    let open = Filter { states: vec![State::Pending], ..Filter::default() };
    until("everything to be applied", async || {
        rollcall.journal(async |journal| journal.list(&open, 1).await).await.is_empty().then_some(())
    })
    .await;
    let healed = back.elapsed();
    let answers = load.answers().await?;
    let rows = rollcall.journal(async |journal| journal.list(&Filter::default(), ALL).await).await;
    let by = |who: &str| rows.iter().filter(|row| row.applied_by.as_deref() == Some(who)).count();
    println!(
        "{away:?} for {seconds} s: {} webhooks, answered {answers:?}; all applied {healed:?} after its return, {} by the worker, {} by the repair",
        load.ids,
        by("worker"),
        by("failover")
    );
    assert_eq!(rows.len(), load.ids, "every one is recorded");
    let odd = rows.iter().find(|row| row.deliveries != 1 || row.state != "applied");
    assert!(odd.is_none(), "not applied, or delivered again: {odd:?}");
    assert!(healed <= HEALED_WITHIN, "{healed:?}");
    assert!(answers.keys().all(|status| [204, 503].contains(status)) && answers.len() == 2, "{answers:?}");
    until("the bound to pass", async || (back.elapsed() > healed + BOUND).then_some(())).await;
    rollcall.until_ready().await;
    crowd.expect_the_truth(&rollcall).await;
    Ok(())
}

/// Webhooks, each delivered once and never again.
#[derive(Default)]
struct Load {
    under_way: JoinSet<anyhow::Result<u16>>,
    ids: usize,
}

impl Load {
    /// Something happens every ten milliseconds, and its webhook is sent at once.
    async fn send_for(&mut self, length: Duration, rollcall: &Rollcall, crowd: &Crowd, dice: &mut Dice) {
        let (began, mut ticks) = (Instant::now(), interval(APART));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while began.elapsed() < length {
            ticks.tick().await;
            for message in crowd.change(rollcall.clerk.world(), dice).messages {
                let webhook = Webhook::signed_as(&rollcall.clerk.sender().secret(), &message.id, now(), message.body);
                let mut request = rollcall.http.post(rollcall.webhooks()).header("content-type", "application/json");
                for (name, value) in &webhook.headers {
                    request = request.header(name, value);
                }
                self.under_way.spawn(async move { Ok(request.body(webhook.body).send().await?.status().as_u16()) });
                self.ids += 1;
            }
        }
    }

    /// How many got which answer, when all have one.
    async fn answers(&mut self) -> anyhow::Result<BTreeMap<u16, usize>> {
        let mut answers = BTreeMap::new();
        while let Some(status) = self.under_way.join_next().await {
            *answers.entry(status??).or_default() += 1;
        }
        Ok(answers)
    }
}
