//! The whole way on a cluster that is well, by whatever clock each master has; and what start looks at.

use rollcall::redis::StartError;

use super::{CROWD, WORKS, is_refused_everywhere, path, revoke, setup, value};
use crate::world::asking::crowd;
use crate::world::cluster::Cluster;
use crate::world::redis_node::connect;
use crate::world::redis_server::query;
use crate::world::service::{Deployment, World, run_test};
use crate::world::valkey;

async fn whole_round(mut cluster: Cluster) {
    let setup = setup(&mut cluster);
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        for user in (0..CROWD).map(crowd) {
            world.ask(0, &path(&user)).await?.is_member();
            let answer = world.ask(1, &path(&user)).await?;
            answer.came("hit; detail=shared");
            assert!(answer.number("rollcall-age") < 10_000, "{answer:?}");
            world.ask(1, &path(&user)).await?.came("hit; detail=local");
        }
        let values = |port| query(port, &["KEYS", "user-orgs:user_*"]).lines().filter(|key| !key.is_empty()).count();
        let spread = [0, 1, 2].map(|number| values(cluster.port(number)));
        assert_eq!((spread.iter().sum::<usize>(), spread.contains(&0)), (CROWD, false), "{spread:?}");
        for user in (0..CROWD).map(crowd) {
            revoke(world, &user).await;
            // Read again at once it may be, by who was in use.
            assert!(!cluster.query_owner(&["GET", &value(&user)]).contains(WORKS), "the value is gone");
            is_refused_everywhere(world, &user).await;
        }
        assert_eq!(world.evict("user_ada").await?.status, 204);
        let nodes = cluster.query_owner(&["ZCARD", "user-orgs:~nodes"]);
        assert_eq!(nodes, "2", "both are heard");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_on_every_master_are_read_and_revoked_on_every_node() {
    whole_round(Cluster::start(0).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_a_cluster_of_valkeys() {
    let Some(program) = valkey::program() else { return };
    whole_round(Cluster::start_program(program, 0).await).await;
}

/// Readings are dated by the clock of the stream's master, whoever has the value.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_reading_has_its_age_though_the_clocks_of_the_masters_differ() {
    for seconds in [-100, 100] {
        let mut cluster = Cluster::start_apart(seconds * 1_000).await;
        let setup = setup(&mut cluster);
        run_test(Deployment::Redis(2), setup, async |world: &mut World| {
            for user in (0..CROWD).map(crowd) {
                world.ask(0, &path(&user)).await?.is_member();
                let answer = world.ask(1, &path(&user)).await?;
                answer.came("hit; detail=shared");
                assert!(answer.number("rollcall-age") < 10_000, "{seconds} s apart: {answer:?}");
                let life: u64 = cluster.query_owner(&["PTTL", &value(&user)]).parse()?;
                assert!((280_000..=300_000).contains(&life), "{seconds} s apart: {life}");
            }
            Ok(())
        })
        .await;
    }
}

/// Where servers have other names for nodes than for each other: whoever is sent elsewhere goes on by the name it asked by.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_tell_ports_alone_are_found_also_while_slots_move() {
    let mut cluster = Cluster::start(0).await;
    for port in cluster.ports() {
        assert_eq!(query(*port, &["CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint"]), "OK");
    }
    let setup = setup(&mut cluster);
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let user = crowd(0);
        let from = cluster.first_owner(&value(&user));
        let (slot, to) = (cluster.slot(&value(&user)), (from + 1) % 3);
        for node in 0..2 {
            world.ask(node, &path(&user)).await?.is_member();
        }
        cluster.begin_move(&slot, from, to);
        cluster.move_keys(&[&value(&user)], from, to);
        let left = world.change(|clerk| clerk.revoke(&user, WORKS));
        world.deliver(&left).await;
        is_refused_everywhere(world, &user).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_master_is_looked_at_and_one_alone_is_refused() {
    let cluster = Cluster::start(0).await;
    let redis = connect(&cluster.url()).await.expect("a cluster to rest on");
    assert_eq!(redis.check().await, Ok(()));
    let alone = connect(&format!("redis://127.0.0.1:{}", cluster.port(0))).await.map(|_| ());
    assert_eq!(alone.err(), Some(StartError::InCluster));
    for number in 0..3 {
        assert_eq!(query(cluster.port(number), &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]), "OK");
        assert!(matches!(redis.check().await, Err(StartError::EvictionPolicy { .. })), "master {number}");
        assert_eq!(query(cluster.port(number), &["CONFIG", "SET", "maxmemory-policy", "noeviction"]), "OK");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_found_on_every_master() {
    let cluster = Cluster::start(0).await;
    let redis = connect(&cluster.url()).await.expect("a cluster to rest on");
    for user in (0..CROWD).map(crowd) {
        let owner = cluster.port(cluster.first_owner(&value(&user)));
        assert_eq!(query(owner, &["SET", &value(&user), "[]"]), "OK");
    }
    let (mut walk, mut users) = (redis.walk(), Vec::new());
    while let Some(step) = walk.step().await.expect("an answer") {
        users.extend(step.users.into_iter().map(|user| user.to_string()));
    }
    users.sort();
    assert_eq!(users, (0..CROWD).map(crowd).collect::<Vec<_>>());
}
