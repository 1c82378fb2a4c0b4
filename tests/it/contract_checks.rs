//! `POST /v1/checks`: many decisions in one request, of one moment.

use std::time::{Duration, Instant};

use rollcall::dev::{Act, Faults, Rule};
use serde_json::{Value, json};

use crate::world::asking::crowd;
use crate::world::service::{Deployment, READ_KEY, Setup, World, run_on_both, run_on_both_at_once, run_test};
use crate::world::wait::until;

fn check(user: &str, organization: &str) -> Value {
    json!({ "userId": user, "org": organization })
}

fn check_role(user: &str, organization: &str, role: impl Into<Value>) -> Value {
    json!({ "userId": user, "org": organization, "role": role.into() })
}

/// The origin answers nothing about this user.
fn hang_for(world: &World, user: &str) {
    world.clerk.faults().set(Faults::of([Rule::always(Act::Hang).of_user(user)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_each_item_in_order_and_by_its_own_reason() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.clerk.faults().add(Rule::always(Act::Status { status: 500, retry_after: None }).of_user("user_ivo"));
        let checks = json!([
            check("user_ada", "harbour-works"),
            check("user_ada", "willow-ledger"),
            check_role("user_ada", "org_harbour_works", "org:member"),
            check_role("user_ada", "harbour-works", json!(["org:member", "org:admin"])),
            check("user_nobody", "harbour-works"),
            check("user_ivo", "quillmark-press"),
            check_role("user_mei", "tidewell-energy", "org:billing_manager"),
            check("user_tomas", "harbour-works"),
        ]);
        let answer = world.batch(checks).await?;
        let expected = [
            "true member",
            "false not-a-member",
            "false role-missing",
            "true member",
            "false user-unknown",
            "null unavailable",
            "true member",
            "false not-a-member",
        ];
        assert_eq!(answer.results(), expected);
        let membership = world.check("user_mei", "tidewell-energy").await?.is_member();
        assert_eq!(answer.json()["results"][6]["membership"], membership);
        assert_eq!(world.clerk.calls().of_user("user_ada"), 1, "one read for all that is asked of a user");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_says_the_oldest_age_and_has_no_etag() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        until("ada's reading to be a second old", async || (world.list("user_ada").await.ok()?.number("age") >= 1).then_some(()))
            .await;
        let [young, old] = [check("user_kofi", "willow-ledger"), check("user_ada", "harbour-works")];
        let answer = world.batch(json!([young, old, check("user_mei", "org_quiet_room")])).await?;
        let ages: Vec<_> = answer.json()["results"].as_array().expect("three").iter().map(|row| row["ageMs"].as_u64()).collect();
        assert_eq!(ages, [Some(0), Some(answer.number("rollcall-age")), Some(0)]);
        let age = answer.number("rollcall-age");
        assert!(age >= 1_000 && answer.number("age") == age / 1_000 && answer.number("rollcall-lag") <= 1_000, "{answer:?}");
        assert_eq!((answer.header("etag"), answer.header("content-type")), ("", "application/json"));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_items_are_taken_and_no_more() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let many = |count: usize| json!(vec![check("user_ada", "harbour-works"); count]);
        assert_eq!(world.batch(many(1_000)).await?.results(), vec!["true member"; 1_000]);
        world.batch(many(1_001)).await?.is_problem_of("body-malformed", "checks");
        assert_eq!(world.batch(many(0)).await?.results(), Vec::<String>::new());
        assert_eq!(world.clerk.calls().total(), 1);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_is_taken_and_no_more() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let padded = |bytes: usize| {
            let body = json!({ "checks": [check("user_ada", "harbour-works")] }).to_string();
            format!("{body}{}", " ".repeat(bytes - body.len()))
        };
        assert_eq!(world.batch_body(padded(1 << 20)).await?.results(), ["true member"]);
        world.batch_body(padded((1 << 20) + 1)).await?.is_problem(413, "body-too-large");
        let head = format!("POST /v1/checks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {READ_KEY}\r\n");
        let chunk = format!("{:x}\r\n{}\r\n", (1 << 20) + 1, padded((1 << 20) + 1));
        let undeclared = world.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n")).await?;
        undeclared.is_problem(413, "body-too-large");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_item_is_named_and_nothing_is_asked() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let good = check("user_ada", "harbour-works");
        for (bad, field) in [
            (check("user/ada", "acme"), "checks[3].userId"),
            (check("user{ada}", "acme"), "checks[3].userId"),
            (check("user%5Fada", "acme"), "checks[3].userId"),
            (check("user\nada", "acme"), "checks[3].userId"),
            (check("", "acme"), "checks[3].userId"),
            (json!({ "org": "acme" }), "checks[3].userId"),
            (json!({ "userId": 7, "org": "acme" }), "checks[3].userId"),
            (check("user_ada", "org_"), "checks[3].org"),
            (check("user_ada", "a/b"), "checks[3].org"),
            (check("user_ada", ".."), "checks[3].org"),
            (json!({ "userId": "user_ada" }), "checks[3].org"),
            (check_role("user_ada", "acme", ""), "checks[3].role"),
            (check_role("user_ada", "acme", json!([])), "checks[3].role"),
            (check_role("user_ada", "acme", json!(["org:admin", ""])), "checks[3].role"),
            (check_role("user_ada", "acme", 1), "checks[3].role"),
            (json!("user_ada"), "checks[3]"),
        ] {
            let answer = world.batch(json!([good, good, good, bad, good])).await?;
            answer.is_problem_of("body-malformed", field);
        }
        for body in ["", "[", "[]", "null", "{}", r#"{"checks":{}}"#, "\u{feff}{}"] {
            world.batch_body(body.to_owned()).await?.is_problem(400, "body-malformed");
        }
        assert_eq!(world.clerk.calls().total(), 0);
        let later = json!([{ "userId": "user_ada", "org": "harbour-works", "since": "another release" }]);
        assert_eq!(world.batch(later).await?.results(), ["true member"]);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_reads_fifty_users_from_the_origin_and_leaves_the_rest_unavailable() {
    run_on_both(
        || Setup::crowded(70),
        async |world: &mut World| {
            let checks: Vec<_> = (0..70).map(|n| check(&crowd(n), "harbour-works")).collect();
            let results = world.batch(json!(checks)).await?.results();
            let members = results.iter().filter(|result| *result == "true member").count();
            assert_eq!((members, world.clerk.calls().total()), (50, 50));
            assert!(results.iter().all(|result| result == "true member" || result == "null unavailable"));
            assert_eq!(world.batch(json!(checks)).await?.results(), vec!["true member"; 70], "the known ones cost nothing");
            assert_eq!(world.clerk.calls().total(), 70);
            Ok(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_after_two_seconds_with_what_is_known_by_then() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.check("user_kofi", "harbour-works").await?.is_not_a_member();
        hang_for(world, "user_mei");
        let began = Instant::now();
        let checks =
            json!([check("user_mei", "org_quiet_room"), check("user_ada", "harbour-works"), check("user_kofi", "harbour-works")]);
        let answer = world.batch(checks).await?;
        assert_eq!(answer.results(), ["null unavailable", "true member", "false not-a-member"]);
        let took = began.elapsed();
        assert!((Duration::from_millis(1_900)..Duration::from_millis(3_800)).contains(&took), "{took:?}");
        Ok(())
    })
    .await;
}

/// The origin cannot be asked within the batch's time: what is past its TTL is answered in grace, as a single read would be.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_batch_whose_time_is_up_answers_in_grace() {
    let setup = Setup::living(Duration::from_secs(1), Duration::from_secs(30));
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        world.list("user_mei").await?;
        hang_for(world, "user_mei");
        let batch = json!([check("user_mei", "org_quiet_room"), check("user_mei", "willow-ledger")]);
        let answer = until("an answer past the TTL", async || {
            let answer = world.batch(batch.clone()).await.ok()?;
            (answer.number("rollcall-age") > 1_000).then_some(answer)
        })
        .await;
        assert_eq!(answer.results(), ["true member", "null unavailable"]);
        assert!(answer.number("age") >= 1, "{answer:?}");
        Ok(())
    })
    .await;
}

/// A rename sets every local entry one step back, which is no reason to know less at the end of a batch than at its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_organization_takes_nothing_from_a_batch() {
    run_on_both_at_once(Setup::default, async |world: &mut World| {
        world.check("user_ada", "harbour-works").await?.is_member();
        hang_for(world, "user_mei");
        let checks = json!([check("user_ada", "harbour-works"), check("user_mei", "org_quiet_room")]);
        let rename = async {
            until("the batch to have begun", async || (world.clerk.calls().of_user("user_mei") > 0).then_some(())).await;
            let renamed = world.change(|clerk| clerk.rename("harbour-works", Some("Harbour"), None));
            world.deliver(&renamed).await;
        };
        let (answer, ()) = tokio::join!(world.batch(checks), rename);
        let answer = answer?;
        assert_eq!(answer.results(), ["true member", "null unavailable"]);
        assert_eq!(answer.json()["results"][0]["membership"]["organizationName"], "Harbour");
        Ok(())
    })
    .await;
}

/// What the shared tier said at the beginning of a long batch is no answer at its end.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_batch_decides_at_its_end() {
    let mut setup = Setup::default();
    setup.bounds.staleness = Duration::from_millis(250);
    run_test(Deployment::Redis(2), setup, async |world: &mut World| {
        world.list("user_ada").await?;
        hang_for(world, "user_mei");
        let checks = json!([check("user_ada", "harbour-works"), check("user_mei", "org_quiet_room")]);
        let revocation = async {
            until("the batch to have begun", async || (world.clerk.calls().of_user("user_mei") > 0).then_some(())).await;
            let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
            world.deliver(&left).await;
            Instant::now()
        };
        let (answer, acknowledged) = tokio::join!(world.batch_of(1, "", checks), revocation);
        assert!(acknowledged.elapsed() > Duration::from_millis(350), "the batch went on for longer than the bound");
        assert_ne!(answer?.results()[0], "true member");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_is_asked_of_each_item() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        let checks = json!([
            check("user_ada", "harbour-works"),
            check("user_mei", "org_quiet_room"),
            check_role("user_ada", "harbour-works", "org:member"),
        ]);
        let cached = world.batch_of(0, "only-if-cached", checks.clone()).await?;
        assert_eq!(cached.results(), ["true member", "null unavailable", "false role-missing"]);
        assert_eq!(world.clerk.calls().total(), 1);
        let asked = world.batch_of(0, "no-cache", checks).await?;
        assert_eq!(asked.results(), ["true member", "true member", "false role-missing"]);
        assert_eq!((asked.number("rollcall-age"), world.clerk.calls().total()), (0, 3));
        Ok(())
    })
    .await;
}

