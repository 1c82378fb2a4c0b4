//! Redis killed, stopped, restarted empty or from an old snapshot, full, or full of somebody else's values: no 500, no false
//! "no", no answer past the bound; and everything heals by itself. I6, I7, I8.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rollcall::dev::Done;
use tokio::task::JoinHandle;

use crate::world::redis_server::RedisServer;
use crate::world::service::{Deployment, READ_KEY, Setup, World, run_test};
use crate::world::wait::until;

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";
const VALUE: &str = "user-orgs:user_ada";
const GUARD: &str = "{user-orgs:user_ada}:guard";
/// How long the default world's nodes may be behind.
const BOUND: Duration = Duration::from_secs(1);

impl World {
    /// Waits until every node says that it is ready.
    async fn until_all_ready(&self) {
        for node in 0..self.nodes.len() {
            until("the node is ready", async || {
                (self.ask(node, "/readyz").await.ok()?.json()["status"] == "ready").then_some(())
            })
            .await;
        }
    }

    /// Waits until a node says that it is degraded: it still answers, but not as it should.
    async fn until_degraded(&self, node: usize) {
        until("the node is degraded", async || {
            let answer = self.ask(node, "/readyz").await.ok()?;
            (answer.status == 200 && answer.json()["status"] == "degraded").then_some(())
        })
        .await;
    }

    /// Ada leaves the works; the webhook reaches the first node, which cannot confirm it.
    async fn revoke_unconfirmed(&self) -> anyhow::Result<Done> {
        let left = self.change(|clerk| clerk.revoke(ADA, WORKS));
        let deliveries = self.deliver_to(0, &left).await;
        assert!(deliveries.iter().all(|delivery| delivery.status == Some(503)), "{deliveries:?}");
        self.check(ADA, WORKS).await?.is_not_a_member();
        Ok(left)
    }

    /// The sender tries again; within the bound no node says yes any more.
    async fn redeliver(&self, left: &Done) {
        until("the message to be taken", async || {
            self.deliver_to(0, left).await.iter().all(|delivery| delivery.is_taken()).then_some(())
        })
        .await;
        self.expect_revoked_everywhere(Instant::now()).await;
    }

    async fn expect_revoked_everywhere(&self, acknowledged: Instant) {
        self.until_all_know(acknowledged, &format!("/v1/users/{ADA}/orgs/{WORKS}"), |answer| answer.status == 404).await;
    }
}

/// Ada's value and guard are what they once were: `GET` and `HGETALL` as redis-cli prints them.
fn bring_back(redis: &RedisServer, value: &str, guard: &str) {
    let fields: Vec<_> = ["HSET", GUARD].into_iter().chain(guard.lines()).collect();
    redis.query(&["DEL", GUARD]);
    redis.query(&fields);
    assert_eq!(redis.query(&["SET", VALUE, value]), "OK");
}

/// Asks every node for everybody, over and over, until told to stop: whatever happens, everybody is answered.
struct Crowd {
    is_over: Arc<AtomicBool>,
    readers: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Crowd {
    fn gather(world: &World) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let reader = |url: String| {
            let (http, is_over) = (world.http.clone(), is_over.clone());
            tokio::spawn(async move {
                let mut answers = 0;
                while answers < 30 || !is_over.load(Ordering::Relaxed) {
                    for (user, slug) in [(ADA, "orchard-nine"), ("user_mei", "copperline-rail"), ("user_kofi", "willow-ledger")] {
                        let path = format!("{url}/v1/users/{user}/orgs/{slug}");
                        let answer = http.get(path).bearer_auth(READ_KEY).send().await?;
                        anyhow::ensure!(answer.status() == 200, "{user} is told: {answer:?}");
                        answers += 1;
                    }
                    tokio::task::yield_now().await;
                }
                Ok(())
            })
        };
        Self { readers: world.nodes.iter().map(|node| reader(node.url())).collect(), is_over }
    }

