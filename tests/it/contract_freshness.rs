//! How fresh an answer must be, in HTTP's own words: what a caller may demand, forbid and consent to.

use std::time::{Duration, Instant};

use crate::world::answer::Answer;
use crate::world::service::{Deployment, Setup, World, run_on_both, run_on_both_at_once, run_test};
use crate::world::wait::until;

/// Waits until the reading of this user's list is older than a second.
async fn until_a_second_old(world: &World, user: &str) {
    until("the reading to be a second old", async || (world.list(user).await.ok()?.number("rollcall-age") > 1_000).then_some(()))
        .await;
}

/// How far back the moment lies for which the answer is vouched: its reading's begin, or what the node has heard since.
fn distance(answer: &Answer) -> u64 {
    answer.number("rollcall-age").min(answer.number("rollcall-lag"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_asks_the_origin_each_time() {
    run_on_both(Setup::default, async |world: &mut World| {
        for (asked, directives) in ["no-cache", "max-age=0", "No-Cache", "private, no-cache"].into_iter().enumerate() {
            let answer = world.list_under(directives, "user_ada").await?;
            answer.came("fwd=request");
            assert_eq!((answer.number("age"), world.clerk.calls().of_user("user_ada")), (0, asked as u64 + 1));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_is_a_demand_also_where_nothing_young_enough_is_known() {
    let setup = || Setup::living(Duration::from_secs(1), Duration::from_secs(30));
    run_on_both_at_once(setup, async |world: &mut World| {
        world.list("user_ada").await?;
        world.origin_answers(500);
        until("ada's reading to be past its TTL", async || {
            (world.list("user_ada").await.ok()?.header("cache-status") == "rollcall; hit; detail=grace").then_some(())
        })
        .await;
        world.clerk.faults().clear();
        let demanded = until("the origin to be asked again", async || {
            let answer = world.list_under("no-cache", "user_ada").await.ok()?;
            (answer.status == 200).then_some(answer)
        })
        .await;
        demanded.came("fwd=request");
        Ok(())
    })
    .await;
}

/// A flight that began before the request may have read the world as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn i11_no_cache_joins_no_flight_that_began_before_it() {
    run_on_both(Setup::default, async |world: &mut World| {
        let held = world.clerk.hold_next_answer_about("user_noor");
        let early = world.list("user_noor");
        let demanding = async {
            held.reached().await?;
            world.found_quietly("after-the-fact", "user_noor");
            let demanded = world.check_under("no-cache", "user_noor", "after-the-fact");
            let release = async {
                world.until_under_way(0, 2).await;
                held.release();
            };
            tokio::join!(demanded, release).0
        };
        let (early, demanded) = tokio::join!(early, demanding);
        demanded?.is_member();
        assert!(!early?.slugs().contains(&"after-the-fact".to_owned()));
        assert_eq!(world.clerk.calls().of_user("user_noor"), 2);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_age_takes_a_reading_that_is_young_enough() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        until_a_second_old(world, "user_ada").await;
        world.list_under("max-age=60", "user_ada").await?.came("hit; detail=local");
        assert_eq!(world.clerk.calls().of_user("user_ada"), 1);
        let younger = world.list_under("max-age=1", "user_ada").await?;
        younger.came("fwd=request");
        assert_eq!((younger.number("age"), world.clerk.calls().of_user("user_ada")), (0, 2));
        world.list_under("max-age=60, max-age=0", "user_ada").await?.came("fwd=request");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_never_asks_the_origin() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list_under("only-if-cached", "user_ada").await?.is_problem(504, "not-cached");
        world.check_under("only-if-cached", "user_ada", "harbour-works").await?.is_problem(504, "not-cached");
        assert_eq!(world.clerk.calls().total(), 0);
        world.list("user_ada").await?;
        world.check_under("only-if-cached", "user_ada", "harbour-works").await?.is_member();
        until_a_second_old(world, "user_ada").await;
        let too_old = world.list_under("only-if-cached, max-age=1", "user_ada").await?;
        too_old.is_problem(504, "not-cached");
        assert_eq!((too_old.header("retry-after"), world.clerk.calls().total()), ("", 1));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_only_if_cached_gives_no_refusal_that_would_need_checking() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.check("user_ada", "willow-ledger").await?.is_not_a_member();
        world.list("user_tomas").await?;
        world.list("user_nobody").await?.is_user_unknown();
        until_a_second_old(world, "user_ada").await;
        for path in ["/v1/users/user_ada/orgs/willow-ledger", "/v1/users/user_tomas/orgs", "/v1/users/user_nobody/orgs"] {
            let unchecked = until("a refusal to need checking", async || {
                let answer = world.ask_under("only-if-cached", path).await.ok()?;
                (answer.status == 504).then_some(answer)
            })
            .await;
            unchecked.is_problem(504, "not-cached");
            assert_eq!(unchecked.header("rollcall-decision"), "");
        }
        world.check_under("only-if-cached", "user_ada", "harbour-works").await?.is_member();
        assert_eq!(world.clerk.calls().total(), 3);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_looks_into_the_shared_tier() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        let path = "/v1/users/user_ada/orgs";
        world.ask_with(1, path, &[("cache-control", "only-if-cached")]).await?.came("hit; detail=shared");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directives_nobody_knows_are_passed_over() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        for directives in ["no-store", "private, x-y=\"z\", max-stale", "min-fresh=x", "", ",,", "no-transform , max-age=60"] {
            world.list_under(directives, "user_ada").await?.came("hit; detail=local");
        }
        Ok(())
    })
    .await;
}

/// What a caller demands is not quietly lowered because the origin is away: only the caller's consent does that.
#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error_consents_to_what_is_past_its_bounds() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        until_a_second_old(world, "user_ada").await;
        world.origin_answers(500);
        for demanding in ["no-cache", "max-age=1"] {
            world.list_under(demanding, "user_ada").await?.could_not_find_out("origin-unavailable");
            let with_consent = world.list_under(&format!("{demanding}, stale-if-error=60"), "user_ada").await?;
            with_consent.came("hit; detail=grace");
            assert!(with_consent.number("age") >= 1, "with its honest age: {with_consent:?}");
            assert_eq!(with_consent.header("rollcall-decision"), "list");
        }
        world.list_under("max-age=1, stale-if-error=0", "user_ada").await?.could_not_find_out("origin-unavailable");
        world.list_under("stale-if-error=60", "user_kofi").await?.could_not_find_out("origin-unavailable");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error_changes_nothing_while_the_origin_answers() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        world.list_under("no-cache, stale-if-error=60", "user_ada").await?.came("fwd=request");
        Ok(())
    })
    .await;
}

/// Redis stands still, so the fence ages; the origin is down. What is in memory is not vouched for any more.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_lost_fence_ends_answers_from_memory_unless_the_caller_consents() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        world.redis().pause();
        world.origin_answers(500);
        let refused = until("memory to be no answer", async || {
            let answer = world.list("user_ada").await.ok()?;
            assert!(answer.status != 200 || distance(&answer) <= 1_000, "{answer:?}");
            (answer.status != 200).then_some(answer)
        })
        .await;
        refused.could_not_find_out("origin-unavailable");
        let with_consent = world.list_under("stale-if-error=60", "user_ada").await?;
        with_consent.came("hit; detail=grace");
        assert!(with_consent.number("rollcall-lag") > 1_000, "labelled: {with_consent:?}");
        world.clerk.faults().clear();
        until("the origin to be asked again", async || (world.list("user_ada").await.ok()?.status == 200).then_some(())).await;
        world.redis().resume();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_lag_can_be_asked_for_and_a_larger_one_cannot() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let path = "/v1/users/user_ada/orgs";
        world.list("user_ada").await?;
        world.ask_with(0, path, &[("rollcall-max-lag", "1000")]).await?.came("hit; detail=local");
        world.redis().pause();
        until("what is in memory to be vouched for as of 300 ms ago", async || {
            (distance(&world.ask(0, path).await.ok()?) > 300).then_some(())
        })
        .await;
        let read_again = world.ask_with(0, path, &[("rollcall-max-lag", "300")]).await?;
        read_again.came("fwd=miss; stored");
        until("an answer within the bound asked for to be from the origin only", async || {
            let answer = world.ask_with(0, path, &[("rollcall-max-lag", "60000")]).await.ok()?;
            assert!(distance(&answer) <= 1_000, "{answer:?}");
            (answer.header("cache-status") == "rollcall; fwd=miss; stored").then_some(())
        })
        .await;
        world.redis().resume();
        Ok(())
    })
    .await;
}

