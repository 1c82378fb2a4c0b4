//! Session tokens where the end of a session may not have been heard: it is never taken for alive that is dead, nor called dead that
//! may be alive. I5, I8.

use rollcall::config::TokenKeys;
use rollcall::dev::SessionEnd;
use rollcall::protocol::freshness::Consistency;

use crate::context::{ask, decided, mint, of, session_of, within};
use crate::world::answer::Answer;
use crate::world::redis_proxy::RedisProxy;
use crate::world::service::{ADMIN_KEY, Deployment, Setup, World, run_test};
use crate::world::wait::until;

/// Ends the session of a token; it is acknowledged.
async fn end(world: &World, token: &str) {
    let ended = world.change(|clerk| clerk.end_session(&session_of(token), SessionEnd::Revoked));
    world.deliver(&ended).await;
}

/// The first answer of a node that finds anything out.
async fn found_out(world: &World, number: usize, token: &str) -> Answer {
    until("the node finds out", async || ask(world, number, token, "").await.ok().filter(|answer| answer.status != 503)).await
}

async fn tolerating(world: &World, token: &str, lag_ms: &str) -> anyhow::Result<Answer> {
    let request = world.http.get(format!("{}/v1/context", world.nodes[0].url())).bearer_auth(token);
    Answer::of(request.header("rollcall-max-lag", lag_ms).send().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_dead_session_outlives_an_empty_redis_and_a_restart_of_every_node() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        let (dead, alive) = (mint(world, &of("user_ada")), mint(world, &of("user_ada")));
        decided(&found_out(world, 0, &dead).await, "context");
        end(world, &dead).await;
        world.stop_nodes().await;
        world.redis().kill();
        world.redis().restart();
        for number in 0..2 {
            world.add_node().await;
            found_out(world, number, &dead).await.is_problem(401, "session-ended");
            decided(&found_out(world, number, &alive).await, "context");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_node_that_never_heard_the_stream_takes_no_token_and_calls_none_dead() {
    for consistency in [Consistency::Bounded, Consistency::Eventual] {
        let setup = Setup { consistency, ..Setup::default() };
        run_test(Deployment::Redis(1), setup, async |world: &mut World| {
            let (dead, alive) = (mint(world, &of("user_ada")), mint(world, &of("user_noor")));
            end(world, &dead).await;
            world.stop_nodes().await;
            world.redis().pause();
            let url = world.redis().url();
            world.start_node_on(&url, 0).await;
            for token in [&dead, &alive] {
                ask(world, 0, token, "").await?.could_not_find_out("shared-unavailable");
            }
            world.redis().resume();
            found_out(world, 0, &dead).await.is_problem(401, "session-ended");
            decided(&found_out(world, 0, &alive).await, "context");
            Ok(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_the_stream_goes_on_by_what_it_knows_and_tells_how_old_that_is() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let (dead, alive) = (mint(world, &of("user_ada")), mint(world, &within("user_ada", "harbour-works")));
        decided(&found_out(world, 0, &dead).await, "context");
        end(world, &dead).await;
        decided(&found_out(world, 0, &alive).await, "context");
        decided(&tolerating(world, &alive, "1000").await?, "context");
        world.redis().kill();
        until("the fence is lost", async || {
            // However much is tolerated: the deployment's bound is the limit.
            let answer = tolerating(world, &alive, "60000").await.ok()?;
            (answer.status != 200).then(|| answer.could_not_find_out("shared-unavailable"))
        })
        .await;
        ask(world, 0, &dead, "").await?.is_problem(401, "session-ended");
        for (query, decision) in [("", "context"), ("?org=harbour-works", "member"), ("?include=memberships", "context")] {
            let answer = ask(world, 0, &alive, query).await?;
            assert_eq!(decided(&answer, decision)["organization"]["role"], "org:admin");
            assert!(answer.number("rollcall-lag") > 1_000, "{answer:?}");
        }
        Ok(())
    })
    .await;
}

/// One process is never behind its own stream, as for any other read.
#[tokio::test(flavor = "multi_thread")]
async fn alone_no_context_lags() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for token in [mint(world, &of("user_ada")), mint(world, &within("user_ada", "harbour-works"))] {
            let answer = tolerating(world, &token, "0").await?;
            decided(&answer, "context");
            assert_eq!(answer.header("rollcall-lag"), "0");
        }
        Ok(())
    })
    .await;
}

/// The stream is lost while the origin is waited for: what was little enough when the request came no longer is.
#[tokio::test(flavor = "multi_thread")]
async fn i8_who_waited_is_told_of_a_lag_that_came_meanwhile() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let token = mint(world, &within("user_ada", "harbour-works"));
        let held = world.clerk.hold_next_answer_about("user_ada");
        let losing = async {
            held.reached().await?;
            world.redis_ref().pause();
            until("the stream to be lost", async || {
                (world.readiness().await.ok()?.json()["stream"]["lagMs"].as_u64()? > 600).then_some(())
            })
            .await;
            held.release();
            anyhow::Ok(())
        };
        let (answer, lost) = tokio::join!(tolerating(world, &token, "500"), losing);
        lost?;
        answer?.could_not_find_out("shared-unavailable");
        world.redis().resume();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_lag_is_known_tokens_are_taken_with_that_said_and_ends_are_heard_all_the_same() {
    let setup = Setup { consistency: Consistency::Eventual, ..Setup::default() };
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        let token = mint(world, &within("user_ada", "harbour-works"));
        for number in 0..2 {
            for query in ["", "?org=harbour-works"] {
                let answer = found_out(world, number, &token).await;
                decided(&answer, "context");
                assert_eq!(answer.header("rollcall-lag"), "unknown", "{query}");
            }
        }
        tolerating(world, &token, "999999999999").await?.could_not_find_out("shared-unavailable");
        end(world, &token).await;
        for number in 0..2 {
            until("the end is heard", async || {
                let answer = ask(world, number, &token, "").await.ok()?;
                (answer.status == 401).then(|| answer.is_problem(401, "session-ended"))
            })
            .await;
        }
        Ok(())
    })
    .await;
}

