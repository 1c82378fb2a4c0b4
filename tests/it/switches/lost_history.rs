//! What goes wrong without the rules of a lost history: Redis comes back as it was before a change that was acknowledged.

use std::time::Instant;

use rollcall::domain::Moment;
use rollcall::ports::{Doubt, History};

use super::redis::{ADA, STREAM, WORKS, until_after};
use super::{Found, find, wrong};
use crate::world::faulty_link::{FaultyLink, Trouble};
use crate::world::redis_node::{RedisNode, Told, change};
use crate::world::redis_proxy::{RedisProxy, TAIL_ANSWER};
use crate::world::redis_server::RedisServer;
use crate::world::sentinels::Sentinels;
use crate::world::service::{Database, Deployment, Setup, World};
use crate::world::wait::until;

const HISTORY: &str = "{user-orgs:~changes}:history";

impl World {
    /// Somebody who does nothing holds the right to put the history back, also in a snapshot that is taken from now on.
    fn nobody_repairs(&mut self) {
        let taken = self.redis().query(&["SET", "{user-orgs:~changes}:repair", "nobody", "PX", "60000"]);
        assert_eq!(taken, "OK");
    }

    /// A snapshot is taken, the membership ends, and node 0 acknowledges it; then Redis comes back as the snapshot has it.
    async fn lose_a_revocation(&mut self) {
        assert_eq!(self.redis().query(&["SAVE"]), "OK");
        let left = self.change(|clerk| clerk.revoke(ADA, WORKS));
        self.deliver(&left).await;
    }
}

/// All nodes are gone when Redis comes back, so nobody remembers; a node starts, and the history is whole, or said to be.
pub async fn a_start_on_a_redis_set_back() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.lose_a_revocation().await;
        world.stop_nodes().await;
        world.redis().restart();
        assert!(world.redis_still_lists(), "the old value is back");
        world.add_node().await;
        world.until_whole().await;
        // The node is told so by its next question.
        until_after(Instant::now(), world.bounds().staleness / 2).await;
        Ok(wrong(world.still_lists(0).await?, "a node believes the Redis of before the revocation"))
    })
    .await
}

/// The same, and nobody has put anything back yet.
pub async fn a_start_before_the_repair() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.nobody_repairs();
        world.lose_a_revocation().await;
        world.stop_nodes().await;
        world.redis().restart();
        world.add_node().await;
        Ok(wrong(world.still_lists(0).await?, "a node believes the Redis of before the revocation"))
    })
    .await
}

/// An eviction by hand is in no journal. The stream is gone before a node has read it, but not the values: what the node has is no
/// answer until Redis says the same.
pub async fn an_eviction_the_stream_lost() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = RedisProxy::before(world.redis().port());
        world.add_node_behind(&proxy).await;
        assert!(world.still_lists(1).await?);
        proxy.hold(TAIL_ANSWER);
        until("the node to be deaf", async || proxy.is_holding_one().then_some(())).await;
        let acknowledged = world.revoke_and_evict_at(0).await?;
        let since = world.redis().query(&["HGET", HISTORY, "since"]);
        let anew = "redis.call('DEL', KEYS[1]) redis.call('XADD', KEYS[1], '*', 'history', 'x')";
        world.redis().query(&["EVAL", anew, "1", STREAM]);
        until("the loss to be noticed", async || (world.redis_ref().query(&["HGET", HISTORY, "since"]) != since).then_some(()))
            .await;
        world.until_whole().await;
        proxy.release();
        world.until_it_hears(1).await?;
        world.lists_too_late(1, acknowledged).await
    })
    .await
}

