//! Slots that move: of values, step by step, and of the stream.

use std::time::{Duration, Instant};

use super::watch::Watch;
use super::{CROWD, STREAM, WORKS, guard, is_refused_everywhere, path, revoke, setup, value};
use crate::world::asking::crowd;
use crate::world::cluster::Cluster;
use crate::world::redis_server::query;
use crate::world::service::{Deployment, World, run_test};
use crate::world::wait::until;

/// In each state of the move: nothing moved yet, the value alone, both keys, and after it.
#[tokio::test(flavor = "multi_thread")]
async fn i2_a_slot_of_values_moves_and_nobody_notices() {
    let mut cluster = Cluster::start(0).await;
    let setup = setup(&mut cluster);
    let bound = setup.bounds.staleness;
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let mut slots: Vec<_> = (0..CROWD).map(crowd).map(|user| (cluster.slot(&value(&user)), user)).collect();
        slots.sort();
        slots.dedup_by(|a, b| a.0 == b.0);
        for (state, (slot, user)) in slots.into_iter().take(5).enumerate() {
            let from = cluster.first_owner(&value(&user));
            let to = (from + 1) % 3;
            for node in 0..2 {
                world.ask(node, &path(&user)).await?.is_member();
            }
            let watch = Watch::begin(world, std::slice::from_ref(&user), bound);
            cluster.begin_move(&slot, from, to);
            match state {
                0 => {}
                1 => cluster.move_keys(&[&value(&user)], from, to),
                2 => cluster.move_keys(&[&guard(&user)], from, to),
                3 => cluster.move_keys(&[&value(&user), &guard(&user)], from, to),
                _ => cluster.end_move(&slot, from, to),
            }
            revoke(world, &user).await;
            watch.acknowledged(0);
            is_refused_everywhere(world, &user).await;
            cluster.end_move(&slot, from, to);
            let arrived = query(cluster.port(to), &["GET", &value(&user)]);
            assert!(!arrived.contains(WORKS), "state {state}");
            watch.until_judged().await;
            watch.forgive();
            // Joined again, it is found at its new place.
            world.change(|clerk| clerk.grant(&user, WORKS, "org:member"));
            until("the value at its new place", async || {
                world.ask_with(0, &path(&user), &[("cache-control", "no-cache")]).await.ok()?;
                query(cluster.port(to), &["GET", &value(&user)]).contains(WORKS).then_some(())
            })
            .await;
            let seen = watch.end().await;
            assert_eq!((seen.failures, seen.wrong), (0, 0), "state {state}: {seen:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_the_slot_of_the_stream_moves_and_every_node_is_right_again_within_two_seconds() {
    let mut cluster = Cluster::start(0).await;
    let setup = setup(&mut cluster);
    let bound = setup.bounds.staleness;
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let [ada, kofi, mei] = [0, 1, 2].map(crowd);
        for user in [&ada, &kofi, &mei] {
            for node in 0..2 {
                world.ask(node, &path(user)).await?.is_member();
            }
        }
        revoke(world, &ada).await;
        let watch = Watch::begin(world, &[ada, kofi.clone()], bound);
        watch.acknowledged(0);
        let from = cluster.first_owner(STREAM);
        let (slot, to) = (cluster.slot(STREAM), (from + 1) % 3);
        cluster.begin_move(&slot, from, to);
        cluster.move_keys(&[STREAM], from, to);
        cluster.end_move(&slot, from, to);
        let moved = Instant::now();
        revoke(world, &kofi).await;
        watch.acknowledged(1);
        // How long the message took, on its way and on the disk, is no part of it.
        let delivered = Instant::now();
        is_refused_everywhere(world, &kofi).await;
        // Right again is who has read the stream at its new place to its end, and answers from memory by it.
        cluster.until_whole().await;
        for node in 0..2 {
            until("an answer from memory", async || {
                let headers = [("rollcall-max-lag", "300")];
                let answer = world.ask_with(node, &path(&mei), &headers).await.ok()?;
                (answer.header("cache-status") == "rollcall; hit; detail=local").then_some(())
            })
            .await;
        }
        let took = delivered.elapsed();
        println!("right again {:?} after the move, {took:?} after the message", moved.elapsed());
        assert!(took < Duration::from_secs(2), "{took:?}");
        watch.until_judged().await;
        let seen = watch.end().await;
        assert_eq!((seen.failures, seen.wrong), (0, 0), "{seen:?}");
        Ok(())
    })
    .await;
}
