//! What goes wrong without the rules of what lies in Redis. Most changes are evictions of a user whose membership ended
//! without a word: they leave no fact that could mend what lands after them.

use std::time::{Duration, Instant};

use rollcall::dev::Delivery;
use rollcall::domain::digest_of;
use rollcall::ports::SharedTier;

use super::{Found, find, judged, wrong};
use crate::world::cluster::NODE_TIMEOUT;
use crate::world::parted_cluster::PartedCluster;
use crate::world::redis_node::{RedisNode, connect, list, user};
use crate::world::redis_proxy::RedisProxy;
use crate::world::redis_server::RedisServer;
use crate::world::sentinels::replicated;
use crate::world::service::{Deployment, Setup, World};
use crate::world::wait::until;

pub const ADA: &str = "user_ada";
pub const WORKS: &str = "harbour-works";
pub const STREAM: &str = "user-orgs:~changes";
const VALUE: &str = "user-orgs:user_ada";
const GUARD: &str = "{user-orgs:user_ada}:guard";
pub const HISTORY: &str = "{user-orgs:~changes}:history";
/// So much later nobody takes two moments for one.
pub const A_WHILE: Duration = Duration::from_millis(30);

/// Waits until this much time has passed since.
pub async fn until_after(since: Instant, time: Duration) {
    until("time to pass", async || (since.elapsed() > time).then_some(())).await;
}

impl World {
    /// Asks node `number` for Ada's list, when whoever was acknowledged anything may rely on it.
    pub async fn list_when_due(&self, number: usize) -> anyhow::Result<()> {
        self.until_due().await;
        self.list_at(number, ADA).await?;
        Ok(())
    }
}

/// A node that hears nothing of the stream reads the origin; the membership ends and another node acknowledges it; then the
/// slow answer is let go. Redis must refuse it.
async fn a_late_fill_after(then: impl FnOnce(&RedisServer)) -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        let (slow, reading) = world.begin_slow_list(1, ADA).await?;
        proxy.deafen().await;
        world.revoke_and_evict_at(0).await?;
        then(world.redis());
        slow.release();
        reading.answer().await?;
        world.look_into_redis(ADA);
        Ok(())
    })
    .await
}

pub async fn a_late_fill() -> Found {
    a_late_fill_after(|_| {}).await
}

pub async fn a_late_fill_whose_guard_is_gone() -> Found {
    a_late_fill_after(|redis| assert_eq!(redis.query(&["DEL", GUARD]), "1")).await
}

/// Whoever reads Redis by itself relies on it: a change is acknowledged, so the value is gone.
pub async fn a_value_after_its_invalidation() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await? && world.redis_still_lists());
        world.revoke_and_evict_at(0).await?;
        world.look_into_redis(ADA);
        Ok(())
    })
    .await
}

pub async fn a_full_memory() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.list(ADA).await?;
        world.redis().query(&["CONFIG", "SET", "maxmemory", "1"]);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        let status = world.deliver_to(0, &left).await[0].status;
        world.redis().query(&["CONFIG", "SET", "maxmemory", "0"]);
        Ok((status != Some(204)).then(|| format!("a revocation is answered {status:?}")))
    })
    .await
}

pub async fn an_eviction_here() -> Found {
    an_eviction_at(0).await
}

pub async fn an_eviction_elsewhere() -> Found {
    an_eviction_at(1).await
}

async fn an_eviction_at(node: usize) -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        world.revoke_and_evict_at(node).await?;
        world.list_when_due(0).await
    })
    .await
}

/// The replica is promoted, and the node beside the old primary is not told. Nobody confirms any more what that says.
pub async fn a_replica_that_left() -> Found {
    judged(Deployment::Bare, Setup::default(), async |world: &mut World| {
        let servers = replicated(1).await;
        world.add_node_on(&servers[0].url(), 1).await;
        until_whole_at(&servers[0]).await;
        world.learn_by_heart(0).await;
        servers[1].query(&["REPLICAOF", "NO", "ONE"]);
        world.add_node_on(&servers[1].url(), 0).await;
        until_whole_at(&servers[1]).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.deliver_to(1, &left).await[0].status, Some(204), "the new primary took it");
        world.list_when_due(0).await
    })
    .await
}

/// Waits until nothing of this server's history is in doubt.
pub async fn until_whole_at(server: &RedisServer) {
    until("the history to be whole", async || (server.query(&["HGET", HISTORY, "whole"]) == "1").then_some(())).await;
}

