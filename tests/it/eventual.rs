//! `ROLLCALL_CONSISTENCY=eventual`: what is still promised on a Redis that cannot show how current its answers are, what every
//! answer says of itself, and that start refuses such a Redis unless it is asked for. I4, I5, I10.

use rollcall::dev::Faults;
use rollcall::protocol::freshness::Consistency;
use rollcall::redis::StartError;
use serde_json::json;

use crate::world::answer::Answer;
use crate::world::blind_proxy::{Blind, BlindProxy};
use crate::world::redis_node::connect;
use crate::world::redis_server::RedisServer;
use crate::world::sentinels::replicated;
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::wait::until;

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";
const CHECK: &str = "/v1/users/user_ada/orgs/harbour-works";

/// As Upstash or an Envoy may tell it: a version, and nothing of who answers.
const TOLD: &str = "# Server\r\nredis_version:6.2.6\r\nredis_mode:proxy\r\n";

fn eventual() -> Setup {
    Setup { consistency: Consistency::Eventual, ..Setup::default() }
}

#[track_caller]
fn is_labelled(answer: Answer) -> Answer {
    assert_eq!(answer.header("rollcall-lag"), "unknown", "{answer:?}");
    assert!(!answer.header("rollcall-age").is_empty() && !answer.header("age").is_empty(), "{answer:?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_labelled_and_none_comes_from_memory() {
    run_test(Deployment::Redis(2), eventual(), async |world: &mut World| {
        is_labelled(world.ask(0, CHECK).await?).came("fwd=miss; stored");
        for node in [0, 1, 0, 1] {
            let answer = is_labelled(world.ask(node, CHECK).await?);
            answer.came("hit; detail=shared");
            answer.is_member();
        }
        is_labelled(world.ask(0, "/v1/users/user_ada/orgs").await?);
        is_labelled(world.ask_with(0, CHECK, &[("cache-control", "no-cache")]).await?).came("fwd=request");
        is_labelled(world.ask(0, "/v1/users/user_ada/orgs/willow-ledger").await?).is_not_a_member();
        is_labelled(world.ask(0, "/v1/users/user_nobody/orgs").await?).is_user_unknown();
        let checks = json!([{ "userId": ADA, "org": WORKS }, { "userId": ADA, "org": "willow-ledger" }]);
        let answer = world.batch(checks).await?;
        assert_eq!(answer.results(), ["true member", "false not-a-member"]);
        assert_eq!(answer.header("rollcall-lag"), "unknown", "{answer:?}");

        // Redis away: nothing of it is remembered here, Clerk is asked.
        world.redis().pause();
        is_labelled(world.ask(0, CHECK).await?).came("fwd=miss; stored");
        world.redis().resume();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_revocation_evicts_and_outranks_a_lagging_origin_on_every_node() {
    run_test(Deployment::Redis(2), eventual(), async |world: &mut World| {
        world.ask(0, CHECK).await?.is_member();
        world.ask(1, CHECK).await?.came("hit; detail=shared");
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        is_labelled(world.ask(0, CHECK).await?).is_not_a_member();
        is_labelled(world.ask(1, CHECK).await?).is_not_a_member();
        // Clerk's replicas still show it; what passed the stream outranks them, here where it is read once a second.
        world.clerk.faults().set(Faults { reads_lag_ms: 600_000, ..Faults::default() });
        for node in 0..2 {
            until("the change to be known", async || {
                let answer = world.ask_with(node, CHECK, &[("cache-control", "no-cache")]).await.ok()?;
                (is_labelled(answer).status == 404).then_some(())
            })
            .await;
        }
        Ok(())
    })
    .await;
}

/// A lag that a caller names is met by nothing read before: the reading's own beginning is all that vouches for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lag_that_a_caller_names_is_met_by_a_new_reading() {
    run_test(Deployment::Redis(1), eventual(), async |world: &mut World| {
        world.ask(0, CHECK).await?.is_member();
        let demanding = [("rollcall-max-lag", "1")];
        until("a reading older than a millisecond", async || {
            let calls = world.clerk.calls().total();
            let answer = is_labelled(world.ask_with(0, CHECK, &demanding).await.ok()?);
            (world.clerk.calls().total() > calls && answer.number("rollcall-age") == 0).then_some(())
        })
        .await;
        world.ask(0, CHECK).await?.came("hit; detail=shared");
        Ok(())
    })
    .await;
}

/// A "no" older than a second is checked, and what cannot be found out is none.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_no_is_still_checked() {
    run_test(Deployment::Redis(1), eventual(), async |world: &mut World| {
        let path = "/v1/users/user_ada/orgs/willow-ledger";
        world.ask(0, path).await?.is_not_a_member();
        world.change(|clerk| clerk.grant(ADA, "willow-ledger", "org:member"));
        until("the new membership", async || (world.ask(0, path).await.ok()?.status == 200).then_some(())).await;
        world.origin_answers(503);
        world.ask(0, "/v1/users/user_kofi/orgs").await?.could_not_find_out("origin-unavailable");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_which_promise_there_is() {
    run_test(Deployment::Redis(1), eventual(), async |world: &mut World| {
        let parts = until("it to be ready", async || {
            let parts = world.readiness().await.ok()?.json();
            (parts["status"] == "ready").then_some(parts)
        })
        .await;
        assert_eq!(parts["shared"]["status"], "reachable", "{parts}");
        assert_eq!((&parts["stream"]["consistency"], &parts["stream"]["lagMs"]), (&json!("eventual"), &json!(null)), "{parts}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_say_who_answers_is_refused_with_the_setting_that_would_take_it() {
    let redis = RedisServer::start();
    let full = "redis_version:7.0.15\r\nrole:master\r\nmaster_replid:";
    let check = async |info: Option<&str>, expected: &str| {
        let blind = Blind { primary: redis.port(), reads: redis.port(), info: info.map(str::to_owned) };
        let refused = connect(&BlindProxy::start(blind).url()).await.map(|_| ()).expect_err(expected);
        let text = refused.to_string();
        assert!(matches!(refused, StartError::NoFence { .. }) && text.contains(expected), "{text}");
        assert!(text.contains("ROLLCALL_CONSISTENCY=eventual"), "{text}");
    };
    check(None, "INFO is refused: ERR").await;
    check(Some(TOLD), "INFO tells no role").await;
    check(Some(&format!("{full}\r\n")), "INFO tells no replication id").await;
    check(Some(&format!("{full}{}\r\n", "a".repeat(40))), "several servers answer at its address").await;
    assert_eq!(redis.query(&["DBSIZE"]), "0", "nothing was written");
}

/// The whole way through a proxy that answers INFO itself and reads from a replica.
#[tokio::test(flavor = "multi_thread")]
async fn i5_behind_a_proxy_that_reads_from_a_replica_a_revocation_still_ends_a_membership() {
    let mut servers = replicated(1).await;
    let (replica, primary) = (servers.pop().expect("a replica"), servers.pop().expect("a primary"));
    let proxy = BlindProxy::start(Blind { primary: primary.port(), reads: replica.port(), info: Some(TOLD.to_owned()) });
    let setup = Setup { redis: Some(primary), redis_url: Some(proxy.url()), ..eventual() };
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        is_labelled(world.ask(0, CHECK).await?).is_member();
        until("the replica to have the value", async || {
            let answer = is_labelled(world.ask(1, CHECK).await.ok()?);
            (answer.header("cache-status") == "rollcall; hit; detail=shared").then_some(())
        })
        .await;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        for node in 0..2 {
            until("the revocation", async || (is_labelled(world.ask(node, CHECK).await.ok()?).status == 404).then_some(())).await;
        }
        Ok(())
    })
    .await;
    drop(replica);
}
