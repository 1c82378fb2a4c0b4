//! A partition: the stream's master is alone with one node, the replica takes its place beside all others. I2, I6.

use std::time::Instant;

use super::watch::Watch;
use super::{CROWD, STREAM, is_refused_everywhere, path, revoke, revoke_at};
use crate::world::asking::crowd;
use crate::world::cluster::NODE_TIMEOUT;
use crate::world::parted_cluster::PartedCluster;
use crate::world::redis_server::query;
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::wait::until;

/// The node beside the master, and one on the other side.
const BESIDE: usize = 1;
const APART: usize = 0;
/// Who is revoked beside the master that is alone, then beside the new one; and who stays.
const LEFT_BESIDE: usize = 0;
const LEFT_APART: std::ops::Range<usize> = 1..4;
const STAYS: usize = 4;

/// Nobody says "yes" later than the bound after an acknowledgement; beside the master that is alone, than `cluster-node-timeout`
/// later. What is acknowledged there before it knows that it is alone is not lost.
async fn part_the_master_of_the_stream(arguments: &[&str]) {
    let redis = PartedCluster::start(arguments).await;
    run_test(Deployment::Bare, Setup::crowded(CROWD), async |world: &mut World| {
        let cluster = &redis.cluster;
        world.add_node_on(&redis.url_apart(), 0).await;
        world.add_node_on(&redis.url_beside(), 0).await;
        cluster.until_whole().await;
        let users: Vec<_> = (0..=STAYS).map(crowd).collect();
        for user in &users {
            for node in [APART, BESIDE] {
                world.ask(node, &path(user)).await?.is_member();
            }
        }
        let bound = world.bounds().staleness;
        let watched = &users[..STAYS];
        let apart = Watch::begin_at(&world.nodes[APART..=APART], world.http.clone(), watched, bound);
        let beside = Watch::begin_at(&world.nodes[BESIDE..=BESIDE], world.http.clone(), watched, bound + NODE_TIMEOUT);
        let acknowledged = |place: usize| [&apart, &beside].iter().for_each(|watch| watch.acknowledged(place));

        let master = cluster.first_owner(STREAM);
        let replica = cluster.replica_of(master);
        redis.part_nodes(master).await;
        // The master does not know yet that it will be alone.
        let left = revoke_at(world, BESIDE, &users[LEFT_BESIDE]).await;
        acknowledged(LEFT_BESIDE);
        redis.part_servers(master);
        let parted = Instant::now();
        cluster.until_promoted(replica).await;
        let promoted = parted.elapsed();
        for place in LEFT_APART {
            revoke(world, &users[place]).await;
            acknowledged(place);
        }
        println!("promoted {promoted:?} after the partition, all acknowledged after {:?}", parted.elapsed());
        apart.until_judged().await;
        beside.until_judged().await;
        for (side, watch) in [("apart", apart), ("beside", beside)] {
            let seen = watch.end().await;
            println!("{side}: {seen:?}");
            assert_eq!(seen.wrong, 0, "{side}: {seen:?}");
        }

        redis.join();
        let port = cluster.port(master);
        until("the old master to follow", async || query(port, &["INFO"]).contains("role:slave").then_some(())).await;
        cluster.until_well().await;
        for node in [APART, BESIDE] {
            world.until_ready(node).await;
            until("an answer from memory", async || {
                let answer = world.ask(node, &path(&users[STAYS])).await.ok()?;
                answer.is_member();
                (answer.header("cache-status") == "rollcall; hit; detail=local").then_some(())
            })
            .await;
        }
        let stream = query(cluster.port(replica), &["XRANGE", STREAM, "-", "+"]);
        assert!(stream.contains(&left.id), "what was acknowledged beside the old master is put back: {stream}");
        for user in watched {
            is_refused_everywhere(world, user).await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_beside_a_master_that_is_alone_nobody_says_yes_beyond_the_bound_and_the_node_timeout() {
    part_the_master_of_the_stream(&[]).await;
}

/// Then a question with a key is answered for as long as the partition lasts.
#[tokio::test(flavor = "multi_thread")]
async fn i6_the_same_where_a_master_that_is_alone_goes_on_being_read() {
    part_the_master_of_the_stream(&["--cluster-allow-reads-when-down", "yes"]).await;
}
