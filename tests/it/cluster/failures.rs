//! Masters that fail: of values, of the stream; and a master that is left alone with what it has.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::watch::Watch;
use super::{CROWD, STREAM, WORKS, guard, is_refused_everywhere, path, revoke, setup, value};
use crate::world::asking::crowd;
use crate::world::cluster::Cluster;
use crate::world::redis_server::query;
use crate::world::service::{Deployment, World, run_test};
use crate::world::wait::{until, until_eq};

const GIVES_UP_AFTER: Duration = Duration::from_secs(20);

/// As after a failover of a master of values that lost the last it acknowledged: what every node remembers refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_old_value_that_comes_back_with_a_master_of_values_is_no_answer() {
    let mut cluster = Cluster::start(0).await;
    let setup = setup(&mut cluster);
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let stream = cluster.first_owner(STREAM);
        let user = (0..CROWD).map(crowd).find(|user| cluster.first_owner(&value(user)) != stream).expect("a user elsewhere");
        world.ask(0, &path(&user)).await?.is_member();
        let master = cluster.port(cluster.first_owner(&value(&user)));
        let old = query(master, &["GET", &value(&user)]);
        let kept = query(master, &["HGETALL", &guard(&user)]);
        let heard = world.heard(1).await;
        revoke(world, &user).await;
        world.until_heard_more(1, heard).await;
        world.origin_lags();
        assert_eq!(query(master, &["DEL", &value(&user), &guard(&user)]), "1");
        assert_eq!(query(master, &["SET", &value(&user), &old, "EX", "300"]), "OK");
        let fields: Vec<_> = kept.lines().collect();
        assert!(fields.contains(&"digest"), "{fields:?}");
        query(master, &[&["HSET", &guard(&user)], fields.as_slice()].concat());
        for node in 0..2 {
            for _ in 0..3 {
                world.ask(node, &path(&user)).await?.is_not_a_member();
            }
        }
        Ok(())
    })
    .await;
}

/// The stream's master stands still, and its replica takes its place; then it comes back with what was true before.
#[tokio::test(flavor = "multi_thread")]
async fn i6_the_master_of_the_stream_fails_and_nobody_says_yes_beyond_the_bound() {
    let mut cluster = Cluster::start(1).await;
    let setup = setup(&mut cluster);
    let bound = setup.bounds.staleness;
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let users: Vec<_> = (0..4).map(crowd).collect();
        for user in &users {
            for node in 0..2 {
                world.ask(node, &path(user)).await?.is_member();
            }
        }
        let watch = Watch::begin(world, &users, bound);
        world.redis_ref().pause();
        let failed = Instant::now();
        for (place, user) in users.iter().enumerate() {
            revoke(world, user).await;
            watch.acknowledged(place);
        }
        println!("taken again {:?} after the master stood still", failed.elapsed());
        for user in &users {
            is_refused_everywhere(world, user).await;
        }
        watch.until_judged().await;
        world.redis_ref().resume();
        let port = world.redis_ref().port();
        until("the old master to follow", async || query(port, &["INFO"]).contains("role:slave").then_some(())).await;
        cluster.until_whole().await;
        for user in &users {
            is_refused_everywhere(world, user).await;
        }
        let seen = watch.end().await;
        println!("{seen:?}");
        assert_eq!(seen.wrong, 0, "{seen:?}");
        Ok(())
    })
    .await;
}

/// The stream's master goes on answering PING and INFO: only a question with a key shows that it speaks for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_stream_left_with_a_minority_vouches_for_nothing() {
    let mut cluster = Cluster::start(0).await;
    let setup = setup(&mut cluster);
    let bound = setup.bounds.staleness;
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let user = crowd(0);
        for node in 0..2 {
            world.ask(node, &path(&user)).await?.is_member();
            world.ask(node, &path(&user)).await?.came("hit; detail=local");
        }
        let others: Vec<_> = cluster.servers.iter().flatten().collect();
        others.iter().for_each(|server| server.pause());
        let stream = world.redis_ref().port();
        let is_down = || query(stream, &["CLUSTER", "INFO"]).contains("cluster_state:fail");
        until_eq("the minority to know that it is one", true, is_down).await;
        let down = Instant::now();
        // Clerk alone knows now, and no message comes: who asks it says so, and nobody answers from memory any more.
        world.change(|clerk| clerk.revoke(&user, WORKS));
        let last = join_all((0..2).map(|node| last_yes(world, node, &user))).await;
        let last = last.into_iter().max().flatten().map(|asked| asked.saturating_duration_since(down));
        println!("the last yes was asked for {last:?} after the minority knew, with a bound of {bound:?}");
        assert!(last.is_none_or(|last| last < bound), "{last:?}");
        others.iter().for_each(|server| server.resume());
        cluster.until_well().await;
        for node in 0..2 {
            world.until_ready(node).await;
        }
        Ok(())
    })
    .await;
}

/// Asks until the answer is no more from memory; when the last that was had been asked for.
async fn last_yes(world: &World, node: usize, user: &str) -> Option<Instant> {
    let (began, mut last) = (Instant::now(), None);
    loop {
        let asked = Instant::now();
        match world.ask(node, &path(user)).await.map(|answer| answer.status) {
            Ok(404) => return last,
            Ok(200) => last = Some(asked),
            _ => {}
        }
        assert!(began.elapsed() < GIVES_UP_AFTER, "node {node} answers from memory, or not at all");
        sleep(Duration::from_millis(2)).await;
    }
}
