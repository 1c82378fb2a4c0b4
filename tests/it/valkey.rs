//! The same protocol on Valkey: two nodes, a revocation, a lost history, and what start refuses. I2, I5, I6.

use rollcall::redis::StartError;

use crate::world::redis_node::connect;
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::valkey;
use crate::world::wait::until;

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_reaches_every_node_and_outlives_a_valkey_that_loses_everything() {
    let Some(server) = valkey::start() else { return };
    let setup = Setup { redis: Some(server), ..Setup::default() };
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        assert!(world.redis().query(&["INFO"]).contains("server_name:valkey"));
        let path = format!("/v1/users/{ADA}/orgs/{WORKS}");
        world.ask(0, &path).await?.is_member();
        world.ask(1, &path).await?.came("hit; detail=shared");
        world.ask(1, &path).await?.came("hit; detail=local");
        assert!(world.redis().query(&["GET", "user-orgs:user_ada"]).contains(WORKS), "it is in the snapshot");
        world.redis().save();

        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        for node in 0..2 {
            until("the revocation", async || (world.ask(node, &path).await.ok()?.status == 404).then_some(())).await;
        }

        // Set back to before the revocation, which only the journal knows now; and Clerk's replicas still show the member.
        world.redis().restore();
        world.until_put_back(ADA).await;
        for node in 0..2 {
            world.ask(node, &path).await?.is_not_a_member();
        }
        assert!(world.redis().query(&["XRANGE", "user-orgs:~changes", "-", "+"]).contains("membershipDeleted"));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valkey_is_new_enough_and_refused_for_its_policy_and_its_role() {
    let Some(server) = valkey::start() else { return };
    let redis = connect(&server.url()).await.expect("a server to rest on");
    assert_eq!(redis.check().await, Ok(()));
    assert_eq!(server.query(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]), "OK");
    assert_eq!(redis.check().await, Err(StartError::EvictionPolicy { policy: "allkeys-lru".to_owned() }));
    assert_eq!(server.query(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]), "OK");
    assert_eq!(server.query(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
    assert_eq!(redis.check().await, Err(StartError::Replica));
}
