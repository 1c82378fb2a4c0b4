//! How long a revocation takes to hold on every node, from the first attempt of its message, under each fault. What is recorded
//! takes effect about two seconds after the fault ends, and nobody waits for the sender's next try; each test prints a row.
//! I2.
//!
//! The origin lags ten minutes, so that nothing but the message brings its effect about.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rollcall::dev::{Faults, Message, Sender};
use rollcall::journal::Filter;
use tokio::time::sleep_until;

use crate::world::asking::crowd;
use crate::world::effect::{Effect, tell, until_refused};
use crate::world::redis_server::RedisServer;
use crate::world::rollcall::Rollcall;
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::sqlite_lock::SqliteLock;
use crate::world::wait::until;
use crate::world::webhooks::{Webhook, now};
use crate::world::wire::{Wire, request};

const WORKS: &str = "harbour-works";
/// Members who leave, one after another.
const LEAVERS: usize = 30;
const APART: Duration = Duration::from_millis(50);
/// When the fault ends, counted from the first message.
const FAULT: Duration = Duration::from_secs(2);
/// After the end of a fault everything holds by then.
const HEALED_WITHIN: Duration = Duration::from_secs(2);
/// The sender's second try comes after five seconds; here after half a second, where it is needed at all.
const NEXT_TRY: Duration = Duration::from_millis(500);

/// How the messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Once, whatever is answered.
    Once,
    /// Once, and nobody waits for the answer.
    Unheard,
    /// Until it is taken: what is not recorded and not confirmed is nobody's but the sender's.
    UntilTaken,
}

impl World {
    /// The members leave one after another; when each message was sent, and when both nodes refused.
    async fn leave(&self, began: Instant, how: Sent) -> Vec<Effect> {
        join_all((0..LEAVERS).map(async |n| {
            sleep_until((began + APART * u32::try_from(n).expect("a few")).into()).await;
            let left = self.change(|clerk| clerk.revoke(&crowd(n), WORKS)).messages.remove(0);
            let sent = Instant::now();
            let send = async {
                match how {
                    Sent::Once => {
                        self.clerk.sender().deliver_now(&left, &self.nodes[0].webhooks()).await;
                    }
                    Sent::Unheard => self.send_unheard(&left).await.expect("it is sent"),
                    Sent::UntilTaken => {
                        while !self.clerk.sender().deliver_now(&left, &self.nodes[0].webhooks()).await.is_taken() {
                            sleep_until((Instant::now() + NEXT_TRY).into()).await;
                        }
                    }
                }
            };
            let user = crowd(n);
            let refused =
                join_all(self.nodes.iter().map(async |node| until_refused(&self.http, &node.url(), &user, WORKS).await));
            let ((), refused) = tokio::join!(send, refused);
            Effect { sent, held: refused.into_iter().max().expect("two nodes") }
        }))
        .await
    }

    async fn send_unheard(&self, message: &Message) -> anyhow::Result<()> {
        let webhook = Webhook::signed_as(&self.clerk.sender().secret(), &message.id, now(), message.body.clone());
        Wire::to(self.nodes[0].address).await?.send(request(&webhook)).await
    }

    /// Both nodes know the members, and the origin goes on showing them.
    async fn get_ready(&self) -> anyhow::Result<()> {
        for node in 0..self.nodes.len() {
            for n in 0..LEAVERS {
                self.check_at(node, &crowd(n), WORKS).await?.is_member();
            }
        }
        self.origin_lags();
        Ok(())
    }

    /// The outcome is written a moment after the effect.
    async fn until_all_applied(&self) {
        until("every message to be applied", async || {
            let rows = self.journal.list(&Filter::default(), 1_000).await.ok()?;
            (rows.len() == LEAVERS && rows.iter().all(|row| row.state == "applied")).then_some(())
        })
        .await;
    }

    /// All is applied, and nothing was delivered more than once.
    async fn expect_no_other_delivery(&self) -> anyhow::Result<()> {
        self.until_all_applied().await;
        let rows = self.journal.list(&Filter::default(), 1_000).await?;
        let odd = rows.iter().find(|row| row.deliveries != 1);
        assert!(odd.is_none(), "{odd:?}");
        Ok(())
    }
}

/// Sends each once, all at the same time; what was answered.
async fn send_all(rollcall: &Rollcall, messages: &[Message]) -> Vec<Option<u16>> {
    let (sender, url) = (rollcall.clerk.sender(), rollcall.webhooks());
    join_all(messages.iter().map(|message| send(sender.clone(), message.clone(), url.clone()))).await
}

async fn send(sender: Sender, message: Message, url: String) -> Option<u16> {
    sender.deliver_now(&message, &url).await.status
}

