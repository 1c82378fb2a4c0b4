//! What goes wrong without the rules of what lies in Redis. Most changes are evictions of a user whose membership ended
//! without a word: they leave no fact that could mend what lands after them.

use std::time::{Duration, Instant};

use rollcall::clock;
use rollcall::domain::digest_of;
use rollcall::ports::{ChangeStream, SharedTier};

use super::{Found, find, wrong};
use crate::world::cluster::Cluster;
use crate::world::redis_node::{RedisNode, change, connect, list, user};
use crate::world::redis_proxy::{RedisProxy, TAIL_ANSWER};
use crate::world::redis_server::RedisServer;
use crate::world::sentinels::replicated;
use crate::world::service::{Deployment, Setup, World};
use crate::world::wait::until;

pub const ADA: &str = "user_ada";
pub const WORKS: &str = "harbour-works";
pub const STREAM: &str = "user-orgs:~changes";
const VALUE: &str = "user-orgs:user_ada";
const GUARD: &str = "{user-orgs:user_ada}:guard";

/// Waits until this much time has passed since.
pub async fn until_after(since: Instant, time: Duration) {
    until("time to pass", async || (since.elapsed() > time).then_some(())).await;
}

impl World {
    /// Whether node `number` still lists the membership, when whoever was acknowledged its end may rely on it.
    pub async fn lists_too_late(&self, number: usize, acknowledged: Instant) -> anyhow::Result<Found> {
        until_after(acknowledged, self.bounds().staleness).await;
        let late = acknowledged.elapsed();
        Ok(self.still_lists(number).await?.then(|| format!("node {number} lists a membership {late:?} after its end was told")))
    }
}

/// A node that hears nothing of the stream reads the origin; the membership ends and another node acknowledges it; then the
/// slow answer is let go. Redis must refuse it.
async fn a_late_fill_after(then: impl FnOnce(&RedisServer)) -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = RedisProxy::before(world.redis().port());
        world.add_node_behind(&proxy).await;
        let slow = world.clerk.hold_next_answer_about(ADA);
        let reading = world.begin_list(1, ADA);
        slow.reached().await?;
        proxy.hold(TAIL_ANSWER);
        until("the node to be deaf", async || proxy.is_holding_one().then_some(())).await;
        world.revoke_and_evict_at(0).await?;
        then(world.redis());
        slow.release();
        reading.answer().await?;
        Ok(wrong(world.redis_still_lists(), "an older reading landed in Redis after the change"))
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
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await? && world.redis_still_lists());
        world.revoke_and_evict_at(0).await?;
        Ok(wrong(world.redis_still_lists(), "the value is still there"))
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
    find(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let acknowledged = world.revoke_and_evict_at(node).await?;
        world.lists_too_late(0, acknowledged).await
    })
    .await
}

/// It may be the next primary, and would know nothing of the change.
pub async fn a_replica_that_is_away() -> Found {
    let servers = replicated(1).await;
    let node = RedisNode::waiting_for(&servers[0].url(), 1).await;
    node.caught_up().await;
    servers[1].pause();
    let appended = node.stream.append(&change(1)).await;
    servers[1].resume();
    wrong(appended.is_ok(), "a change is acknowledged that only the primary has")
}

/// Tomas is in no organization. While the origin says so, slowly, he makes one; whoever looks for it then is told "no" only by
/// a reading of the last second.
pub async fn a_slow_origin() -> Found {
    find(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        let slow = world.clerk.hold_next_answer_about("user_tomas");
        let reading = world.begin_list(0, "user_tomas");
        slow.reached().await?;
        until_after(Instant::now(), Duration::from_millis(1_300)).await;
        world.found_quietly("night-shift", "user_tomas");
        slow.release();
        reading.answer().await?;
        let status = world.check_at(1, "user_tomas", "night-shift").await?.status;
        Ok(wrong(status == 404, "a reading of more than a second ago says no"))
    })
    .await
}

/// A name changes, so a node corrects the value in Redis. It is no younger for that.
pub async fn a_corrected_value() -> Found {
    find(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.list_at(0, ADA).await?;
        let read = Instant::now();
        until_after(read, Duration::from_secs(2)).await;
        let heard = world.heard(1).await;
        let renamed = world.change(|clerk| clerk.rename(WORKS, Some("Harbour & Sons"), None));
        world.deliver(&renamed).await;
        world.until_heard_more(1, heard).await;
        world.list_at(1, ADA).await?;
        until("the name", async || world.redis_ref().query(&["GET", VALUE]).contains("Harbour & Sons").then_some(())).await;
        let left = Duration::from_millis(world.redis().query(&["PTTL", VALUE]).parse()?);
        let dies_at = read.elapsed() + left;
        let ttl = world.bounds().ttl;
        Ok((dies_at > ttl + Duration::from_secs(1)).then(|| format!("a value lives for {dies_at:?} with a TTL of {ttl:?}")))
    })
    .await
}

