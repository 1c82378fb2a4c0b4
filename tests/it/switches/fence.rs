//! What goes wrong without the rules of the fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rollcall::clock;
use rollcall::domain::{Change, Moment};
use rollcall::ports::{Break, StreamSink};

use super::redis::{ADA, STREAM, WORKS};
use super::{Found, find};
use crate::world::redis_node::{RedisNode, change, connect, user};
use crate::world::redis_proxy::{RedisProxy, TAIL_ANSWER};
use crate::world::redis_server::RedisServer;
use crate::world::service::{Deployment, Setup, World};
use crate::world::wait::until;

/// The answer is slow, and an append is confirmed before it arrives: it does not vouch for that.
pub async fn an_append_during_an_answer() -> Found {
    let server = RedisServer::start();
    let proxy = RedisProxy::before(server.port());
    let (slow, quick) = (RedisNode::started(&proxy.url()).await, RedisNode::started(&server.url()).await);
    for n in 0..10 {
        proxy.hold(TAIL_ANSWER);
        until("a slow answer", async || proxy.is_holding_one().then_some(())).await;
        quick.append(&change(n)).await;
        let confirmed = clock::now();
        proxy.release();
        vouched_for(&slow, confirmed).await;
        if !slow.heard.users().contains(&user(n).to_string()) {
            return Some("the fence vouches for a change that is not applied".to_owned());
        }
    }
    None
}

/// Looks without a pause until the fence has passed this moment.
async fn vouched_for(node: &RedisNode, moment: Moment) {
    let begun = Instant::now();
    while node.fence_at() < moment {
        assert!(begun.elapsed() < Duration::from_secs(10), "the fence stands still");
        tokio::task::yield_now().await;
    }
}

/// Takes its time for a change, until told to go on.
#[derive(Default)]
struct Slow {
    is_held: AtomicBool,
    is_at_it: AtomicBool,
}

impl StreamSink for Slow {
    fn apply(&self, _: &Change, _: Moment) {
        self.is_at_it.store(true, Ordering::Release);
        tokio::task::block_in_place(|| {
            while self.is_held.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        self.is_at_it.store(false, Ordering::Release);
    }

    fn apply_unreadable(&self) {}

    fn broke(&self, _: Break) {}

    fn doubt_before(&self, _: Moment) {}

    fn missed_before(&self, _: Moment) {}
}

/// The question may have been sent before the append was confirmed, and then vouches for nothing; so there are several tries.
pub async fn an_entry_that_takes_its_time() -> Found {
    let server = RedisServer::start();
    let (other, redis) = (RedisNode::started(&server.url()).await, connect(&server.url()).await.expect("a Redis"));
    let (sink, fence) = (Arc::new(Slow::default()), redis.fence());
    redis.spawn_tail(sink.clone(), "a-journal");
    for n in 0..10 {
        sink.is_held.store(true, Ordering::Release);
        other.append(&change(n)).await;
        let confirmed = clock::now();
        until("the entry", async || sink.is_at_it.load(Ordering::Acquire).then_some(())).await;
        let is_vouched_for = fence.load(clock::now()) >= confirmed;
        sink.is_held.store(false, Ordering::Release);
        until("its end", async || (!sink.is_at_it.load(Ordering::Acquire)).then_some(())).await;
        if is_vouched_for {
            return Some("the fence vouches for a change that is being applied".to_owned());
        }
    }
    None
}

pub async fn more_entries_than_a_page() -> Found {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let add = r#"for n = 0, 4999 do redis.call('XADD', KEYS[1], '*', 'change', '{"kind":"userCreated","user":"user_' .. n .. '"}') end"#;
    server.query(&["EVAL", add, "1", STREAM]);
    vouched_for(&node, clock::now()).await;
    let applied = node.heard.users().len();
    (applied < 5_000).then(|| format!("the fence vouches for 5000 changes, and {applied} are applied"))
}

/// A node does not look for a moment, and what it has not read is gone.
pub async fn a_stream_trimmed_past_a_node() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = RedisProxy::before(world.redis().port());
        world.add_node_behind(&proxy).await;
        assert!(world.still_lists(1).await?);
        proxy.hold(TAIL_ANSWER);
        until("the node to be deaf", async || proxy.is_holding_one().then_some(())).await;
        let acknowledged = world.revoke_and_evict_at(0).await?;
        world.redis().query(&["XTRIM", STREAM, "MAXLEN", "0"]);
        proxy.release();
        world.until_it_hears(1).await?;
        world.lists_too_late(1, acknowledged).await
    })
    .await
}

/// The same, of an organization's end: no value is voided by it, and Redis holds one from before.
pub async fn a_stream_trimmed_past_an_end() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = RedisProxy::before(world.redis().port());
        world.add_node_behind(&proxy).await;
        assert!(world.still_lists(0).await?);
        proxy.hold(TAIL_ANSWER);
        until("the node to be deaf", async || proxy.is_holding_one().then_some(())).await;
        world.clerk.world().lock().set_cascades(false);
        let gone = world.change(|clerk| clerk.delete_organization(WORKS));
        world.deliver(&gone).await;
        let acknowledged = Instant::now();
        world.redis().query(&["XTRIM", STREAM, "MAXLEN", "0"]);
        proxy.release();
        world.until_it_hears(1).await?;
        world.lists_too_late(1, acknowledged).await
    })
    .await
}

/// A node of a later release says something that this one cannot read.
pub async fn an_entry_nobody_can_read() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.redis().query(&["DEL", "user-orgs:user_ada", "{user-orgs:user_ada}:guard"]);
        world.redis().query(&["XADD", STREAM, "*", "change", r#"{"kind":"ofALaterRelease","user":"user_ada"}"#]);
        let acknowledged = Instant::now();
        world.lists_too_late(0, acknowledged).await
    })
    .await
}

impl World {
    /// Waits until node `number` reads the stream to its end, again.
    pub async fn until_it_hears(&self, number: usize) -> anyhow::Result<()> {
        let http = &self.http;
        let url = format!("{}/readyz", self.nodes[number].url());
        until("the node to hear", async || {
            let answer = http.get(&url).bearer_auth(crate::world::service::ADMIN_KEY).send().await.ok()?;
            let told: serde_json::Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
            let stream = &told["stream"];
            (stream["isContinuous"] == true && stream["lagMs"].as_u64()? < 200).then_some(())
        })
        .await;
        Ok(())
    }
}
