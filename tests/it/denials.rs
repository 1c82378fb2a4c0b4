//! Saying no: never without having checked, never because nothing could be found out, and without asking the origin more
//! than it takes.

use std::time::{Duration, Instant};

use rollcall::dev::{Act, Faults, NewUser, Rule};

use crate::world::answer::Answer;
use crate::world::service::{Deployment, Setup, World, run_on_both, run_on_both_at_once, run_test};
use crate::world::wait::until;

/// A reading that refuses is checked when it is older.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// Asks until the answer is another one; no sooner than a refusal may be trusted, and no later than the origin takes.
async fn until_checked(world: &World, path: &str, is_no: impl Fn(&Answer) -> bool) -> Answer {
    let answer = until("the refusal to be checked", async || {
        let asked = Instant::now();
        let answer = world.ask(0, path).await.ok()?;
        let is_no = is_no(&answer);
        let age = Duration::from_millis(answer.number("rollcall-age"));
        assert!(!is_no || age <= REFUSED_MAX + asked.elapsed(), "{answer:?}");
        (!is_no).then_some(answer)
    })
    .await;
    assert_eq!((answer.number("age"), answer.header("cache-status")), (0, "rollcall; fwd=stale; detail=denial"));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_organization_that_no_webhook_told_of_shows_after_a_second() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.check("user_noor", "night-market").await?.is_not_a_member();
        world.found_quietly("night-market", "user_noor");
        world.check("user_noor", "night-market").await?.is_not_a_member();
        assert_eq!(world.clerk.calls().of_user("user_noor"), 1, "a refusal is good for a second");
        let checked = until_checked(world, "/v1/users/user_noor/orgs/night-market", |answer| answer.status == 404).await;
        assert_eq!(checked.is_member()["role"], "org:admin");
        assert_eq!(world.clerk.calls().of_user("user_noor"), 2);
        world.check("user_noor", "night-market").await?.came("hit; detail=local");
        Ok(())
    })
    .await;
}

/// The list was read a while ago for another purpose: the first refusal that would rest on it is checked at once.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_first_refusal_does_not_rest_on_an_older_reading() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_noor").await?;
        world.found_quietly("night-market", "user_noor");
        until("the reading to be a second old", async || {
            (world.list("user_noor").await.ok()?.number("rollcall-age") > 1_000).then_some(())
        })
        .await;
        let checked = world.check("user_noor", "night-market").await?;
        checked.came("fwd=stale; detail=denial");
        checked.is_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_shows_what_no_webhook_told_of_at_once() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_noor", "night-market").await?.is_not_a_member();
        world.found_quietly("night-market", "user_noor");
        let asked = world.check_under("no-cache", "user_noor", "night-market").await?;
        asked.is_member();
        asked.came("fwd=request");
        assert_eq!(world.clerk.calls().of_user("user_noor"), 2);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_empty_list_is_checked_as_a_refusal_is() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        assert_eq!(world.list("user_tomas").await?.slugs(), Vec::<String>::new());
        world.found_quietly("night-market", "user_tomas");
        let checked = until_checked(world, "/v1/users/user_tomas/orgs", |answer| answer.body == b"[]").await;
        assert_eq!(checked.slugs(), ["night-market"]);
        assert_eq!(world.clerk.calls().of_user("user_tomas"), 2);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_unknown_user_is_checked_as_a_refusal_is() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_lena").await?.is_user_unknown();
        world.check("user_lena", "harbour-works").await?.is_user_unknown();
        assert_eq!(world.clerk.calls().of_user("user_lena"), 1);
        world.change(|clerk| clerk.create_user(NewUser { id: Some("user_lena".to_owned()), ..NewUser::default() }));
        let checked = until_checked(world, "/v1/users/user_lena/orgs", |answer| answer.status == 404).await;
        assert_eq!(checked.header("rollcall-decision"), "list");
        assert_eq!(world.clerk.calls().of_user("user_lena"), 2);
        Ok(())
    })
    .await;
}

/// The times between the reads of the origin so far, in milliseconds.
fn gaps(world: &World) -> Vec<u64> {
    let times = world.clerk.calls().times(100);
    times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect()
}

/// The gaps are these many seconds, give or take what a request takes. They are counted from where a reading begins, and seen
/// where it arrives: less where the one before was longer on its way.
#[track_caller]
fn assert_gaps(world: &World, seconds: &[u64]) {
    let gaps = gaps(world);
    let fits = |(gap, seconds): (&u64, &u64)| (seconds * 1_000 - 500..seconds * 1_000 + 900).contains(gap);
    assert!(gaps.len() == seconds.len() && gaps.iter().zip(seconds).all(fits), "{gaps:?}, expected about {seconds:?} s");
}

