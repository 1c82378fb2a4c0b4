//! What goes wrong without the rules of a lost history: Redis comes back as it was before a change that was acknowledged.

use std::time::Instant;

use rollcall::dev::Done;
use rollcall::ports::{Doubt, History};

use super::redis::{ADA, HISTORY, STREAM, WORKS, until_after};
use super::{Found, judged};
use crate::topologies::deposed::part_unheard;
use crate::world::faulty_link::{FaultyLink, Trouble};
use crate::world::redis_node::RedisNode;
use crate::world::service::{Database, Deployment, Setup, World};
use crate::world::slow_log::SlowLog;
use crate::world::wait::until;

impl World {
    /// Somebody who does nothing holds the right to put the history back, also in a snapshot that is taken from now on; no longer
    /// than any right lasts, or it would be taken over.
    fn nobody_repairs(&mut self) {
        let taken = self.redis().query(&["SET", "{user-orgs:~changes}:repair", "nobody", "PX", "10000"]);
        assert_eq!(taken, "OK");
    }

    /// A snapshot is taken, the membership ends, and node 0 acknowledges it; then Redis comes back as the snapshot has it.
    async fn lose_a_revocation(&mut self) -> Done {
        assert_eq!(self.redis().query(&["SAVE"]), "OK");
        let left = self.change(|clerk| clerk.revoke(ADA, WORKS));
        self.deliver(&left).await;
        left
    }
}

/// All nodes are gone when Redis comes back, so nobody remembers; a node starts, and the history is whole, or said to be.
pub async fn a_start_on_a_redis_set_back() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.lose_a_revocation().await;
        world.stop_nodes().await;
        world.redis().restart();
        assert!(world.redis_still_lists(), "the old value is back");
        world.add_node().await;
        world.until_whole().await;
        // The node is told so by its next question.
        until_after(Instant::now(), world.bounds().staleness / 2).await;
        world.list_when_due(0).await
    })
    .await
}

/// The same, and nobody has put anything back yet.
pub async fn a_start_before_the_repair() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.nobody_repairs();
        world.lose_a_revocation().await;
        world.stop_nodes().await;
        world.redis().restart();
        world.add_node().await;
        world.list_when_due(0).await
    })
    .await
}

/// An eviction by hand is in no journal. The stream is gone before a node has read it, but not the values: what the node has is no
/// answer until Redis says the same.
pub async fn an_eviction_the_stream_lost() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        assert!(world.still_lists(1).await?);
        proxy.deafen().await;
        world.revoke_and_evict_at(0).await?;
        let since = world.redis().query(&["HGET", HISTORY, "since"]);
        let anew = "redis.call('DEL', KEYS[1]) redis.call('XADD', KEYS[1], '*', 'history', 'x')";
        world.redis().query(&["EVAL", anew, "1", STREAM]);
        until("the loss to be noticed", async || (world.redis_ref().query(&["HGET", HISTORY, "since"]) != since).then_some(()))
            .await;
        world.until_whole().await;
        proxy.release();
        world.until_it_hears(1).await?;
        world.list_when_due(1).await
    })
    .await
}

/// For a moment two primaries take what two nodes acknowledge; then the node beside the old one comes over.
pub async fn a_node_that_comes_from_a_deposed_primary() -> Found {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    judged(Deployment::Bare, setup, async |world: &mut World| {
        let (_redis, links) = part_unheard(world).await;
        let breaks = async |node| world.metric_of(node, "rollcall_stream_breaks_total", "").await;
        let before = breaks(1).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.deliver_to(1, &left).await[0].status, Some(204), "the old primary took it");
        links.iter().for_each(FaultyLink::heal);
        until("the second node to come over", async || (breaks(1).await > before).then_some(())).await;
        until_after(Instant::now(), world.bounds().staleness * 2).await;
        world.list_when_due(0).await
    })
    .await
}

/// A node that hears nothing is asking the origin, and has its answer from before; then Redis is lost, with the lease from
/// before.
pub async fn a_flight_from_before() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let link = FaultyLink::to(world.redis().port()).await;
        let url = link.url();
        world.add_node_with(|config| config.redis_url = Some(url.into())).await;
        world.nobody_repairs();
        let (slow, reading) = world.begin_slow_list(1, ADA).await?;
        link.trouble(Trouble::Stalled);
        world.lose_a_revocation().await;
        world.redis().restart();
        link.heal();
        until("the node to notice", async || (world.metric_of(1, "rollcall_stream_breaks_total", "").await >= 1.0).then_some(()))
            .await;
        world.until_it_hears(1).await?;
        slow.release();
        reading.answer().await?;
        world.look_into_redis(ADA);
        world.list_when_due(1).await
    })
    .await
}

/// Redis is lost twice while somebody puts it back: what was put back after the first loss is lost with the second.
pub async fn a_second_loss() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.lose_a_revocation().await;
        world.stop_nodes().await;
        let (url, journal) = (world.redis().url(), world.journal.id().to_owned());
        let somebody = RedisNode::with_journal(&url, &journal).await;
        somebody.caught_up().await;
        let history = somebody.redis.history();
        let doubt_but = async |known: Option<&Doubt>| {
            until("a doubt", async || history.doubts().borrow().clone().filter(|doubt| Some(doubt) != known)).await
        };
        world.redis().restart();
        let first = doubt_but(None).await;
        world.redis().restart();
        doubt_but(Some(&first)).await;
        until("the right", async || history.hold().await.is_ok_and(|is_held| is_held).then_some(())).await;
        // A node that starts now puts it back itself, unless it is told that all is well.
        history.make_whole(&first).await?;
        world.add_node().await;
        world.until_whole().await;
        world.list_when_due(0).await
    })
    .await
}

/// What was put back, and the word that all of it was, come in one answer, behind an entry that nobody can read. The node is asked
/// while it is at that.
pub async fn an_answer_that_lifts_doubt() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.nobody_repairs();
        let left = world.lose_a_revocation().await;
        world.stop_nodes().await;
        world.redis().restart();
        let proxy = world.add_node_behind_a_proxy().await;
        world.until_due().await;
        proxy.deafen().await;
        world.append_unreadable();
        let entry = format!(r#"{{"kind":"membershipDeleted","membership":"{}","user":"{ADA}"}}"#, left.id);
        world.redis().query(&["XADD", STREAM, "*", "change", &entry]);
        world.redis().query(&["HSET", HISTORY, "whole", "1"]);
        let log = SlowLog::hold();
        proxy.release();
        log.until_holding_one().await;
        world.list_at(0, ADA).await?;
        Ok(())
    })
    .await
}
