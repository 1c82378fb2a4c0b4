//! A primary that was deposed and goes on answering: what a node beside it may still say. I2, I6.

use std::time::{Duration, Instant};

use rollcall::clock;
use rollcall::ports::ChangeStream;
use rollcall::protocol::freshness::Bounds;

use super::watch::{ADA, BOUND, WORKS, Watch};
use crate::world::faulty_link::{FaultyLink, Trouble};
use crate::world::redis_node::{RedisNode, change};
use crate::world::sentinels::Sentinels;
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::wait::{until, until_eq};

/// The TTL where nothing else ends a wrong answer.
const TTL: Duration = Duration::from_secs(8);

fn setup() -> Setup {
    Setup { database: Database::Postgres, ..Setup::default() }
}

/// A node beside the first primary, and one that asks the sentinels; then a partition between the two, and another primary.
async fn part(world: &mut World, replicas: u32) -> (Sentinels, Watch) {
    let redis = Sentinels::start_behind_a_link(2).await;
    world.add_node_on(&redis.url(), replicas).await;
    world.add_node_on(&redis.servers[0].url(), replicas).await;
    world.learn_by_heart(0).await;
    world.learn_by_heart(1).await;
    redis.part();
    let watch = Watch::begin(world, 1, &[WORKS]);
    redis.promoted_after(0).await;
    (redis, watch)
}

/// Two nodes on one primary, each by the sentinels; then another primary is chosen, and the second node does not hear of it until
/// its links are healed.
pub async fn part_unheard(world: &mut World) -> (Sentinels, Vec<FaultyLink>) {
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
    links.iter().for_each(|link| link.trouble(Trouble::Cut));
    let promoted = redis.fail_over().await;
    let of_history = |field: &str| redis.servers[promoted].query(&["HGET", "{user-orgs:~changes}:history", field]);
    let replid = redis.servers[promoted].query(&["INFO", "replication"]);
    let replid = replid.lines().find_map(|line| line.trim().strip_prefix("master_replid:")).expect("an id").to_owned();
    until_eq("the first node to be there", (replid, "1".to_owned()), || (of_history("replid"), of_history("whole"))).await;
    world.learn_by_heart(0).await;
    (redis, links)
}

async fn deliver_until_taken(world: &World, node: usize, done: &rollcall::dev::Done) -> Instant {
    until("the message to be taken", async || {
        world.deliver_to(node, done).await.iter().all(|delivery| delivery.is_taken()).then(Instant::now)
    })
    .await
}

/// With every replica awaited nobody confirms what the deposed primary says, and the node beside it asks Clerk. Who is beside
/// the new one acknowledges nothing either while a replica is missing; that is for the operator to decide.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_node_beside_a_deposed_primary_does_not_say_yes_past_the_bound_where_all_replicas_are_awaited() {
    run_test(Deployment::Bare, setup(), async |world: &mut World| {
        let (redis, watch) = part(world, 2).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        for node in [0, 1] {
            let deliveries = world.deliver_to(node, &left).await;
            assert!(deliveries.iter().all(|delivery| delivery.status == Some(503)), "node {node}: {deliveries:?}");
        }
        // The operator lowers it to what the new primary has.
        world.nodes.remove(0).stop().await;
        world.add_node_on(&redis.url(), 1).await;
        let acknowledged = deliver_until_taken(world, 1, &left).await;
        until("the bound to pass, twice", async || (acknowledged.elapsed() > BOUND * 2).then_some(())).await;
        let late: Vec<_> = watch.end().await.into_iter().filter(|yes| yes.began > acknowledged + BOUND).collect();
        assert!(late.is_empty(), "{} late, first {:?}", late.len(), late[0]);
        world.ask_of_ada(0, WORKS).await?.is_not_a_member();
        Ok(())
    })
    .await;
}

/// What is left without the setting: the deposed primary's word is taken until readings age out, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_node_beside_a_deposed_primary_is_right_within_the_ttl_where_no_replica_is_awaited() {
    let bounds = Bounds { ttl: TTL, grace: Duration::ZERO, local_age_max: TTL, ..setup().bounds };
    run_test(Deployment::Bare, Setup { bounds, ..setup() }, async |world: &mut World| {
        let (_redis, watch) = part(world, 0).await;
        let changed = Instant::now();
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        let acknowledged = deliver_until_taken(world, 0, &left).await;
        until("the node beside it to be right", async || (world.ask_of_ada(1, WORKS).await.ok()?.status == 404).then_some(()))
            .await;
        let last = watch.end().await.iter().map(|yes| yes.began).max().expect("it said yes before");
        println!("yes for {:?} after the acknowledgement", last.saturating_duration_since(acknowledged));
        assert!(last < changed + TTL, "{:?} after the change", last - changed);
        Ok(())
    })
    .await;
}

/// It wakes and takes itself for the primary, until somebody tells it. Its replicas have left, so nobody confirms it.
#[tokio::test(flavor = "multi_thread")]
async fn i2_a_deposed_primary_that_wakes_confirms_nothing_where_all_replicas_are_awaited() {
    let redis = Sentinels::start(2).await;
    let node = RedisNode::waiting_for(&redis.servers[0].url(), 2).await;
    node.caught_up().await;
    redis.servers[0].pause();
    redis.promoted_after(0).await;
    let promoted = clock::now();
    redis.servers[0].resume();
    assert!(redis.servers[0].query(&["INFO"]).contains("role:master"), "nobody told it yet");
    until("some tries to fail", async || {
        let appended = node.stream.append(&change(1)).await;
        assert!(appended.is_err(), "confirmed, and lost");
        assert!(node.fence_at() < promoted, "it vouches for what it cannot know");
        (clock::now().since(promoted) > BOUND * 2).then_some(())
    })
    .await;
}

/// For a moment two primaries take what two nodes acknowledge. Whoever comes from the old one brings it along: the journal
/// has it, and is applied once more.
#[tokio::test(flavor = "multi_thread")]
async fn i2_what_was_acknowledged_at_a_deposed_primary_is_put_back_when_its_node_comes_over() {
    run_test(Deployment::Bare, setup(), async |world: &mut World| {
        let (_redis, links) = part_unheard(world).await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        for delivery in world.deliver_to(1, &left).await {
            assert_eq!(delivery.status, Some(204), "the old primary took it: {delivery:?}");
        }
        let known = world.ask_under("only-if-cached", &format!("/v1/users/{ADA}/orgs/{WORKS}")).await?;
        assert!([200, 504].contains(&known.status), "the first node has not heard: {known:?}");
        links.iter().for_each(FaultyLink::heal);
        let healed = Instant::now();
        until("the first node to hear of it", async || (world.ask_of_ada(0, WORKS).await.ok()?.status == 404).then_some(()))
            .await;
        println!("right {:?} after the second node could ask again", healed.elapsed());
        for node in [0, 1] {
            world.until_ready(node).await;
            world.ask_of_ada(node, WORKS).await?.is_not_a_member();
        }
        Ok(())
    })
    .await;
}