/// Asks again and again until the origin was asked so many times.
async fn ask_until_calls(world: &World, path: &str, status: u16, calls: u64) {
    until("the origin to be asked again", async || {
        let answer = world.ask(0, path).await.ok()?;
        assert_eq!(answer.status, status, "{answer:?}");
        (world.clerk.calls().total() >= calls).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_repeated_refusal_is_checked_after_one_two_and_four_seconds() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        ask_until_calls(world, "/v1/users/user_kofi/orgs/harbour-works", 404, 4).await;
        assert_gaps(world, &[1, 2, 4]);
        world.check("user_kofi", "willow-ledger").await?.is_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_unknown_user_and_an_empty_list_back_off_in_the_same_way() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        ask_until_calls(world, "/v1/users/user_nobody/orgs", 404, 3).await;
        assert_gaps(world, &[1, 2]);
        world.clerk.calls().reset();
        ask_until_calls(world, "/v1/users/user_tomas/orgs", 200, 3).await;
        assert_gaps(world, &[1, 2]);
        Ok(())
    })
    .await;
}

/// What was refused before of one organization says nothing of another.
#[tokio::test(flavor = "multi_thread")]
async fn i10_each_refusal_backs_off_for_itself() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        ask_until_calls(world, "/v1/users/user_kofi/orgs/harbour-works", 404, 3).await;
        until("a second to pass since the last reading", async || {
            (world.check("user_kofi", "willow-ledger").await.ok()?.number("rollcall-age") > 1_000).then_some(())
        })
        .await;
        world.check("user_kofi", "harbour-works").await?.came("hit; detail=local");
        world.check("user_kofi", "quillmark-press").await?.came("fwd=stale; detail=denial");
        Ok(())
    })
    .await;
}

/// Waits until this node is known to have read the stream up to now: no entry of before can overtake a read any more.
async fn until_passed(world: &World) {
    let now = Instant::now();
    until("the stream to be read up to now", async || {
        let lag = world.readiness().await.ok()?.json()["stream"]["lagMs"].as_u64()?;
        (Duration::from_millis(lag) + Duration::from_millis(1) < now.elapsed()).then_some(())
    })
    .await;
}

/// Here: a membership of another organization.
#[tokio::test(flavor = "multi_thread")]
async fn i10_any_change_of_the_user_begins_the_refusals_anew() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        let path = "/v1/users/user_kofi/orgs/harbour-works";
        ask_until_calls(world, path, 404, 3).await;
        world.ask(0, path).await?.came("hit; detail=local");
        let joined = world.change(|clerk| clerk.grant("user_kofi", "quillmark-press", "org:member"));
        world.deliver(&joined).await;
        until_passed(world).await;
        world.clerk.calls().reset();
        ask_until_calls(world, path, 404, 3).await;
        assert_gaps(world, &[1, 2]);
        Ok(())
    })
    .await;
}

/// The origin wants no request for half a minute.
fn limit_the_origin(world: &World) {
    let limited = Act::Status { status: 429, retry_after: Some(30) };
    world.clerk.faults().set(Faults::of([Rule::next(limited, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_with_the_budget_spent_a_recent_refusal_is_given_again_with_its_age() {
    let setup = || Setup::living(Duration::from_secs(3), Duration::from_secs(600));
    run_on_both_at_once(setup, async |world: &mut World| {
        world.check("user_noor", "willow-ledger").await?.is_not_a_member();
        world.list("user_nobody").await?.is_user_unknown();
        world.list("user_tomas").await?;
        limit_the_origin(world);
        world.list("user_mei").await?.could_not_find_out("origin-rate-limited");
        let sent = world.clerk.calls().total();
        for path in ["/v1/users/user_noor/orgs/willow-ledger", "/v1/users/user_nobody/orgs", "/v1/users/user_tomas/orgs"] {
            let again = until("an older refusal", async || {
                let answer = world.ask(0, path).await.ok()?;
                (answer.number("rollcall-age") > 1_100).then_some(answer)
            })
            .await;
            assert_ne!(again.header("rollcall-decision"), "", "{again:?}");
            assert!(again.number("age") >= 1, "{again:?}");
        }
        world.check("user_mei", "willow-ledger").await?.could_not_find_out("origin-rate-limited");
        world.check("user_stranger", "willow-ledger").await?.could_not_find_out("origin-rate-limited");
        let expired = until("the readings to be past the TTL", async || {
            let answer = world.check("user_noor", "willow-ledger").await.ok()?;
            assert!(answer.status != 404 || answer.number("rollcall-age") <= 3_000, "{answer:?}");
            (answer.status != 404).then_some(answer)
        })
        .await;
        expired.could_not_find_out("origin-rate-limited");
        world.check("user_noor", "harbour-works").await?.is_member();
        assert_eq!(world.clerk.calls().total(), sent);
        Ok(())
    })
    .await;
}

/// What is known of the user denies it, and the origin cannot be asked whether that is still so.
#[tokio::test(flavor = "multi_thread")]
async fn i8_what_could_not_be_checked_is_not_refused() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_noor").await?;
        world.list("user_tomas").await?;
        world.list("user_nobody").await?;
        world.origin_answers(500);
        for path in ["/v1/users/user_noor/orgs/willow-ledger", "/v1/users/user_tomas/orgs", "/v1/users/user_nobody/orgs/acme"] {
            let unchecked = until("a refusal to need checking", async || {
                let answer = world.ask(0, path).await.ok()?;
                (answer.status == 503).then_some(answer)
            })
            .await;
            unchecked.could_not_find_out("origin-unavailable");
        }
        world.check("user_noor", "harbour-works").await?.is_member();
        Ok(())
    })
    .await;
}