/// For a moment two primaries take what two nodes acknowledge; then the node beside the old one comes over.
pub async fn a_node_that_comes_from_a_deposed_primary() -> Found {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    find(Deployment::Bare, setup, async |world: &mut World| {
        let redis = Sentinels::start(1).await;
        let mut links = Vec::new();
        for port in redis.ports() {
            links.push(FaultyLink::to(port).await);
        }
        let hosts: Vec<_> = links.iter().map(|link| format!("127.0.0.1:{}", link.port())).collect();
        world.add_node_on(&redis.url(), 0).await;
        world.add_node_on(&format!("redis+sentinel://{}/main", hosts.join(",")), 0).await;
        world.learn_by_heart(0).await;
        world.learn_by_heart(1).await;
        let breaks = async |node| world.metric_of(node, "rollcall_stream_breaks_total", "").await;
        let before = breaks(1).await;
        let history = |server: usize, field: &str| redis.servers[server].query(&["HGET", HISTORY, field]);
        let old = history(0, "replid");
        // The second node does not hear of it.
        links.iter().for_each(|link| link.trouble(Trouble::Cut));
        let promoted = redis.fail_over().await;
        let is_whole = || history(promoted, "replid") != old && history(promoted, "whole") == "1";
        until("the first node to be there", async || is_whole().then_some(())).await;
        world.learn_by_heart(0).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.deliver_to(1, &left).await[0].status, Some(204), "the old primary took it");
        links.iter().for_each(FaultyLink::heal);
        until("the second node to come over", async || (breaks(1).await > before).then_some(())).await;
        until_after(Instant::now(), world.bounds().staleness * 2).await;
        Ok(wrong(world.still_lists(0).await?, "what the old primary acknowledged is nowhere else"))
    })
    .await
}

/// A node that hears nothing is asking the origin, and has its answer from before; then Redis is lost, with the lease from
/// before.
pub async fn a_flight_from_before() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let link = FaultyLink::to(world.redis().port()).await;
        let url = link.url();
        world.add_node_with(|config| config.redis_url = Some(url.into())).await;
        world.nobody_repairs();
        let slow = world.clerk.hold_next_answer_about(ADA);
        let reading = world.begin_list(1, ADA);
        slow.reached().await?;
        link.trouble(Trouble::Stalled);
        world.lose_a_revocation().await;
        world.redis().restart();
        link.heal();
        until("the node to notice", async || (world.metric_of(1, "rollcall_stream_breaks_total", "").await >= 1.0).then_some(()))
            .await;
        world.until_it_hears(1).await?;
        slow.release();
        reading.answer().await?;
        let still = world.still_lists(1).await? || world.redis_still_lists();
        Ok(wrong(still, "a reading from before the loss landed after it"))
    })
    .await
}

/// What was put back after the first loss says nothing of the second.
pub async fn a_second_loss() -> Found {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    let history = node.redis.history();
    let doubt_but = async |known: Option<&Doubt>| {
        until("a doubt", async || history.doubts().borrow().clone().filter(|doubt| Some(doubt) != known)).await
    };
    let first = doubt_but(None).await;
    server.query(&["FLUSHALL"]);
    doubt_but(Some(&first)).await;
    assert!(history.hold().await.expect("an answer"), "nobody else is at it");
    wrong(history.make_whole(&first).await.expect("an answer"), "a history that was lost once more is called whole")
}

/// What was put back, and the word that all of it was, come in one answer.
pub async fn an_answer_that_lifts_doubt() -> Found {
    let server = RedisServer::start();
    let node = RedisNode::started(&server.url()).await;
    until("doubt", async || node.heard.doubt().filter(|doubt| *doubt > Moment::ZERO)).await;
    let entry = serde_json::to_string(&change(7)).expect("it serialises");
    let both = format!("redis.call('HSET', '{HISTORY}', 'whole', '1') redis.call('XADD', '{STREAM}', '*', 'change', '{entry}')");
    server.query(&["EVAL", &both, "0"]);
    until("both", async || (node.heard.doubt() == Some(Moment::ZERO) && !node.heard.users().is_empty()).then_some(())).await;
    let told = node.heard.all();
    let applied = told.iter().position(|told| matches!(told, Told::Applied(..)));
    let lifted = told.iter().rposition(|told| *told == Told::Doubt(Moment::ZERO));
    wrong(lifted < applied, "older readings are trusted before what was put back is applied")
}
