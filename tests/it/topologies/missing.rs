//! A replica that is awaited and away, and one that is there and not awaited. I2, I6.

use std::time::Instant;

use serde_json::json;

use super::watch::{ADA, BOUND, WORKS, Watch, Yes};
use crate::world::rollcall::Rollcall;
use crate::world::sentinels::replicated;
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::wait::{until, until_eq};

/// The replica may be the next primary, and the node may be beside one that was deposed: nothing is answered from memory, no
/// webhook acknowledged, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn i2_i6_while_an_awaited_replica_is_away_hits_end_webhooks_stay_open_and_clerk_is_asked() {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Bare, setup, async |world: &mut World| {
        let servers = replicated(2).await;
        world.add_node_on(&servers[0].url(), 2).await;
        let confirming = json!({ "status": "confirming", "awaited": 2, "confirming": 2, "connected": 2 });
        until("both replicas to confirm", async || {
            (world.told_of(0).await.ok()?["stream"]["replicas"] == confirming).then_some(())
        })
        .await;
        world.learn_by_heart(0).await;
        let watch = Watch::begin(world, 0, &[WORKS, "northfold-bakery"]);
        until("what is known by heart to be older than the bound", async || {
            (world.ask_of_ada(0, WORKS).await.ok()?.number("rollcall-age") > 1_100).then_some(())
        })
        .await;
        servers[1].pause();
        let paused = Instant::now();
        until("answers to come from Clerk", async || {
            let answer = world.ask_of_ada(0, WORKS).await.ok()?;
            answer.is_member();
            answer.header("cache-status").contains("fwd").then_some(())
        })
        .await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        let deliveries = world.deliver_to(0, &left).await;
        assert!(deliveries.iter().all(|delivery| delivery.status == Some(503)), "{deliveries:?}");
        assert_eq!(world.rows_of_ada().await, ["pending "]);
        world.ask_of_ada(0, WORKS).await?.is_not_a_member();
        world.ask_of_ada(0, "northfold-bakery").await?.is_member();
        until("the other replica to confirm by itself", async || {
            let told = world.told_of(0).await.ok()?;
            assert_eq!(told["status"], "degraded");
            let replicas = &told["stream"]["replicas"];
            let found = [&replicas["status"], &replicas["awaited"], &replicas["confirming"]];
            (found == [&json!("missing"), &json!(2), &json!(1)]).then_some(())
        })
        .await;
        until("the bound to pass", async || (paused.elapsed() > BOUND * 2).then_some(())).await;
        let yes = watch.end().await;
        // A reading is good by itself for as long as the bound; what is older needs the stream to vouch for it.
        let is_vouched_for = |yes: &&Yes| yes.hit_age.is_some_and(|age| age > BOUND);
        let last = yes.iter().filter(is_vouched_for).map(|yes| yes.began.saturating_duration_since(paused)).max();
        println!("the last hit on an older reading was asked for {last:?} after the replica was gone");
        assert!(last.expect("hits before") < BOUND, "{last:?}");

        servers[1].resume();
        until("the worker to apply it", async || (world.rows_of_ada().await == ["applied worker"]).then_some(())).await;
        world.until_ready(0).await;
        world.ask_of_ada(0, WORKS).await?.is_not_a_member();
        until("hits again", async || {
            let answer = world.ask_of_ada(0, "northfold-bakery").await.ok()?;
            answer.header("cache-status").ends_with("detail=local").then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

/// It may be promoted without what was acknowledged. Nothing stops for it, so that replicas can be added and then awaited;
/// but nobody is told that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_awaited_degrades_and_stops_nothing() {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Bare, setup, async |world: &mut World| {
        let servers = replicated(2).await;
        world.start_node_on(&servers[0].url(), 1).await;
        let told = until("it to be told", async || {
            let told = world.told_of(0).await.ok()?;
            (told["stream"]["replicas"]["status"] == "not-awaited").then_some(told)
        })
        .await;
        assert_eq!(told["status"], "degraded");
        assert_eq!((&told["stream"]["replicas"]["awaited"], &told["stream"]["replicas"]["connected"]), (&json!(1), &json!(2)));
        world.learn_by_heart(0).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        world.ask_of_ada(0, WORKS).await?.is_not_a_member();
        // A connection that broke unnoticed is no replica more: only one server is left here.
        assert_eq!(servers[2].query(&["REPLICAOF", "NO", "ONE"]), "OK");
        world.until_ready(0).await;
        until("it to be told", async || {
            (world.told_of(0).await.ok()?["stream"]["replicas"]["status"] == "confirming").then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

/// Each change of it is one line, whatever happens meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_goes_and_comes_is_a_line_in_the_log_each_time() {
    let mut servers = replicated(1).await;
    let (replica, primary) = (servers.remove(1), servers.remove(0));
    let node = Rollcall::serve_on(primary, rollcall::dev::World::small(), &[("ROLLCALL_REDIS_REPLICAS", "1")]).await;
    let told = async || {
        let request = node.http.get(format!("{}/readyz", node.url)).bearer_auth(crate::world::service::ADMIN_KEY);
        let told: serde_json::Value = request.send().await.ok()?.json().await.ok()?;
        told["stream"]["replicas"]["status"].as_str().map(str::to_owned)
    };
    for _ in 0..2 {
        replica.pause();
        until("it to be missed", async || (told().await? == "missing").then_some(())).await;
        replica.resume();
        until("it to confirm again", async || (told().await? == "confirming").then_some(())).await;
    }
    let count = |words: &str| node.log().lines().filter(|line| line.contains(words)).count();
    // Where the machine stands still for long, once more.
    let lines = || (count("an awaited replica of Redis is missing"), count("is awaited, and confirms"));
    until_eq("the lines", true, || lines().0 >= 2 && lines().1 >= 2).await;
    let metric = |of: &str| format!("rollcall_redis_replicas{{of=\"{of}\"}}");
    for of in ["awaited", "confirming", "connected"] {
        until(&format!("one {of}"), async || (node.metric(&metric(of)).await.ok()? == 1).then_some(())).await;
    }
}

/// What waiting costs, in turn so that both meet the same machine. `ROLLCALL_TEST_ACKS=2000` for a figure to quote.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_every_awaited_replica_at_once() {
    let acks: usize = std::env::var("ROLLCALL_TEST_ACKS").map_or(80, |acks| acks.parse().expect("a number"));
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Bare, setup, async |world: &mut World| {
        let servers = replicated(2).await;
        world.add_node_on(&servers[0].url(), 0).await;
        world.add_node_on(&servers[0].url(), 2).await;
        let stream = |server: usize| servers[server].query(&["XINFO", "STREAM", "user-orgs:~changes"]);
        let last =
            |server: usize| stream(server).lines().skip_while(|line| *line != "last-generated-id").nth(1).map(str::to_owned);
        let mut took = [Vec::new(), Vec::new()];
        for n in 0..acks {
            // Each node has as many revocations as returns.
            let node = n / 2 % 2;
            let done = world.change(|clerk| match clerk.membership(ADA, WORKS) {
                Some(_) => clerk.revoke(ADA, WORKS),
                None => clerk.grant(ADA, WORKS, "org:member"),
            });
            let before = last(0);
            took[node].extend(world.deliver_until_taken(node, &done).await.iter().map(|delivery| delivery.duration));
            if node == 1 {
                assert!(last(0) > before, "{n}");
                assert_eq!([last(1), last(2)], [last(0), last(0)], "acknowledged, and not on every replica");
            }
        }
        let [alone, awaited] = took.map(|mut took| {
            took.sort_unstable();
            (took[took.len() / 2], took[took.len() * 99 / 100])
        });
        println!(
            "{acks} acks: none awaited p50 {:?} p99 {:?}; two awaited p50 {:?} p99 {:?}; ratio of p50 {:.2}",
            alone.0,
            alone.1,
            awaited.0,
            awaited.1,
            awaited.0.as_secs_f64() / alone.0.as_secs_f64()
        );
        Ok(())
    })
    .await;
}