async fn run_under(fault: impl AsyncFnOnce(&mut World) -> anyhow::Result<()>) {
    run_test(Deployment::Redis(2), Setup::crowded(LEAVERS), async |world: &mut World| {
        world.get_ready().await?;
        fault(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_a_revocation_holds_everywhere_at_once() {
    run_under(async |world| {
        let began = Instant::now();
        let effects = world.leave(began, Sent::Once).await;
        let (_, max) = tell("none", &effects, Instant::now());
        assert!(max < HEALED_WITHIN, "{max:?}");
        world.expect_no_other_delivery().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_after_redis_was_dead_revocations_hold_without_another_delivery() {
    run_under(async |world| {
        let mut redis = world.take_redis();
        redis.kill();
        let began = Instant::now();
        let end = async {
            sleep_until((began + FAULT).into()).await;
            tokio::task::block_in_place(|| redis.restart());
            Instant::now()
        };
        let (effects, ended) = tokio::join!(world.leave(began, Sent::Once), end);
        let (last, _) = tell("Redis dead for 2 s, back empty", &effects, ended);
        assert!(last < ended + HEALED_WITHIN);
        world.expect_no_other_delivery().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_after_redis_was_stalled_revocations_hold_without_another_delivery() {
    run_under(async |world| {
        let redis = world.take_redis();
        redis.pause();
        let began = Instant::now();
        let end = async {
            sleep_until((began + FAULT).into()).await;
            redis.resume();
            Instant::now()
        };
        let (effects, ended) = tokio::join!(world.leave(began, Sent::Once), end);
        let (last, _) = tell("Redis stalled for 2 s", &effects, ended);
        assert!(last < ended + HEALED_WITHIN);
        world.expect_no_other_delivery().await
    })
    .await;
}

/// What cannot be recorded is applied all the same; only the record waits for the sender.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_journal_is_locked_revocations_hold_before_the_lock_is_gone() {
    run_under(async |world| {
        let lock = SqliteLock::take(&world.journal_file()).await;
        let began = Instant::now();
        let end = async {
            sleep_until((began + FAULT * 3).into()).await;
            lock.release().await;
            Instant::now()
        };
        let (effects, ended) = tokio::join!(world.leave(began, Sent::UntilTaken), end);
        let (last, _) = tell("journal locked for 6 s", &effects, ended);
        assert!(last < ended, "nobody waits for the lock");
        world.until_all_applied().await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_answers_are_lost_revocations_hold_all_the_same() {
    run_under(async |world| {
        let began = Instant::now();
        let effects = world.leave(began, Sent::Unheard).await;
        let (_, max) = tell("answers lost", &effects, Instant::now());
        assert!(max < HEALED_WITHIN, "{max:?}");
        world.expect_no_other_delivery().await
    })
    .await;
}

/// What was recorded when the process was killed is applied by its next start; what never reached it comes with the sender's
/// next try.
#[tokio::test(flavor = "multi_thread")]
async fn i2_after_a_kill_revocations_hold_at_the_next_start_or_the_next_try() -> anyhow::Result<()> {
    let mut rollcall = Rollcall::serve_on(RedisServer::start(), Setup::crowded(LEAVERS).clerk, &[]).await;
    for n in 0..LEAVERS {
        rollcall.check(&crowd(n), WORKS).await?.is_member();
    }
    rollcall.clerk.faults().set(Faults { reads_lag_ms: 600_000, ..Faults::default() });
    let leave = |n: usize| rollcall.clerk.world().lock().revoke(&crowd(n), WORKS).map(|mut done| done.messages.remove(0));
    let messages = (0..LEAVERS).map(leave).collect::<Result<Vec<_>, _>>()?;
    let (recorded, missed) = messages.split_at(LEAVERS / 2);

    rollcall.redis.pause();
    let sent = Instant::now();
    let (sender, url) = (rollcall.clerk.sender().clone(), rollcall.webhooks());
    let sending: Vec<_> =
        recorded.iter().map(|message| tokio::spawn(send(sender.clone(), message.clone(), url.clone()))).collect();
    until("all to be recorded", async || {
        let rows = rollcall.journal(async |journal| journal.list(&Filter::default(), 1_000).await).await;
        (rows.len() == recorded.len()).then_some(())
    })
    .await;
    rollcall.kill();
    for sent in sending {
        assert_ne!(sent.await?, Some(204), "Redis does not answer");
    }
    rollcall.redis.resume();
    let missed_at = Instant::now();
    assert!(send_all(&rollcall, missed).await.iter().all(Option::is_none));
    rollcall.start_again();
    let started = Instant::now();

    let look = async |n: usize| until_refused(&rollcall.http, &rollcall.url, &crowd(n), WORKS).await;
    let try_again = async {
        sleep_until((missed_at + NEXT_TRY).into()).await;
        // 503 where Redis takes too long for a crowd at once; the sender comes again.
        until("all to be taken", async || {
            let tried = send_all(&rollcall, missed).await;
            assert!(tried.iter().all(|status| [Some(204), Some(503)].contains(status)), "{tried:?}");
            tried.iter().all(|status| *status == Some(204)).then_some(())
        })
        .await;
    };
    let (held, ()) = tokio::join!(join_all((0..LEAVERS).map(look)), try_again);
    let effect = |held: &Instant, sent| Effect { sent, held: *held };
    let effects: Vec<_> = held[..LEAVERS / 2].iter().map(|held| effect(held, sent)).collect();
    let (last, _) = tell("killed with messages recorded", &effects, started);
    assert!(last < started + HEALED_WITHIN);
    let effects: Vec<_> = held[LEAVERS / 2..].iter().map(|held| effect(held, missed_at)).collect();
    tell("not running when sent; next try after 0.5 s", &effects, started);
    Ok(())
}
