//! What goes wrong without the rules of the facts. Most of the time the origin answers from replicas that lag.

use std::time::{Duration, Instant};

use serde_json::json;

use super::redis::{A_WHILE, ADA, STREAM, WORKS, until_after};
use super::{Found, judged};
use crate::world::redis_proxy::RedisProxy;
use crate::world::service::{Deployment, Setup, World};
use crate::world::wait::until;
use crate::world::webhooks::event;

const NINE: &str = "orchard-nine";

/// Asks for Ada's role, when whoever was acknowledged anything may rely on it.
async fn role_when_due(world: &World) -> anyhow::Result<()> {
    world.until_due().await;
    world.check(ADA, NINE).await?.is_member();
    Ok(())
}

/// Nothing is voided by it: values and entries from before are corrected by the fact alone.
pub async fn an_end_that_names_no_user() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.take_end_without_user(&left).await?;
        world.list_when_due(0).await
    })
    .await
}

pub async fn an_end_the_origin_has_not_heard_of() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.origin_lags();
        world.deliver(&left).await;
        world.list_when_due(0).await
    })
    .await
}

pub async fn a_role_the_origin_has_not_heard_of() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert_eq!(world.check(ADA, NINE).await?.is_member()["role"], "org:admin");
        let demoted = world.change(|clerk| clerk.change_role(ADA, NINE, "org:member"));
        world.origin_lags();
        world.deliver(&demoted).await;
        role_when_due(world).await
    })
    .await
}

/// The origin is ahead of the message: who has read it knows better.
pub async fn a_role_told_late() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let earlier = world.change(|clerk| clerk.change_role(ADA, NINE, "org:billing_manager"));
        world.change(|clerk| clerk.change_role(ADA, NINE, "org:member"));
        until_after(Instant::now(), A_WHILE).await;
        assert_eq!(world.check(ADA, NINE).await?.is_member()["role"], "org:member");
        world.deliver(&earlier).await;
        world.check(ADA, NINE).await?.is_member();
        Ok(())
    })
    .await
}

pub async fn two_roles_in_the_wrong_order() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let earlier = world.change(|clerk| clerk.change_role(ADA, NINE, "org:billing_manager"));
        let later = world.change(|clerk| clerk.change_role(ADA, NINE, "org:member"));
        world.origin_lags();
        let heard = world.heard(0).await;
        world.deliver(&later).await;
        world.deliver(&earlier).await;
        // From the stream, too: in the order in which they were appended.
        world.until_heard_more(0, heard + 1.0).await;
        role_when_due(world).await
    })
    .await
}

/// The message of a join comes while the origin's replica does not show it; a moment later it does.
pub async fn a_join_the_origin_has_not_heard_of() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let joined = world.change(|clerk| clerk.grant("user_kofi", "tidewell-energy", "org:member"));
        world.origin_lags();
        world.deliver(&joined).await;
        assert_eq!(world.list("user_kofi").await?.slugs().len(), 2);
        world.origin_is_current();
        world.until_gaps_end().await;
        world.list("user_kofi").await?;
        Ok(())
    })
    .await
}

/// A node that has not heard of a join lands what a lagging origin says, for as long as any reading lives; another one has
/// heard.
pub async fn a_list_landed_by_who_has_not_heard_of_a_join() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        proxy.deafen().await;
        let joined = world.change(|clerk| clerk.grant("user_kofi", WORKS, "org:member"));
        world.deliver(&joined).await;
        world.origin_lags();
        // A busy machine may be too late for one landing.
        until("a list in Redis", async || {
            let list = world.ask_with(1, "/v1/users/user_kofi/orgs", &[("cache-control", "no-cache")]).await.ok()?;
            assert_eq!(list.slugs().len(), 2, "it cannot know");
            (!world.redis_ref().query(&["GET", "user-orgs:user_kofi"]).is_empty()).then_some(())
        })
        .await;
        world.origin_is_current();
        world.until_gaps_end().await;
        world.list_at(0, "user_kofi").await?;
        proxy.release();
        Ok(())
    })
    .await
}

