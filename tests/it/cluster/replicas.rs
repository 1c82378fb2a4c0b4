//! Awaited replicas in a cluster: one of the stream's master is away, or one of a master of values. I2, I6.

use serde_json::json;

use super::{CROWD, STREAM, WORKS, is_refused_everywhere, path, revoke, value};
use crate::world::asking::crowd;
use crate::world::cluster::Cluster;
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::wait::until;

/// Two nodes that wait for one replica of each master, and know everybody by heart.
async fn with_awaited_replicas(test: impl AsyncFnOnce(&mut World, &Cluster) -> anyhow::Result<()>) {
    let cluster = Cluster::start(1).await;
    run_test(Deployment::Bare, Setup::crowded(CROWD), async |world: &mut World| {
        for _ in 0..2 {
            world.add_node_on(&cluster.url(), 1).await;
        }
        for user in (0..CROWD).map(crowd) {
            for node in 0..2 {
                until_hit(world, node, &user).await;
            }
        }
        test(world, &cluster).await
    })
    .await;
}

async fn until_hit(world: &World, node: usize, user: &str) {
    until("an answer from memory", async || {
        let answer = world.ask(node, &path(user)).await.ok()?;
        answer.is_member();
        answer.header("cache-status").ends_with("detail=local").then_some(())
    })
    .await;
}

/// A user whose value is where the stream is, or elsewhere.
fn user_with(cluster: &Cluster, is_with_the_stream: bool) -> String {
    let stream = cluster.first_owner(STREAM);
    let is_meant = |user: &String| (cluster.first_owner(&value(user)) == stream) == is_with_the_stream;
    (0..CROWD).map(crowd).find(is_meant).expect("somebody")
}

/// The user is a member no more, and the message of it is refused, until it is in the journal: a busy disk may refuse it too.
async fn revoke_in_vain(world: &World, user: &str) {
    let left = world.change(|clerk| clerk.revoke(user, WORKS));
    until("the message to be open", async || {
        let deliveries = world.deliver_to(0, &left).await;
        assert!(deliveries.iter().all(|delivery| delivery.status == Some(503)), "{deliveries:?}");
        (world.told_of(0).await.ok()?["journal"]["open"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_i6_while_an_awaited_replica_of_the_streams_master_is_away_clerk_is_asked_and_webhooks_stay_open() {
    with_awaited_replicas(async |world: &mut World, cluster: &Cluster| {
        let replica = cluster.replica_of(cluster.first_owner(STREAM));
        let replica = cluster.servers[replica].as_ref().expect("it is here");
        let confirming = json!({ "status": "confirming", "awaited": 1, "confirming": 1, "connected": 1 });
        let is_confirmed = async || (world.told_of(0).await.ok()?["stream"]["replicas"] == confirming).then_some(());
        until("the replica to confirm", is_confirmed).await;
        let (left, stays) = (user_with(cluster, false), user_with(cluster, true));
        replica.pause();
        until("answers to come from Clerk", async || {
            let answer = world.ask(0, &path(&stays)).await.ok()?;
            answer.is_member();
            answer.header("cache-status").contains("fwd").then_some(())
        })
        .await;
        revoke_in_vain(world, &left).await;
        is_refused_everywhere(world, &left).await;
        let told = world.told_of(0).await?;
        let replicas = &told["stream"]["replicas"];
        assert_eq!(
            [&told["status"], &replicas["status"], &replicas["confirming"]],
            [&json!("degraded"), &json!("missing"), &json!(0)]
        );
        assert_eq!(world.metric_of(0, "rollcall_redis_replicas", "\"confirming\"").await, 0.0);

        replica.resume();
        world.until_ready(0).await;
        until("the replica to confirm again", is_confirmed).await;
        until("the worker to apply it", async || (world.told_of(0).await.ok()?["journal"]["open"] == 0).then_some(())).await;
        until_hit(world, 0, &stays).await;
        is_refused_everywhere(world, &left).await;
        Ok(())
    })
    .await;
}

/// The stream goes on, and with it everything from memory: who is revoked there is not acknowledged yet.
#[tokio::test(flavor = "multi_thread")]
async fn i2_while_an_awaited_replica_of_a_master_of_values_is_away_webhooks_about_its_users_stay_open() {
    with_awaited_replicas(async |world: &mut World, cluster: &Cluster| {
        let (there, here) = (user_with(cluster, false), user_with(cluster, true));
        let replica = cluster.replica_of(cluster.first_owner(&value(&there)));
        let replica = cluster.servers[replica].as_ref().expect("it is here");
        replica.pause();
        revoke_in_vain(world, &there).await;
        revoke(world, &here).await;
        is_refused_everywhere(world, &here).await;
        // Its master tells nobody that it waits in vain: what is open tells.
        until("the stream's master to say that all is well", async || {
            let told = world.told_of(0).await.ok()?;
            assert_eq!(told["journal"]["open"], 1);
            (told["status"] == "ready" && told["stream"]["replicas"]["status"] == "confirming").then_some(())
        })
        .await;
        replica.resume();
        is_refused_everywhere(world, &there).await;
        until("nothing to be open", async || (world.told_of(0).await.ok()?["journal"]["open"] == 0).then_some(())).await;
        Ok(())
    })
    .await;
}
