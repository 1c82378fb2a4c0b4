//! What goes wrong without the rules of the fence.

use std::time::Instant;

use super::redis::{A_WHILE, ADA, STREAM, WORKS, until_after};
use super::{Found, judged};
use crate::world::asking::crowd;
use crate::world::service::{Deployment, Setup, World};
use crate::world::slow_log::SlowLog;
use crate::world::wait::until;

/// How often something is tried that a busy machine may spoil: a node waits for an answer of Redis no longer than a quarter of a
/// second. Each time with another user.
const TRIES: usize = 4;

/// The answer is slow, and a change is acknowledged before it arrives: it does not vouch for that.
pub async fn an_append_during_an_answer() -> Found {
    a_change_behind(0, 1).await
}

/// The change stands at the end of more entries than an answer holds, and the node has had the first page of them.
pub async fn more_entries_than_a_page() -> Found {
    a_change_behind(1_500, 2).await
}

/// The node has an answer of the stream on its way, then as many entries are added, then a membership ends; so many answers go
/// through, and after each the node is asked.
async fn a_change_behind(entries: usize, answers: usize) -> Found {
    judged(Deployment::Redis(1), Setup::crowded(TRIES), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        for user in (0..TRIES).map(crowd) {
            world.list_at(1, &user).await?;
            proxy.deafen().await;
            let add = r#"for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'change', '{"kind":"userCreated","user":"user_' .. n .. '"}') end"#;
            world.redis().query(&["EVAL", add, "1", STREAM, &entries.to_string()]);
            world.revoke_and_evict(&user).await?;
            for _ in 0..answers {
                proxy.let_one_go().await;
                world.list_at(1, &user).await?;
            }
            proxy.release();
            world.until_it_hears(1).await?;
        }
        Ok(())
    })
    .await
}

/// The change stands behind an entry that nobody can read, and the node is asked while it is at that.
pub async fn an_entry_that_takes_its_time() -> Found {
    let unreadable = async |world: &World| world.metric_of(0, "rollcall_stream_entries_unreadable_total", "").await;
    judged(Deployment::Redis(1), Setup::crowded(TRIES), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        for n in 0..TRIES {
            let user = crowd(n);
            world.list_at(1, &user).await?;
            proxy.deafen().await;
            world.append_unreadable();
            until("the first node to pass that", async || (unreadable(world).await > n as f64).then_some(())).await;
            world.revoke_and_evict(&user).await?;
            let log = SlowLog::hold();
            proxy.release();
            log.until_holding_one().await;
            world.list_at(1, &user).await?;
            drop(log);
            world.until_it_hears(1).await?;
        }
        Ok(())
    })
    .await
}

/// A node does not look for a moment, and what it has not read is gone.
pub async fn a_stream_trimmed_past_a_node() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        assert!(world.still_lists(1).await?);
        proxy.deafen().await;
        proxy.mute();
        world.revoke_and_evict_at(0).await?;
        world.redis().query(&["XTRIM", STREAM, "MAXLEN", "0"]);
        proxy.release();
        world.until_it_hears(1).await?;
        world.list_when_due(1).await
    })
    .await
}

/// The same, of an organization's end: no value is voided by it, and Redis holds one from before.
pub async fn a_stream_trimmed_past_an_end() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        assert!(world.still_lists(0).await?);
        proxy.deafen().await;
        proxy.mute();
        world.clerk.world().lock().set_cascades(false);
        let gone = world.change(|clerk| clerk.delete_organization(WORKS));
        world.deliver(&gone).await;
        world.redis().query(&["XTRIM", STREAM, "MAXLEN", "0"]);
        proxy.release();
        world.until_it_hears(1).await?;
        world.list_when_due(1).await
    })
    .await
}

/// A node of a later release says something that this one cannot read.
pub async fn an_entry_nobody_can_read() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.redis().query(&["DEL", "user-orgs:user_ada", "{user-orgs:user_ada}:guard"]);
        world.append_unreadable();
        world.acknowledge(&left);
        world.list_when_due(0).await
    })
    .await
}

impl World {
    /// An entry of a later release, which no node can read.
    pub fn append_unreadable(&self) {
        self.redis_ref().query(&["XADD", STREAM, "*", "change", r#"{"kind":"ofALaterRelease","user":"user_ada"}"#]);
    }

    /// A user's membership ends, and nobody tells us but an operator, who evicts him through the first node; a while passes.
    async fn revoke_and_evict(&self, user: &str) -> anyhow::Result<()> {
        self.change(|clerk| clerk.revoke(user, WORKS));
        assert_eq!(self.evict_at(0, user).await?.status, 204);
        until_after(Instant::now(), A_WHILE).await;
        Ok(())
    }

    /// Waits until node `number` vouches for everything that was acknowledged.
    pub async fn until_fence_passes_the_last(&self, number: usize) {
        let acknowledged = self.witness().last_acknowledged();
        until("its fence to pass the change", async || {
            let since = acknowledged.elapsed();
            let lag = self.metric_of(number, "rollcall_fence_lag_seconds", "").await;
            // Whoever is answered within a few milliseconds is told a lag that says so.
            (lag + (A_WHILE / 2).as_secs_f64() < since.as_secs_f64()).then_some(())
        })
        .await;
    }

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