/// One process is never behind its own stream.
#[tokio::test(flavor = "multi_thread")]
async fn alone_the_smallest_lag_is_kept() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        let answer = world.ask_with(0, "/v1/users/user_ada/orgs", &[("rollcall-max-lag", "0")]).await?;
        answer.came("hit; detail=local");
        assert_eq!(answer.number("rollcall-lag"), 0);
        Ok(())
    })
    .await;
}

/// Nobody asks meanwhile, so nothing is refreshed in time either.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_reading_past_its_ttl_is_read_anew() {
    let setup = || Setup::living(Duration::from_secs(1), Duration::from_secs(30));
    run_on_both_at_once(setup, async |world: &mut World| {
        world.list("user_ada").await?;
        let read = Instant::now();
        until("the TTL to pass", async || (read.elapsed() > Duration::from_millis(1_050)).then_some(())).await;
        world.list_under("only-if-cached", "user_ada").await?.is_problem(504, "not-cached");
        world.list("user_ada").await?.came("fwd=miss; stored");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_no_answer_is_older_than_the_ttl_while_the_origin_answers() {
    let setup = || Setup::living(Duration::from_secs(1), Duration::from_secs(30));
    run_on_both_at_once(setup, async |world: &mut World| {
        until("the origin to be asked four times", async || {
            let answer = world.list("user_ada").await.ok()?;
            assert!(answer.status == 200 && answer.number("rollcall-age") <= 1_000, "{answer:?}");
            (world.clerk.calls().of_user("user_ada") >= 4).then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}
