//! The main job: ask, change the world, ask again.

use crate::world::service::{Deployment, Setup, World, run_on_both, run_test};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_a_check_a_revocation() {
    run_on_both(Setup::default, async |world: &mut World| {
        assert_eq!(world.list("user_ada").await?.slugs().len(), 12);
        assert_eq!(world.check("user_ada", "harbour-works").await?.is_member()["role"], "org:admin");
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        world.check("user_ada", "harbour-works").await?.is_not_a_member();
        assert_eq!(world.list("user_ada").await?.slugs().len(), 11);
        Ok(())
    })
    .await;
}

/// Whoever comes first does not wait for a connection: a quarter of a second is all there is for Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_ready_is_connected_to_where_the_values_are() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let before = world.metric_of(0, "rollcall_redis_connections_total", "").await;
        world.list("user_ada").await?;
        assert!(before >= 1.0);
        assert_eq!(world.metric_of(0, "rollcall_redis_connections_total", "").await, before);
        Ok(())
    })
    .await;
}

/// A second node answers from its own memory, and stops within the bound of the acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_taken_by_one_node_is_effective_on_the_others() {
    run_test(Deployment::Redis(3), Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        world.until_shared("user_ada").await;
        world.clerk.calls().reset();
        for node in 0..3 {
            world.ask(node, "/v1/users/user_ada/orgs/harbour-works").await?.is_member();
        }
        assert_eq!(world.clerk.calls().of_user("user_ada"), 0, "the other nodes find it in Redis");
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        let acknowledged = std::time::Instant::now();
        world.until_all_know(acknowledged, "/v1/users/user_ada/orgs/harbour-works", |answer| answer.status == 404).await;
        Ok(())
    })
    .await;
}
