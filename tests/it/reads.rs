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

/// A second node answers from its own memory, and stops within the bound of the acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_taken_by_one_node_is_effective_on_the_others() {
    run_test(Deployment::Redis(3), Setup::default(), async |world: &mut World| {
        for node in 0..3 {
            world.ask(node, "/v1/users/user_ada/orgs/harbour-works").await?.is_member();
        }
        assert_eq!(world.clerk.calls().of_user("user_ada"), 1, "the other nodes find it in Redis");
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        let acknowledged = std::time::Instant::now();
        for node in 0..3 {
            crate::world::wait::until("the revocation", async || {
                (world.ask(node, "/v1/users/user_ada/orgs/harbour-works").await.ok()?.status == 404).then_some(())
            })
            .await;
        }
        assert!(acknowledged.elapsed() < std::time::Duration::from_secs(1));
        Ok(())
    })
    .await;
}