/// A node that has not heard that a user is gone lands what a lagging origin says; another one has heard, and then hears nothing
/// more for so long that it has to look at Redis.
pub async fn a_list_landed_by_who_has_not_heard_of_an_end() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxies = [world.add_node_behind_a_proxy().await, world.add_node_behind_a_proxy().await];
        proxies[0].deafen().await;
        world.clerk.world().lock().set_cascades(false);
        let heard = world.heard(2).await;
        let gone = world.change(|clerk| clerk.delete_user(ADA));
        world.deliver(&gone).await;
        world.until_heard_more(2, heard).await;
        world.until_fence_passes_the_last(2).await;
        proxies[1].deafen().await;
        until("its fence to age", async || {
            (world.metric_of(2, "rollcall_fence_lag_seconds", "").await > world.bounds().staleness.as_secs_f64()).then_some(())
        })
        .await;
        world.origin_lags();
        assert_eq!(world.list_at(1, ADA).await?.status, 200, "it cannot know");
        world.list_at(2, ADA).await?;
        proxies.iter().for_each(RedisProxy::release);
        until("the second node to hear again", async || {
            (world.metric_of(2, "rollcall_fence_lag_seconds", "").await < 0.5).then_some(())
        })
        .await;
        world.list_at(2, ADA).await?;
        Ok(())
    })
    .await
}

pub async fn a_user_the_origin_still_knows() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.clerk.world().lock().set_cascades(false);
        let gone = world.change(|clerk| clerk.delete_user(ADA));
        world.origin_lags();
        world.deliver(&gone).await;
        world.list_when_due(0).await
    })
    .await
}

/// An end is told, and so much after it that the node forgets it, before anybody asks again.
pub async fn a_fact_pushed_out() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        // By another node, so that this one hears of it once.
        let entry = format!(r#"{{"kind":"membershipDeleted","membership":"{}","user":null}}"#, left.id);
        world.redis().query(&["XADD", STREAM, "*", "change", &entry]);
        world.acknowledge(&left);
        for n in 0..101 {
            let heard = world.heard(0).await;
            world.append_crowded_change(n);
            world.until_heard_more(0, heard).await;
        }
        until("the end to be forgotten", async || {
            (world.metric_of(0, "rollcall_facts_lost_total", "").await >= 1.0).then_some(())
        })
        .await;
        world.list_when_due(0).await
    })
    .await
}

impl World {
    /// An entry that names ten thousand organizations.
    fn append_crowded_change(&self, n: usize) {
        let add = r#"local ids = {}
            for i = 1, 10000 do ids[i] = '"org_' .. ARGV[1] .. '_' .. i .. '"' end
            local change = '{"kind":"evicted","users":[],"organizations":[' .. table.concat(ids, ',') .. ']}'
            return redis.call('XADD', KEYS[1], '*', 'change', change)"#;
        self.redis_ref().query(&["EVAL", add, "1", STREAM, &n.to_string()]);
    }
}

/// Redis holds an old value again, with its guard, after the node has heard better.
pub async fn a_value_that_comes_back() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let keys = ["user-orgs:user_ada", "{user-orgs:user_ada}:guard"];
        for key in keys {
            assert_eq!(world.redis().query(&["COPY", key, &format!("kept:{key}")]), "1");
        }
        let acknowledged = world.revoke_and_evict_at(0).await?;
        until_after(acknowledged, Duration::from_millis(300)).await;
        for key in keys {
            assert_eq!(world.redis().query(&["COPY", &format!("kept:{key}"), key, "REPLACE"]), "1");
        }
        world.list_when_due(1).await
    })
    .await
}

/// Something was said of an organization, and nobody knows what: what was read of it before is no answer.
pub async fn a_message_that_cannot_be_read() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert_eq!(world.check(ADA, WORKS).await?.is_member()["organizationName"], "Harbour Works");
        let renamed = world.change(|clerk| clerk.rename(WORKS, Some("Harbour & Sons"), None));
        world.take(&event("organization.updated", json!({ "id": "org_harbour_works", "name": 7 }))).await?;
        world.acknowledge(&renamed);
        world.until_due().await;
        world.check(ADA, WORKS).await?.is_member();
        Ok(())
    })
    .await
}