    /// Every answer was a "yes": nobody here ever leaves these organizations.
    async fn was_always_answered(self) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader.await??;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_dies_and_comes_back_empty_costs_no_answer_and_no_revocation() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.check_at(1, ADA, WORKS).await?.is_member();
        let crowd = Crowd::gather(world);
        world.redis().kill();
        let left = world.revoke_unconfirmed().await?;
        let refused = Instant::now();
        world.until_degraded(0).await;
        // The other node has not heard; within the bound it no longer trusts what it knows, and asks the origin.
        until("the other node to ask", async || (world.check_at(1, ADA, WORKS).await.ok()?.status == 404).then_some(())).await;
        assert!(refused.elapsed() < BOUND * 4, "{:?}", refused.elapsed());
        world.redis().restart();
        world.redeliver(&left).await;
        world.until_all_ready().await;
        crowd.was_always_answered().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_costs_no_answer_and_no_revocation() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.check_at(1, ADA, WORKS).await?.is_member();
        let (value, guard) = (world.redis().query(&["GET", VALUE]), world.redis().query(&["HGETALL", GUARD]));
        let crowd = Crowd::gather(world);
        world.redis().pause();
        let left = world.revoke_unconfirmed().await?;
        world.until_degraded(0).await;
        world.redis().resume();
        world.until_all_ready().await;
        // Whether or not the invalidation was still on its way: the value from before is there again, as good as new.
        bring_back(world.redis(), &value, &guard);
        world.check(ADA, WORKS).await?.is_not_a_member();
        assert_eq!(world.list(ADA).await?.slugs().len(), 11);
        // The worker may have applied it before the old value came back; the redelivery is then acknowledged without another try.
        world.redeliver(&left).await;
        crowd.was_always_answered().await
    })
    .await;
}

/// The same with an eviction: no remembered fact could mend the old value.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_eviction_that_was_not_confirmed_holds_here_whatever_redis_brings_back() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.list(ADA).await?;
        let (value, guard) = (world.redis().query(&["GET", VALUE]), world.redis().query(&["HGETALL", GUARD]));
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.redis().pause();
        world.evict_at(0, ADA).await?.could_not_find_out("shared-unavailable");
        world.redis().resume();
        world.until_all_ready().await;
        bring_back(world.redis(), &value, &guard);
        assert_eq!(world.list(ADA).await?.slugs().len(), 11);
        Ok(())
    })
    .await;
}

/// The snapshot is from before a revocation that was acknowledged: value, guard and stream know nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_old_snapshot_of_redis_does_not_bring_back_a_revoked_member() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.until_shared(ADA).await;
        assert!(world.redis().query(&["GET", VALUE]).contains("org_harbour_works"), "it is in the snapshot");
        world.redis().save();
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        world.expect_revoked_everywhere(Instant::now()).await;
        world.redis().restore();
        // One that has forgotten everything, and one that has never known anything.
        world.add_node().await;
        for node in [2, 0, 1] {
            world.check_at(node, ADA, WORKS).await?.is_not_a_member();
            assert_eq!(world.list_at(node, ADA).await?.slugs().len(), 11);
        }
        assert!(!world.redis().query(&["GET", VALUE]).contains("org_harbour_works"), "overwritten");
        world.until_all_ready().await;
        Ok(())
    })
    .await;
}

/// Everything is gone at once, and nobody's connection even breaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_costs_no_answer_and_no_revocation() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        for node in [0, 1] {
            world.check_at(node, ADA, WORKS).await?.is_member();
        }
        let crowd = Crowd::gather(world);
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        world.redis().query(&["FLUSHALL"]);
        world.expect_revoked_everywhere(Instant::now()).await;
        world.until_all_ready().await;
        crowd.was_always_answered().await
    })
    .await;
}

/// What others may have written under our key, or what became of ours.
const FOREIGN: [&str; 9] = [
    "[]",
    "null",
    "{}",
    "\"[]\"",
    "",
    "not json",
    r#"[{"organizationId":"org_x","organizationSlug":"x","organizationName":"X","role":"org:member","imageUrl":null}]"#,
    r#"[{"organizationId":"org_x"}]"#,
    "[null]",
];

/// Nobody vouches for it, so it is a miss, and overwritten. Never "no organizations".
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_foreign_value_is_a_miss_and_is_overwritten() {
    run_test(Deployment::Redis(1), Setup { local_bytes_max: 0, ..Setup::default() }, async |world: &mut World| {
        world.list(ADA).await?;
        let ours = world.redis().query(&["GET", VALUE]);
        // Over our value, whose guard is there; and where nothing was.
        for (n, foreign) in FOREIGN.iter().flat_map(|foreign| [foreign, foreign]).enumerate() {
            if n % 2 == 1 {
                world.redis().query(&["DEL", GUARD]);
            }
            world.redis().query(&["SET", VALUE, foreign]);
            let list = world.list(ADA).await?;
            assert_eq!((list.slugs().len(), list.header("cache-status")), (12, "rollcall; fwd=miss; stored"), "{foreign}");
            assert_eq!(world.redis().query(&["GET", VALUE]), ours, "{foreign}");
        }
        Ok(())
    })
    .await;
}