/// The token is good and the origin is slow; the session ends while it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_session_that_ends_while_its_memberships_are_read_is_refused() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let token = mint(world, &of("user_ada"));
        decided(&found_out(world, 0, &token).await, "context");
        let slow = world.clerk.hold_next_answer_about("user_ada");
        let asking = {
            let request = world.http.get(format!("{}/v1/context?org=harbour-works", world.nodes[0].url())).bearer_auth(&token);
            tokio::spawn(async move { Answer::of(request.send().await?).await })
        };
        slow.reached().await?;
        end(world, &token).await;
        slow.release();
        asking.await??.is_problem(401, "session-ended");
        Ok(())
    })
    .await;
}

/// The stream is longer than a page, and the end of a session is on the second, which does not come.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_part_of_the_stream_is_not_all_of_it() {
    const AGAIN: &str = "local one = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
        for _ = 1, 1100 do redis.call('XADD', KEYS[1], '*', unpack(one)) end return 'OK'";
    for consistency in [Consistency::Bounded, Consistency::Eventual] {
        let setup = Setup { consistency, ..Setup::default() };
        run_test(Deployment::Redis(1), setup, async |world: &mut World| {
            let token = mint(world, &of("user_ada"));
            assert_eq!(world.evict_at(0, "user_noor").await?.status, 204);
            assert_eq!(world.redis().query(&["EVAL", AGAIN, "1", "user-orgs:~changes"]), "OK");
            end(world, &token).await;
            assert_eq!(world.evict_at(0, "user_of_the_second_page").await?.status, 204);
            let proxy = RedisProxy::before(world.redis().port());
            proxy.hold(b"user_of_the_second_page");
            world.start_node_on(&proxy.url(), 0).await;
            proxy.until_holding_one().await;
            ask(world, 1, &token, "").await?.could_not_find_out("shared-unavailable");
            proxy.release();
            found_out(world, 1, &token).await.is_problem(401, "session-ended");
            Ok(())
        })
        .await;
    }
}

/// A token waits for the key that signed it, and meanwhile the stream is lost: what was good when it came is so no longer.
#[tokio::test(flavor = "multi_thread")]
async fn i6_an_answer_is_judged_when_it_is_given_not_when_its_token_came() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.add_node_with(|config| config.tokens.keys = TokenKeys::OfTheApi).await;
        world.ask(1, "/v1/users/user_ada/orgs/harbour-works").await?.is_member();
        let token = mint(world, &of("user_ada"));
        let slow = world.clerk.hold_next_answer();
        let asking = {
            let request = world.http.get(format!("{}/v1/context?org=harbour-works", world.nodes[1].url())).bearer_auth(&token);
            tokio::spawn(async move { Answer::of(request.send().await?).await })
        };
        slow.reached().await?;
        world.redis().pause();
        until("the fence is lost", async || {
            let request = world.http.get(format!("{}/readyz", world.nodes[1].url())).bearer_auth(ADMIN_KEY);
            let lag_ms = Answer::of(request.send().await.ok()?).await.ok()?.json()["stream"]["lagMs"].as_u64()?;
            (lag_ms > 1_000).then_some(())
        })
        .await;
        slow.release();
        let answer = asking.await??;
        // On a machine that stalls the key is given up first.
        assert!(answer.status == 503 || answer.number("rollcall-lag") > 1_000, "{answer:?}");
        world.redis().resume();
        Ok(())
    })
    .await;
}
