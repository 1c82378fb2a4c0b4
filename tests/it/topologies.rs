//! Redis with replicas, and Redis that fails over: what is confirmed is on the replicas, and a node follows the primary that
//! the sentinels name. I2, I5, I6.

pub mod deposed;
mod failover;
mod missing;
mod sentinels;
mod watch;

use rollcall::clock;
use rollcall::ports::{Break, ChangeStream};

use crate::world::redis_node::{RedisNode, change};
use crate::world::sentinels::{Sentinels, replicated};
use crate::world::wait::{until, until_eq};

/// Its replica may be the next primary: what it does not have may be lost.
#[tokio::test(flavor = "multi_thread")]
async fn i2_nothing_is_confirmed_and_nothing_vouched_for_while_an_awaited_replica_is_away() {
    let servers = replicated(1).await;
    let node = RedisNode::waiting_for(&servers[0].url(), 1).await;
    node.caught_up().await;
    node.append(&change(1)).await;
    assert!(servers[1].query(&["XRANGE", "user-orgs:~changes", "-", "+"]).contains("user_1"), "the replica has it");

    servers[1].pause();
    assert!(node.stream.append(&change(2)).await.is_err(), "nobody but the primary has it");
    let stopped = until("the fence to stop", async || {
        let (fence, now) = (node.fence_at(), clock::now());
        (now.since(fence) > std::time::Duration::from_millis(600)).then_some(fence)
    })
    .await;
    assert!(node.stream.append(&change(2)).await.is_err());
    assert_eq!(node.fence_at(), stopped);
    servers[1].resume();
    until("the replica to follow again", async || node.stream.append(&change(2)).await.ok()).await;
    node.caught_up().await;
    assert!(node.heard.users().contains(&"user_2".to_owned()));
}

/// The same is no matter to who awaits none.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_nobody_awaits_may_be_away() {
    let servers = replicated(1).await;
    servers[1].pause();
    let node = RedisNode::started(&servers[0].url()).await;
    node.append(&change(1)).await;
    node.caught_up().await;
    servers[1].resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_the_primary_that_the_sentinels_name() {
    let mut redis = Sentinels::start(1).await;
    let node = RedisNode::started(&redis.url()).await;
    node.append(&change(1)).await;
    node.caught_up().await;
    redis.servers[0].kill();
    let promoted = redis.promoted_after(0).await;
    node.broke(Break::PrimaryChanged).await;
    until("an append to be confirmed again", async || node.stream.append(&change(2)).await.ok()).await;
    node.caught_up().await;
    assert!(redis.servers[promoted].query(&["XRANGE", "user-orgs:~changes", "-", "+"]).contains("user_2"));
    until_eq("both changes", true, || ["user_1", "user_2"].iter().all(|user| node.heard.users().contains(&user.to_string())))
        .await;
}
