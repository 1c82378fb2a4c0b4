//! The origin: whole lists whatever their length, one read for a crowd, and its failures, which are never answers.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rollcall::dev::{Act, AsOf, Faults, Rule, World as ClerkWorld};

use crate::world::asking::crowd;
use crate::world::service::{Deployment, Setup, World, run_on_both, run_on_both_at_once, run_test};
use crate::world::wait::until;

const FAILING: Act = Act::Status { status: 500, retry_after: None };

/// Users with so many memberships each, `user_0` and on.
fn members_of_many(counts: &[usize]) -> Setup {
    let mut clerk = ClerkWorld::small();
    for count in counts {
        clerk.put_into(&format!("user_{count}"), *count).expect("a new user");
    }
    Setup { clerk, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_lists_of_any_length_are_whole_and_in_the_origins_order() {
    const COUNTS: [usize; 9] = [0, 1, 10, 11, 100, 101, 137, 500, 501];
    run_on_both(
        || members_of_many(&COUNTS),
        async |world: &mut World| {
            for count in COUNTS {
                let user = format!("user_{count}");
                let slugs = world.list(&user).await?.slugs();
                let at_clerk: Vec<_> = {
                    let clerk = world.clerk.world().lock();
                    let rows = clerk.memberships(&user, AsOf::Now).expect("a user");
                    let slug = |id: &str| clerk.organization(id, AsOf::Now).and_then(|row| row.slug.clone());
                    rows.iter().map(|row| slug(&row.organization).expect("a slug")).collect()
                };
                assert_eq!((slugs.len(), &slugs), (count, &at_clerk));
                assert_eq!(world.list(&user).await?.slugs(), at_clerk, "from memory");
                assert_eq!(world.clerk.calls().of_user(&user), 1 + u64::from(count > 500), "pages of 500: {count}");
                for position in [1, 10, 11, 100, 101, 137, 500, 501].into_iter().filter(|position| *position <= count) {
                    world.check(&user, &at_clerk[position - 1]).await?.is_member();
                }
            }
            world.check("user_137", "crowd-0001").await?.is_member();
            Ok(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_hundred_cold_reads_of_a_user_are_one_read_of_the_origin() {
    run_on_both(Setup::default, async |world: &mut World| {
        let held = world.clerk.hold_next_answer_about("user_ada");
        let release = async {
            world.until_under_way(0, 100).await;
            held.release();
        };
        let (answers, ()) = tokio::join!(join_all((0..100).map(|_| world.list("user_ada"))), release);
        let mut ways = Vec::new();
        for answer in answers {
            let answer = answer?;
            assert_eq!(answer.slugs().len(), 12);
            ways.push(answer.header("cache-status").to_owned());
        }
        let count = |way: &str| ways.iter().filter(|given| *given == &format!("rollcall; {way}")).count();
        assert_eq!((world.clerk.calls().of_user("user_ada"), count("fwd=miss; stored")), (1, 1));
        // Who was kept waiting for Redis may find what the flight has landed there meanwhile.
        let hits = ways.iter().filter(|way| way.starts_with("rollcall; hit")).count();
        assert!(count("fwd=miss; collapsed") + hits == 99 && hits < 50, "{ways:?}");
        Ok(())
    })
    .await;
}

/// Nothing is held: some miss the tiers before the flight lands, and look for it after it has left.
#[tokio::test(flavor = "multi_thread")]
async fn i11_a_crowd_that_comes_while_the_flight_lands_asks_the_origin_once() {
    run_on_both(
        || Setup::crowded(12),
        async |world: &mut World| {
            for user in (0..12).map(crowd) {
                let answers = join_all((0..400).map(|_| world.list(&user))).await;
                assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer.status == 200)));
                assert_eq!(world.clerk.calls().of_user(&user), 1, "{user}");
            }
            Ok(())
        },
    )
    .await;
}

/// Each in a world of its own: failures of one would open the breaker for the next.
#[tokio::test(flavor = "multi_thread")]
async fn i8_an_origin_that_fails_is_never_an_answer_about_an_unknown_user() {
    for (act, code) in [
        (FAILING, "origin-unavailable"),
        (Act::Status { status: 503, retry_after: Some(3) }, "origin-unavailable"),
        (Act::Status { status: 401, retry_after: None }, "origin-unavailable"),
        (Act::Status { status: 403, retry_after: None }, "origin-unavailable"),
        (Act::Status { status: 404, retry_after: None }, "origin-unavailable"),
        (Act::Status { status: 422, retry_after: None }, "origin-unavailable"),
        (Act::Cut, "origin-unavailable"),
        (Act::Garbage, "origin-unavailable"),
        (Act::ContentType, "origin-unavailable"),
        (Act::WrongTotal { by: 1 }, "origin-unavailable"),
        (Act::WrongTotal { by: -1 }, "origin-unavailable"),
        (Act::WrongTotal { by: 100_000 }, "origin-unavailable"),
        (Act::Status { status: 429, retry_after: Some(4) }, "origin-rate-limited"),
        (Act::Status { status: 429, retry_after: None }, "origin-rate-limited"),
    ] {
        run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
            println!("{act:?}");
            world.list("user_ada").await?;
            world.list("user_tomas").await?;
            let leaves_a_404_right = matches!(act, Act::WrongTotal { .. } | Act::ContentType);
            world.origin_does(act);
            let began = Instant::now();
            let mut paths = vec!["user_mei/orgs", "user_mei/orgs/org_quiet_room", "user_kofi/orgs/no-such-organization"];
            paths.extend((!leaves_a_404_right).then_some("user_nobody/orgs"));
            let paths: Vec<_> = paths.into_iter().map(|path| format!("/v1/users/{path}")).collect();
            for answer in join_all(paths.iter().map(|path| world.ask(0, path))).await {
                answer?.could_not_find_out(code);
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            let known = world.list("user_ada").await?;
            known.came("hit; detail=local");
            assert_eq!(known.slugs().len(), 12);
            world.clerk.faults().clear();
            Ok(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_origin_that_hangs_is_given_up() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        world.origin_does(Act::Hang);
        let began = Instant::now();
        let paths = ["/v1/users/user_mei/orgs", "/v1/users/user_mei/orgs/org_quiet_room", "/v1/users/user_nobody/orgs"];
        for answer in join_all(paths.map(|path| world.ask(0, path))).await {
            answer?.could_not_find_out("origin-unavailable");
        }
        // Four seconds, and three for a machine that stands still now and then; a client waits for twenty.
        assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
        world.list("user_ada").await?.came("hit; detail=local");
        Ok(())
    })
    .await;
}

/// Past its TTL, because the origin cannot be asked: with its age, and as nobody's "no".
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_known_user_is_answered_in_grace_and_no_further() {
    let setup = || Setup::living(Duration::from_secs(1), Duration::from_secs(2));
    run_on_both_at_once(setup, async |world: &mut World| {
        world.list("user_ada").await?;
        world.list("user_tomas").await?;
        world.origin_answers(500);
        until("an answer past the TTL", async || {
            let answer = world.list("user_ada").await.ok()?;
            let (age, is_in_grace) = (answer.number("rollcall-age"), answer.header("cache-status").ends_with("detail=grace"));
            assert!(if is_in_grace { age >= 1_000 } else { age <= 1_000 }, "{answer:?}");
            answer.came(if is_in_grace { "hit; detail=grace" } else { "hit; detail=local" });
            is_in_grace.then_some(())
        })
        .await;
        world.check("user_ada", "harbour-works").await?.is_member();
        world.check("user_ada", "willow-ledger").await?.could_not_find_out("origin-unavailable");
        world.list("user_tomas").await?.could_not_find_out("origin-unavailable");
        world.list_under("only-if-cached", "user_ada").await?.is_problem(504, "not-cached");
        let ended = until("the grace to end", async || {
            let answer = world.list("user_ada").await.ok()?;
            assert!(answer.status == 503 || answer.number("rollcall-age") <= 3_000, "{answer:?}");
            (answer.status != 200).then_some(answer)
        })
        .await;
        ended.could_not_find_out("origin-unavailable");
        world.clerk.faults().clear();
        until("the origin to be asked again", async || (world.list("user_ada").await.ok()?.status == 200).then_some(())).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_is_not_shown_to_anybody() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for (number, act) in [FAILING, Act::Cut, Act::WrongTotal { by: 1 }].into_iter().enumerate() {
            world.clerk.faults().set(Faults::of([Rule::next(act, 1)]));
            let user = ["user_ada", "user_mei", "user_kofi"][number];
            assert_eq!(world.list(user).await?.status, 200);
            assert!((2..=3).contains(&world.clerk.calls().of_user(user)), "{user}");
        }
        Ok(())
    })
    .await;
}

/// A row that moved from one page to the next came twice, and another one not at all.
#[tokio::test(flavor = "multi_thread")]
async fn i9_pages_that_do_not_fit_together_are_gathered_again() {
    run_test(Deployment::Alone, members_of_many(&[1_000]), async |world: &mut World| {
        world.clerk.faults().set(Faults::of([Rule::next(Act::RowMoved, 1)]));
        let slugs: std::collections::BTreeSet<_> = world.list("user_1000").await?.slugs().into_iter().collect();
        assert_eq!((slugs.len(), world.clerk.calls().of_user("user_1000")), (1_000, 4));
        world.origin_does(Act::RowMoved);
        world.list_under("no-cache", "user_1000").await?.could_not_find_out("origin-unavailable");
        assert_eq!(world.clerk.calls().of_user("user_1000"), 10, "three times in all");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_spares_a_failing_origin_and_closes_when_it_is_back() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.origin_answers(500);
        let began = Instant::now();
        let mut asked = 0;
        while began.elapsed() < Duration::from_millis(2_500) {
            world.list(&format!("user_{asked}")).await?.could_not_find_out("origin-unavailable");
            asked += 1;
        }
        let sent = world.clerk.calls().total();
        assert!(asked > 50 && (5..=10).contains(&sent), "{sent} of {asked}: five, then one a second");
        world.clerk.faults().clear();
        let closed = Instant::now();
        until("an answer", async || (world.list("user_ada").await.ok()?.status == 200).then_some(())).await;
        assert!(closed.elapsed() < Duration::from_secs(5), "{:?}", closed.elapsed());
        for user in ["user_mei", "user_kofi", "user_ivo"] {
            assert_eq!(world.list(user).await?.status, 200);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_of_the_origin_is_obeyed_and_told() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        let limited = Act::Status { status: 429, retry_after: Some(3) };
        world.clerk.faults().set(Faults::of([Rule::next(limited, 1)]));
        let began = Instant::now();
        let refused = world.list("user_mei").await?;
        refused.could_not_find_out("origin-rate-limited");
        let sent = world.clerk.calls().total();
        for user in ["user_mei", "user_kofi", "user_nobody"] {
            world.list(user).await?.could_not_find_out("origin-rate-limited");
        }
        world.list("user_ada").await?.came("hit; detail=local");
        assert_eq!(world.clerk.calls().total(), sent, "nothing is sent while the origin wants none");
        until("the origin to be asked again", async || (world.list("user_mei").await.ok()?.status == 200).then_some(())).await;
        assert!(began.elapsed() >= Duration::from_millis(2_900), "{:?}", began.elapsed());
        Ok(())
    })
    .await;
}

/// Forty requests in any ten seconds, whatever is asked; and who is not known at all goes first.
#[tokio::test(flavor = "multi_thread")]
async fn i12_the_budget_is_kept_and_cold_reads_come_before_others() {
    let setup = || Setup { origin_rate: 40, ..Setup::crowded(400) };
    run_on_both_at_once(setup, async |world: &mut World| {
        world.check("user_ada", "willow-ledger").await?.is_not_a_member();
        let began = Instant::now();
        let is_over = || began.elapsed() > Duration::from_millis(10_500);
        let colds = join_all((0..20).map(async |lane| {
            let (mut answered, mut refused) = (0, 0);
            for n in (lane..400).step_by(20).cycle().take_while(|_| !is_over()) {
                let answer = world.list(&crowd(n)).await?;
                match answer.status {
                    200 => answered += u32::from(answer.header("cache-status") == "rollcall; fwd=miss; stored"),
                    _ => {
                        answer.could_not_find_out("origin-rate-limited");
                        refused += 1;
                    }
                }
            }
            anyhow::Ok((answered, refused))
        }));
        let others = async {
            until("the budget to be spent", async || {
                (world.readiness().await.ok()?.json()["origin"]["isBudgetSpent"] == true).then_some(())
            })
            .await;
            let before = world.clerk.calls().of_user("user_ada");
            let mut asked = 0;
            while !is_over() {
                world.list_under("no-cache", "user_ada").await?.could_not_find_out("origin-rate-limited");
                asked += 1;
            }
            assert!(asked > 20);
            anyhow::Ok(world.clerk.calls().of_user("user_ada") - before)
        };
        let (colds, others) = tokio::join!(colds, others);
        let (answered, refused) = colds.into_iter().flatten().fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1));
        assert!(answered >= 30 && refused > 100, "{answered} answered, {refused} told to come back");
        assert_eq!(others?, 0, "no-cache waits while cold reads do");
        let busiest = world.clerk.calls().busiest(Duration::from_secs(10));
        // Counted where they arrive: what left in a little more than ten seconds may arrive in ten.
        assert!((30..=42).contains(&busiest), "{busiest} in the busiest ten seconds");
        Ok(())
    })
    .await;
}
