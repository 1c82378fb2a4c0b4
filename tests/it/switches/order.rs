//! What goes wrong when a change is applied in another order: remember the fact, bump the stripe, drop the entry; and for what
//! names no user: remember the fact, move the counter. Where two steps are swapped there is time between them, and somebody
//! reads in it.

use rollcall::dev::Done;
use serde_json::Value;

use super::redis::{ADA, WORKS};
use super::{Found, judged};
use crate::world::asking::crowd;
use crate::world::service::{Deployment, Setup, World};
use crate::world::wait::until;
use crate::world::webhooks::body;

impl World {
    /// How many changes node `number` has heard of.
    pub async fn heard(&self, number: usize) -> f64 {
        self.metric_of(number, "rollcall_stream_entries_applied_total", "").await
    }

    pub async fn until_heard_more(&self, number: usize, before: f64) {
        until("the change", async || (self.heard(number).await > before).then_some(())).await;
    }

    /// Clerk says that this membership ended, and not whose it was.
    pub async fn take_end_without_user(&self, membership: &Done) -> anyhow::Result<()> {
        let mut told: Value = body(&membership.messages[0]);
        told["data"].as_object_mut().expect("an object").remove("public_user_data");
        self.take(&told).await?;
        self.acknowledge(membership);
        Ok(())
    }
}

/// The value has landed in Redis, the node has not heard so yet; then the change passes. The node waits for Redis no longer than a
/// quarter of a second, so it is tried with several users.
pub async fn a_change_between_the_landings() -> Found {
    const TRIES: usize = 12;
    judged(Deployment::Redis(1), Setup::crowded(TRIES), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        for user in (0..TRIES).map(crowd) {
            proxy.hold(b"landed");
            let reading = world.begin_list(1, &user);
            let is_ready = || proxy.is_holding_one() || reading.is_answered();
            until("the landing, or that it is given up", async || is_ready().then_some(())).await;
            if !proxy.is_holding_one() {
                // Redis took too long before it came to that.
                continue;
            }
            let heard = world.heard(1).await;
            world.change(|clerk| clerk.revoke(&user, WORKS));
            assert_eq!(world.evict_at(1, &user).await?.status, 204);
            // What it has heard it hears no more, and drops nothing that lands later.
            world.until_heard_more(1, heard).await;
            proxy.release();
            reading.answer().await?;
        }
        world.until_due().await;
        for user in (0..TRIES).map(crowd) {
            world.list_at(1, &user).await?;
        }
        Ok(())
    })
    .await
}

/// Redis is too full to take a reading, so that only the stripe keeps an older one out. The node has its answer of the origin
/// just when it hears of the change.
pub async fn a_landing_while_an_eviction_is_applied() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.redis().query(&["CONFIG", "SET", "maxmemory", "1"]);
        let (slow, reading) = world.begin_slow_list(1, ADA).await?;
        let heard = world.heard(1).await;
        world.revoke_and_evict_at(0).await?;
        world.until_heard_more(1, heard).await;
        slow.release();
        reading.answer().await?;
        world.list_when_due(1).await
    })
    .await
}

/// Clerk's replicas lag, so that only the fact tells of the end. A node is asked just when it hears of it.
pub async fn a_read_while_an_end_is_applied() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.origin_lags();
        let heard = world.heard(1).await;
        world.deliver(&left).await;
        world.until_heard_more(1, heard).await;
        world.list_at(1, ADA).await?;
        world.list_when_due(1).await
    })
    .await
}

/// The same, of an end that names no user: the entry is there already.
pub async fn a_read_while_an_unfiled_end_is_applied() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(1).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        let heard = world.heard(1).await;
        world.take_end_without_user(&left).await?;
        world.until_heard_more(1, heard).await;
        world.list_at(1, ADA).await?;
        world.list_when_due(1).await
    })
    .await
}