/// A membership ends, and no message tells of it: it is forgotten when the reading is as old as the TTL, in every tier.
pub async fn a_promoted_reading() -> Found {
    find(Deployment::Redis(2), Setup::living(Duration::from_secs(4), Duration::ZERO), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let read = Instant::now();
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        until_after(read, Duration::from_secs(2)).await;
        assert!(world.still_lists(1).await?, "from Redis");
        until_after(read, Duration::from_millis(4_200)).await;
        Ok(wrong(world.still_lists(1).await?, "a reading is an answer for longer than the TTL"))
    })
    .await
}

pub async fn a_value_deleted_by_somebody() -> Found {
    let mut setup = Setup::default();
    setup.bounds.local_age_max = Duration::from_millis(500);
    find(Deployment::Redis(1), setup, async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let read = Instant::now();
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.redis().query(&["DEL", VALUE]), "1");
        until_after(read, Duration::from_millis(700)).await;
        Ok(wrong(world.still_lists(0).await?, "a value that somebody deleted lives on in a process"))
    })
    .await
}

/// Somebody who read the old value before the change writes it back after it.
pub async fn a_value_written_by_somebody() -> Found {
    find(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let old = world.redis().query(&["GET", VALUE]);
        let acknowledged = world.revoke_and_evict_at(0).await?;
        until_after(acknowledged, Duration::from_millis(300)).await;
        assert!(!world.still_lists(0).await?, "read again");
        world.redis().query(&["SET", VALUE, &old]);
        world.lists_too_late(1, acknowledged).await
    })
    .await
}

/// The guard vouches for a value that this release cannot read.
pub async fn a_value_of_a_foreign_shape() -> Found {
    find(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        for foreign in ["null", r#"[{"organizationId":"org_1","role":"org:admin"}]"#, "{}"] {
            world.ask_with(0, "/v1/users/user_ada/orgs", &[("cache-control", "no-cache")]).await?;
            world.redis().query(&["SET", VALUE, foreign]);
            let digest: String = digest_of(foreign.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            world.redis().query(&["HSET", GUARD, "digest", &digest]);
            if world.list_at(1, ADA).await?.slugs().is_empty() {
                return Ok(Some(format!("{foreign} is answered as no organizations")));
            }
            world.redis().query(&["DEL", VALUE]);
            assert_eq!(world.evict_at(0, ADA).await?.status, 204);
        }
        Ok(None)
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
        until("a slow answer", async || proxy.is_holding_one().then_some(())).await;
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
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
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
        let acknowledged = world.revoke_and_evict_at(1).await?;
        world.lists_too_late(0, acknowledged).await
    })
    .await
}

/// It goes on being read, and others may have replaced it.
pub async fn a_master_with_a_minority() -> Found {
    let mut cluster = Cluster::start(0).await;
    let redis = cluster.take_stream_master();
    redis.query(&["CONFIG", "SET", "cluster-allow-reads-when-down", "yes"]);
    let node = RedisNode::started(&cluster.url()).await;
    cluster.servers.iter().flatten().for_each(RedisServer::pause);
    let is_alone = async || redis.query(&["CLUSTER", "INFO"]).contains("cluster_state:fail").then(clock::now);
    let alone = until("it to know that it is alone", is_alone).await;
    until("time to vouch in", async || (clock::now().since(alone) > Duration::from_millis(300)).then_some(())).await;
    wrong(node.fence_at() > alone, "the fence is moved by a master that speaks for nobody")
}

/// A node of a later release says more of a change than this one knows, and Clerk's replicas lag.
pub async fn an_entry_of_a_later_release() -> Found {
    find(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(0).await?);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.origin_lags();
        let entry = format!(r#"{{"kind":"membershipDeleted","membership":"{}","user":"{ADA}","later":{{"a":1}}}}"#, left.id);
        world.redis().query(&["DEL", VALUE, GUARD]);
        world.redis().query(&["XADD", STREAM, "*", "change", &entry]);
        world.lists_too_late(0, Instant::now()).await
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
    find(Deployment::Redis(1), setup, async |world: &mut World| {
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
        Ok(wrong(world.still_lists(1).await?, "a reading is an answer for longer than the TTL"))
    })
    .await
}

fn redis_time(redis: &RedisServer) -> (u64, u64) {
    let told = redis.query(&["TIME"]);
    let mut parts = told.split_whitespace().map(|part| part.parse().expect("a number"));
    (parts.next().expect("seconds"), parts.next().expect("microseconds"))
}