/// Tomas is in no organization. While the origin says so, slowly, he makes one; whoever looks for it then is told "no" only by
/// a reading of the last second.
pub async fn a_slow_origin() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        let (slow, reading) = world.begin_slow_list(0, "user_tomas").await?;
        until_after(Instant::now(), Duration::from_millis(1_300)).await;
        world.found_quietly("night-shift", "user_tomas");
        // Much longer than the other node takes for its first question to Redis.
        until_after(Instant::now(), Duration::from_millis(500)).await;
        slow.release();
        reading.answer().await?;
        world.check_at(1, "user_tomas", "night-shift").await?;
        Ok(())
    })
    .await
}

/// A membership ends, and no message tells of it; a name changes, so that a node corrects the value in Redis. It is no younger
/// for that: when it is as old as the TTL, nobody can read it there any more.
pub async fn a_corrected_value() -> Found {
    judged(Deployment::Redis(2), Setup::living(Duration::from_secs(4), Duration::ZERO), async |world: &mut World| {
        world.list_at(0, ADA).await?;
        world.change(|clerk| clerk.revoke(ADA, "orchard-nine"));
        let ended = Instant::now();
        until_after(ended, Duration::from_secs(2)).await;
        let heard = world.heard(1).await;
        let renamed = world.change(|clerk| clerk.rename(WORKS, Some("Harbour & Sons"), None));
        world.deliver(&renamed).await;
        world.until_heard_more(1, heard).await;
        world.list_at(1, ADA).await?;
        until("the name", async || world.redis_ref().query(&["GET", VALUE]).contains("Harbour & Sons").then_some(())).await;
        // Nothing is given a life of less than a second.
        until_after(ended, world.bounds().ttl + Duration::from_secs(1) + A_WHILE).await;
        world.look_into_redis(ADA);
        Ok(())
    })
    .await
}

/// A membership ends, and no message tells of it: it is forgotten when the reading is as old as the TTL, in every tier.
pub async fn a_promoted_reading() -> Found {
    judged(Deployment::Redis(2), Setup::living(Duration::from_secs(4), Duration::ZERO), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let read = Instant::now();
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        until_after(read, Duration::from_secs(2)).await;
        assert!(world.still_lists(1).await?, "from Redis");
        until_after(read, Duration::from_millis(4_200)).await;
        world.list_at(1, ADA).await?;
        Ok(())
    })
    .await
}

/// Whoever deletes a value may rely on it once every local tier has looked at Redis again.
pub async fn a_value_deleted_by_somebody() -> Found {
    let mut setup = Setup::default();
    setup.bounds.local_age_max = Duration::from_millis(500);
    judged(Deployment::Redis(1), setup, async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.redis().query(&["DEL", VALUE]), "1");
        until_after(Instant::now(), world.bounds().local_age_max).await;
        world.acknowledge(&left);
        world.list_when_due(0).await
    })
    .await
}

/// Somebody who read the old value before the change writes it back after it.
pub async fn a_value_written_by_somebody() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let old = world.redis().query(&["GET", VALUE]);
        let acknowledged = world.revoke_and_evict_at(0).await?;
        until_after(acknowledged, Duration::from_millis(300)).await;
        assert!(!world.still_lists(0).await?, "read again");
        world.redis().query(&["SET", VALUE, &old]);
        world.list_when_due(1).await
    })
    .await
}

/// The guard vouches for a value that this release cannot read.
pub async fn a_value_of_a_foreign_shape() -> Found {
    judged(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        for foreign in ["null", r#"[{"organizationId":"org_1","role":"org:admin"}]"#, "{}"] {
            world.ask_with(0, "/v1/users/user_ada/orgs", &[("cache-control", "no-cache")]).await?;
            world.redis().query(&["SET", VALUE, foreign]);
            let digest: String = digest_of(foreign.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            world.redis().query(&["HSET", GUARD, "digest", &digest]);
            world.list_at(1, ADA).await?;
            if world.witness().verdict().is_some() {
                break;
            }
            world.redis().query(&["DEL", VALUE]);
            assert_eq!(world.evict_at(0, ADA).await?.status, 204);
        }
        Ok(())
    })
    .await
}

/// A value is read, and before the answer arrives the server has become another one. It must not take long, so there are
/// several tries.
pub async fn an_answer_of_a_former_primary() -> Found {
    let server = RedisServer::start();
    let proxy = RedisProxy::before(server.port());
    let node = RedisNode::started(&proxy.url()).await;
    for _ in 0..8 {
        until("a landing", async || {
            let lease = node.shared.begin(&user(1)).await.ok()?;
            node.shared.land(lease, &list("org:admin"), None).await.ok()
        })
        .await;
        proxy.hold(b"organizationId");
        let (shared, breaks) = (node.shared.clone(), node.heard.breaks().len());
        let reading = tokio::spawn(async move { shared.get(&user(1)).await });
        proxy.until_holding_one().await;
        // Nobody is there to be followed.
        server.query(&["REPLICAOF", "127.0.0.1", "1"]);
        server.query(&["REPLICAOF", "NO", "ONE"]);
        until("the break", async || (node.heard.breaks().len() > breaks).then_some(())).await;
        node.caught_up().await;
        proxy.release();
        if reading.await.expect("no panic").is_ok_and(|value| value.is_some()) {
            return Some("a value is answered by a server that was another one".to_owned());
        }
    }
    None
}

