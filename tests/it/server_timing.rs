//! `Server-Timing`: told to whom it is switched on for, by stage; and whoever is told gets the very answers of whoever is not.

use std::time::Duration;

use reqwest::header::HeaderMap;
use rollcall::config::Config;
use rollcall::dev::{Act, NewToken, Rule};
use rollcall::http::TimedFor;

use crate::world::answer::Answer;
use crate::world::service::{ADMIN_KEY, Deployment, EVICT_KEY, READ_KEY, Setup, World, run_test};

const ADA: &str = "/v1/users/user_ada/orgs";
const BATCH: &str = r#"{"checks":[{"userId":"user_ada","org":"harbour-works"},{"userId":"user_mei","org":"harbour-works"}]}"#;

fn timed_for(timed_for: TimedFor) -> impl FnOnce(&mut Config) {
    |config| config.timed_for = timed_for
}

/// What every node is asked, in this order; the same id on each, for problems repeat it.
struct Request<'a>(&'a str, &'a str, &'a str, &'a str);

async fn send(world: &World, node: usize, Request(method, path, key, directive): &Request<'_>) -> anyhow::Result<Answer> {
    let request = world.http.request(method.parse()?, format!("{}{path}", world.nodes[node].url()));
    let request = request.bearer_auth(key).header("x-request-id", "same").header("cache-control", *directive);
    let request = if *method == "POST" { request.header("content-type", "application/json").body(BATCH) } else { request };
    Ok(Answer::of(request.send().await?).await?.lawful())
}

