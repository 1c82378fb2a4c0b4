//! Redis Cluster: the values are spread over masters, the change stream is on one. Slots move, masters fail, and their clocks
//! differ; no answer becomes wrong by it. I2, I5, I6, I7.

mod failover;
mod failures;
mod moves;
mod partition;
mod replicas;
mod round;
mod watch;

use std::time::Duration;

use rollcall::dev::Done;

use crate::world::cluster::Cluster;
use crate::world::service::{Setup, World};
use crate::world::wait::{until, until_within};

const WORKS: &str = "harbour-works";
const STREAM: &str = "user-orgs:~changes";
const CROWD: usize = 12;
/// A master may have to be replaced first, and a machine may be busy.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

fn setup(cluster: &mut Cluster) -> Setup {
    let redis_url = Some(cluster.url());
    Setup { redis: Some(cluster.take_stream_master()), redis_url, ..Setup::crowded(CROWD) }
}

fn path(user: &str) -> String {
    format!("/v1/users/{user}/orgs/{WORKS}")
}

fn value(user: &str) -> String {
    format!("user-orgs:{user}")
}

fn guard(user: &str) -> String {
    format!("{{user-orgs:{user}}}:guard")
}

/// The user is a member no more, and the message of it is sent until it is taken, as Svix does: a busy disk may refuse it.
async fn revoke(world: &World, user: &str) {
    revoke_at(world, 0, user).await;
}

/// The same at this node; answers what happened.
async fn revoke_at(world: &World, node: usize, user: &str) -> Done {
    let left = world.change(|clerk| clerk.revoke(user, WORKS));
    for message in &left.messages {
        let endpoint = world.nodes[node].webhooks();
        let deliver = async || world.clerk.sender().deliver_now(message, &endpoint).await.is_taken().then_some(());
        until_within(TAKEN_WITHIN, "the message to be taken", deliver).await;
    }
    left
}

async fn is_refused_everywhere(world: &World, user: &str) {
    for node in 0..world.nodes.len() {
        until("the revocation", async || (world.ask(node, &path(user)).await.ok()?.status == 404).then_some(())).await;
    }
}