/// One organization is cut out of our value, or the guard is another value's: what the digest does not vouch for is a miss.
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_value_of_ours_that_was_changed_is_a_miss_and_is_overwritten() {
    run_test(Deployment::Redis(1), Setup { local_bytes_max: 0, ..Setup::default() }, async |world: &mut World| {
        world.list(ADA).await?;
        world.list("user_mei").await?;
        let ours = world.redis().query(&["GET", VALUE]);
        let meis = world.redis().query(&["GET", "user-orgs:user_mei"]);
        let mut rows: Vec<serde_json::Value> = serde_json::from_str(&ours)?;
        rows.remove(0);
        for changed in
            [serde_json::to_string(&rows)?, meis, ours.replace("org:member", "org:admin"), ours[..ours.len() / 2].into()]
        {
            world.redis().query(&["SET", VALUE, &changed]);
            assert_eq!(world.list(ADA).await?.slugs().len(), 12, "{changed}");
            assert_eq!(world.redis().query(&["GET", VALUE]), ours);
        }
        world.redis().query(&["HSET", GUARD, "digest", "00000000000000000000000000000000"]);
        assert_eq!(world.list(ADA).await?.header("cache-status"), "rollcall; fwd=miss; stored");
        Ok(())
    })
    .await;
}

/// Keys of another type altogether: nothing can be landed there, and everybody is answered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn i8_keys_of_a_foreign_type_cost_the_shared_copy_and_never_an_answer() {
    run_test(Deployment::Redis(1), Setup { local_bytes_max: 0, ..Setup::default() }, async |world: &mut World| {
        world.redis().query(&["RPUSH", VALUE, "x"]);
        assert_eq!(world.list(ADA).await?.slugs().len(), 12);
        world.redis().query(&["DEL", VALUE, GUARD]);
        world.redis().query(&["SET", GUARD, "x"]);
        assert_eq!(world.list(ADA).await?.slugs().len(), 12);
        // A change makes room for ours.
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        until("a value of ours", async || {
            (world.list(ADA).await.ok()?.header("cache-status") == "rollcall; hit; detail=shared").then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

/// Nobody tells the nodes; they look at Redis often enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_del_is_noticed_within_the_local_age() {
    let mut setup = Setup::default();
    setup.bounds.local_age_max = Duration::from_millis(500);
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        for node in [0, 1] {
            assert_eq!(world.list_at(node, ADA).await?.slugs().len(), 12);
        }
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.redis().query(&["DEL", VALUE]), "1");
        let deleted = Instant::now();
        for node in [0, 1] {
            until("the DEL to be noticed", async || (world.list_at(node, ADA).await.ok()?.slugs().len() == 11).then_some(()))
                .await;
        }
        // Half a second, and the rest for a machine that stands still; without a limit it were the TTL of five minutes.
        assert!(deleted.elapsed() < Duration::from_secs(5), "{:?}", deleted.elapsed());
        Ok(())
    })
    .await;
}

/// A full Redis that evicts nothing refuses every ordinary write.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_takes_webhooks_and_costs_only_the_shared_copies() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.check_at(1, ADA, WORKS).await?.is_member();
        world.redis().query(&["CONFIG", "SET", "maxmemory", "1"]);
        assert!(world.redis().query(&["SET", "x", "x"]).starts_with("OOM"));
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        world.expect_revoked_everywhere(Instant::now()).await;
        for (user, count) in [(ADA, 11), ("user_mei", 3), ("user_tomas", 0)] {
            for node in [0, 1] {
                assert_eq!(world.list_at(node, user).await?.slugs().len(), count);
            }
        }
        assert_eq!(world.redis().query(&["EXISTS", VALUE, "user-orgs:user_mei"]), "0");
        world.until_all_ready().await;
        world.redis().query(&["CONFIG", "SET", "maxmemory", "0"]);
        world.evict_at(0, ADA).await?;
        // Values land again.
        world.until_shared(ADA).await;
        Ok(())
    })
    .await;
}