/// That a user is gone stays true, however long ago it was said.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_user_is_unknown_to_a_batch_as_to_a_read() {
    let setup = || Setup::living(Duration::from_secs(1), Duration::from_secs(30));
    run_on_both_at_once(setup, async |world: &mut World| {
        let deleted = world.change(|clerk| clerk.delete_user("user_ada"));
        world.deliver(&deleted).await;
        let began = Instant::now();
        until("the deletion to be older than the TTL", async || {
            let path = "/v1/users/user_ada/orgs";
            for directives in ["", "no-cache", "max-age=1"] {
                let answer = world.ask_under(directives, path).await.ok()?;
                answer.is_user_unknown();
                assert!(answer.number("rollcall-age") <= 1_000, "{answer:?}");
                let batch = world.batch_of(0, directives, json!([check("user_ada", "harbour-works")])).await.ok()?;
                assert_eq!(batch.results(), ["false user-unknown"]);
            }
            (began.elapsed() > Duration::from_millis(1_500)).then_some(())
        })
        .await;
        assert_eq!(world.clerk.calls().of_user("user_ada"), 0);
        Ok(())
    })
    .await;
}

/// Without a local tier nothing that the first item read is there for the second.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_asked_twice_is_read_once_and_answered_twice() {
    let setup = Setup { local_bytes_max: 0, ..Setup::default() };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        let checks = json!([check("user_ada", "harbour-works"), check_role("user_ada", "harbour-works", "org:none")]);
        assert_eq!(world.batch(checks).await?.results(), ["true member", "false role-missing"]);
        assert_eq!(world.clerk.calls().total(), 1);
        Ok(())
    })
    .await;
}