/// Everything but the time of day, what was measured, and how long ago something was.
fn decided(answer: &Answer) -> (u16, HeaderMap, Vec<u8>) {
    let mut headers = answer.headers.clone();
    for name in ["server-timing", "date", "age", "rollcall-age", "rollcall-lag", "content-length"] {
        headers.remove(name);
    }
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let ages_left_out: Vec<&str> =
        body.split(r#""ageMs":"#).map(|text| text.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
    (answer.status, headers, ages_left_out.concat().into_bytes())
}

/// The names of the stages. Each has a duration in milliseconds.
fn stages(answer: &Answer) -> Vec<String> {
    let stages = answer.header("server-timing").split(", ").filter(|stage| !stage.is_empty());
    stages
        .map(|stage| {
            let (name, took) = stage.split_once(";dur=").unwrap_or_else(|| panic!("no duration: {answer:?}"));
            assert!(took.parse::<f64>().is_ok_and(|ms| (0.0..60_000.0).contains(&ms)), "{answer:?}");
            name.to_owned()
        })
        .collect()
}

/// What is known stays known while this machine stands still.
fn patient() -> Setup {
    let mut setup = Setup::default();
    setup.bounds.staleness = Duration::from_secs(60);
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_how_long_it_took_gets_the_same_answers() {
    run_test(Deployment::Alone, patient(), async |world: &mut World| {
        world.add_node_with(timed_for(TimedFor::Everybody)).await;
        world.add_node_with(timed_for(TimedFor::Keys(vec!["read".into()]))).await;
        let token = world.clerk.mint(&NewToken { user: Some("user_ada".into()), ..NewToken::default() })?;
        let context = |query: &str| format!("/v1/context{query}");
        let (in_harbour, elsewhere) = (context("?org=harbour-works&include=memberships"), context("?org=willow-ledger"));
        let requests = [
            Request("GET", ADA, READ_KEY, ""),
            Request("GET", ADA, READ_KEY, ""),
            Request("GET", ADA, READ_KEY, "no-cache"),
            Request("GET", "/v1/users/user_kofi/orgs", READ_KEY, "only-if-cached"),
            Request("GET", "/v1/users/user_ada/orgs/harbour-works", READ_KEY, ""),
            Request("GET", "/v1/users/user_ada/orgs/harbour-works?role=org:none", READ_KEY, ""),
            Request("GET", "/v1/users/user_ada/orgs/willow-ledger", READ_KEY, ""),
            Request("GET", "/v1/users/user_nobody/orgs", READ_KEY, ""),
            Request("GET", "/v1/users/user.ada/orgs", READ_KEY, ""),
            Request("GET", ADA, "rk_wrong", ""),
            Request("GET", ADA, READ_KEY, "max-age=x"),
            Request("POST", "/v1/checks", READ_KEY, ""),
            Request("GET", &context(""), &token, ""),
            Request("GET", &in_harbour, &token, ""),
            Request("GET", &elsewhere, &token, ""),
            Request("GET", &context(""), "a.b.c", ""),
            Request("DELETE", ADA, READ_KEY, ""),
            Request("DELETE", ADA, EVICT_KEY, ""),
        ];
        let mut statuses = Vec::new();
        for request in &requests {
            let plain = send(world, 0, request).await?;
            assert_eq!(plain.header("server-timing"), "", "{plain:?}");
            let (to_all, to_one) = (send(world, 1, request).await?, send(world, 2, request).await?);
            assert_eq!(decided(&to_all), decided(&plain));
            assert_eq!(decided(&to_one), decided(&plain));
            assert_eq!(stages(&to_all).last().map(String::as_str), Some("total"), "{to_all:?}");
            assert_eq!(stages(&to_one).is_empty(), request.2 != READ_KEY, "{to_one:?}");
            statuses.push(plain.status);
        }
        assert_eq!(statuses, [200, 200, 200, 504, 200, 403, 404, 404, 400, 401, 400, 200, 200, 200, 404, 401, 403, 204]);
        // Nor does it when nothing can be found out.
        world.clerk.faults().add(Rule::always(Act::Status { status: 500, retry_after: None }));
        let cold = Request("GET", "/v1/users/user_noor/orgs", READ_KEY, "");
        let plain = send(world, 0, &cold).await?;
        plain.could_not_find_out("origin-unavailable");
        for node in [1, 2] {
            let timed = send(world, node, &cold).await?;
            assert_eq!(timed.json()["code"], plain.json()["code"]);
            assert_eq!(stages(&timed), ["auth", "local", "origin", "total"]);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stages_are_those_that_were_needed() {
    run_test(Deployment::Redis(1), patient(), async |world: &mut World| {
        for _ in 0..2 {
            world.add_node_with(timed_for(TimedFor::Everybody)).await;
        }
        let token = world.clerk.mint(&NewToken { user: Some("user_ada".into()), ..NewToken::default() })?;
        for (node, request, expected) in [
            (1, Request("GET", ADA, READ_KEY, ""), &["auth", "local", "shared", "origin", "total"][..]),
            (1, Request("GET", ADA, READ_KEY, ""), &["auth", "local", "total"]),
            (2, Request("GET", ADA, READ_KEY, ""), &["auth", "local", "shared", "total"]),
            (2, Request("GET", ADA, READ_KEY, "no-cache"), &["auth", "local", "origin", "total"]),
            (1, Request("GET", ADA, "rk_wrong", ""), &["auth", "total"]),
            (1, Request("POST", "/v1/checks", READ_KEY, ""), &["auth", "body", "shared", "origin", "total"]),
            (1, Request("GET", "/v1/context", &token, ""), &["auth", "total"]),
            (1, Request("GET", "/v1/context?org=harbour-works", &token, ""), &["auth", "local", "total"]),
            (1, Request("DELETE", ADA, EVICT_KEY, ""), &["auth", "apply", "total"]),
            (1, Request("GET", "/v1/users/user_ada/inspection", ADMIN_KEY, ""), &["auth", "total"]),
        ] {
            assert_eq!(stages(&send(world, node, &request).await?), expected, "{} {}", request.0, request.1);
        }
        let malformed = world.http.post(format!("{}/v1/checks", world.nodes[1].url())).bearer_auth(READ_KEY).json(&[0]);
        let refused = Answer::of(malformed.send().await?).await?;
        assert_eq!((refused.status, stages(&refused)), (400, ["auth", "body", "total"].map(String::from).to_vec()));
        Ok(())
    })
    .await;
}