/// Another server is promoted, and knows of a change that the deposed one does not; a node still reaches only that.
pub async fn a_deposed_primary() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let port = world.redis().port().to_string();
        let promoted = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
        until("it to follow", async || promoted.query(&["INFO"]).contains("master_link_status:up").then_some(())).await;
        // With its first replica a server begins another history, and the node notices.
        until("the break", async || {
            (world.metric_of(0, "rollcall_stream_breaks_total", "primary-changed").await >= 1.0).then_some(())
        })
        .await;
        world.until_it_hears(0).await?;
        world.until_whole().await;
        assert!(world.still_lists(0).await?);
        promoted.query(&["REPLICAOF", "NO", "ONE"]);
        // It is told that it is none any more; whom it should follow cannot be reached.
        world.redis().query(&["REPLICAOF", "127.0.0.1", "1"]);
        world.add_node_with(|config| config.redis_url = Some(promoted.url().into())).await;
        world.revoke_and_evict_at(1).await?;
        world.list_when_due(0).await
    })
    .await
}

/// The stream's master is alone with one node, and goes on being read; the others have replaced it.
pub async fn a_master_with_a_minority() -> Found {
    let redis = PartedCluster::start(&["--cluster-allow-reads-when-down", "yes"]).await;
    judged(Deployment::Bare, Setup::default(), async |world: &mut World| {
        world.add_node_on(&redis.url_apart(), 0).await;
        world.add_node_on(&redis.url_beside(), 0).await;
        redis.cluster.until_whole().await;
        assert!(world.still_lists(1).await?);
        let master = redis.cluster.first_owner(STREAM);
        redis.part_nodes(master).await;
        redis.part_servers(master);
        redis.cluster.until_promoted(redis.cluster.replica_of(master)).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        until("the message to be taken", async || world.deliver_to(0, &left).await.iter().all(Delivery::is_taken).then_some(()))
            .await;
        until_after(Instant::now(), NODE_TIMEOUT).await;
        world.list_when_due(1).await
    })
    .await
}

/// A node of a later release says more of a change than this one knows, and Clerk's replicas lag.
pub async fn an_entry_of_a_later_release() -> Found {
    judged(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.origin_lags();
        let entry = format!(r#"{{"kind":"membershipDeleted","membership":"{}","user":"{ADA}","later":{{"a":1}}}}"#, left.id);
        world.redis().query(&["DEL", VALUE, GUARD]);
        world.redis().query(&["XADD", STREAM, "*", "change", &entry]);
        world.acknowledge(&left);
        world.list_when_due(0).await
    })
    .await
}

pub async fn a_redis_that_evicts() -> Found {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    wrong(connect(&server.url()).await.is_ok(), "a Redis that may evict the stream is taken")
}

/// The clock is set back by a second: to a node that starts once it has caught up, the value is younger by that.
pub async fn a_start_after_the_clock_was_set_back() -> Found {
    let redis = Some(RedisServer::start_with_a_clock(&[]));
    let setup = Setup { redis, ..Setup::living(Duration::from_secs(4), Duration::ZERO) };
    judged(Deployment::Redis(1), setup, async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let read = Instant::now();
        let landed = redis_time(world.redis());
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.redis().step_clock(-1_000);
        until("the step to be seen", async || {
            (world.metric_of(0, "rollcall_stream_breaks_total", "clock-stepped").await >= 1.0).then_some(())
        })
        .await;
        let redis = world.redis_ref();
        until("the clock to catch up", async || (redis_time(redis) > landed).then_some(())).await;
        world.add_node().await;
        world.list_at(1, ADA).await?;
        until_after(read, Duration::from_millis(4_200)).await;
        world.list_at(1, ADA).await?;
        Ok(())
    })
    .await
}

fn redis_time(redis: &RedisServer) -> (u64, u64) {
    let told = redis.query(&["TIME"]);
    let mut parts = told.split_whitespace().map(|part| part.parse().expect("a number"));
    (parts.next().expect("seconds"), parts.next().expect("microseconds"))
}
