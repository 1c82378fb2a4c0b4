//! What operators use: eviction, liveness, readiness, metrics.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::service::{ADMIN_KEY, Deployment, EVICT_KEY, READ_KEY, Setup, World, run_on_both, run_test};
use crate::world::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_forgets_what_is_cached_of_a_user_and_of_nobody_else() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        world.list("user_mei").await?;
        world.found_quietly("new-venture", "user_ada");
        let evicted = world.evict("user_ada").await?;
        assert_eq!((evicted.status, evicted.body.len(), evicted.header("rollcall-decision")), (204, 0, ""));
        assert_eq!(world.list("user_ada").await?.slugs().len(), 13);
        world.list("user_mei").await?.came("hit; detail=local");
        assert_eq!(world.evict("user_nobody").await?.status, 204, "there may be nothing to forget");
        assert_eq!(world.clerk.calls().of_user("user_nobody"), 0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_is_effective_on_every_node() {
    run_test(Deployment::Redis(3), Setup::default(), async |world: &mut World| {
        let path = "/v1/users/user_ada/orgs";
        for node in 0..3 {
            world.ask(node, path).await?;
        }
        world.found_quietly("new-venture", "user_ada");
        assert_eq!(world.evict("user_ada").await?.status, 204);
        world.until_all_know(Instant::now(), path, |answer| answer.status == 200 && answer.slugs().len() == 13).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_that_is_not_confirmed_is_503_and_holds_here() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        world.found_quietly("new-venture", "user_ada");
        world.redis().kill();
        world.evict("user_ada").await?.could_not_find_out("shared-unavailable");
        assert_eq!(world.list("user_ada").await?.slugs().len(), 13);
        world.redis().restart();
        until("Redis to confirm again", async || (world.evict("user_ada").await.ok()?.status == 204).then_some(())).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn livez_is_200_whatever_is_away() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        assert_eq!(world.send(world.request("GET", "/livez")).await?.status, 200);
        world.redis().kill();
        world.origin_answers(500);
        assert_eq!(world.send(world.request("GET", "/livez")).await?.status, 200);
        Ok(())
    })
    .await;
}

/// Waits until the first node's readiness is this.
async fn until_status(world: &World, http_status: u16, status: &str) {
    until(status, async || {
        let answer = world.readiness().await.ok()?;
        (answer.json()["status"] == status).then(|| assert_eq!(answer.status, http_status))
    })
    .await;
}

/// Opens the breaker: five failures in a row.
async fn fail_the_origin(world: &World) {
    world.origin_answers(500);
    until("the breaker to open", async || {
        world.list_under("no-cache", "user_ivo").await.ok()?;
        (world.readiness().await.ok()?.json()["origin"]["breaker"] == "open").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_degraded_without_redis_or_without_the_origin_and_unready_without_both() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        until_status(world, 200, "ready").await;
        fail_the_origin(world).await;
        until_status(world, 200, "degraded").await;
        world.redis().kill();
        until_status(world, 503, "unready").await;
        world.clerk.faults().clear();
        until_status(world, 200, "degraded").await;
        world.redis().restart();
        until_status(world, 200, "ready").await;
        Ok(())
    })
    .await;
}

/// A load balancer that took it out sends it nothing: it must find out by itself that the origin is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_asks_becomes_ready_again() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        fail_the_origin(world).await;
        until_status(world, 503, "unready").await;
        world.clerk.faults().clear();
        until_status(world, 200, "ready").await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_shows_its_parts_to_an_operator_only() {
    run_on_both(Setup::default, async |world: &mut World| {
        for key in ["", READ_KEY, EVICT_KEY] {
            until("no more than that it is ready", async || {
                let answer = world.send(world.request("GET", "/readyz").bearer_auth(key)).await.ok()?;
                (answer.json() == json!({ "status": "ready" })).then_some(())
            })
            .await;
        }
        let parts = until("it to be ready", async || {
            let parts = world.readiness().await.ok()?.json();
            (parts["status"] == "ready").then_some(parts)
        })
        .await;
        let has_redis = parts["shared"]["status"] == "reachable";
        assert!(has_redis || parts["shared"]["status"] == "absent", "{parts}");
        assert!(parts["stream"]["lagMs"].as_u64().is_some_and(|lag| lag <= 1_000), "{parts}");
        assert_eq!((&parts["stream"]["isContinuous"], &parts["origin"]["breaker"]), (&json!(true), &json!("closed")));
        assert_eq!((&parts["origin"]["isBudgetSpent"], &parts["lastVerifiedMessageMs"]), (&json!(false), &json!(null)));
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        assert!(world.readiness().await?.json()["lastVerifiedMessageMs"].is_u64());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so_and_ends_each_connection_with_an_answer_until_its_delay_is_over() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.add_node_with(|config| config.shutdown_delay = Duration::from_secs(4)).await;
        let mut stopping = world.nodes.pop().expect("the node added");
        std::mem::swap(&mut stopping, &mut world.nodes[0]);
        assert_eq!(world.list("user_ada").await?.header("connection"), "", "connections are kept");
        world.nodes[0].begin_stop();
        until_status(world, 503, "draining").await;
        let answer = world.list("user_ada").await?;
        assert_eq!((answer.status, answer.header("connection")), (200, "close"));
        let refusal = world.send(world.request("GET", "/v1/nothing")).await?;
        assert_eq!((refusal.status, refusal.header("connection")), (404, "close"));
        stopping.stop().await;
        Ok(())
    })
    .await;
}

/// One line of samples: its metric's name.
fn sample(line: &str) -> &str {
    let name = line.split(['{', ' ']).next().expect("a name");
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
    let value = line.rsplit(' ').next().expect("a value");
    assert!(value.parse::<f64>().is_ok(), "{line}");
    if let Some((labels, _)) = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')) {
        assert!(labels.split("\",").all(|label| label.split_once("=\"").is_some()), "{line}");
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_the_text_that_prometheus_reads() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        world.list("user_ada").await?;
        world.check("user_nobody", "acme").await?;
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        let answer = world.send(world.request("GET", "/metrics").bearer_auth(ADMIN_KEY)).await?;
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"), "{:?}", answer.headers);
        let text = String::from_utf8(answer.body)?;
        let (mut families, mut described) = (BTreeSet::new(), BTreeSet::new());
        for line in text.strip_suffix("# EOF\n").expect("an end").lines() {
            let words: Vec<_> = line.splitn(4, ' ').collect();
            let is_text = match words[..] {
                ["#", "TYPE", family, kind] => ["counter", "gauge", "histogram"].contains(&kind) && families.insert(family),
                ["#", "HELP", family, help] => !help.is_empty() && described.insert(family),
                ["#", "UNIT", family, unit] => family.ends_with(unit),
                _ => families.iter().any(|family| sample(line).starts_with(family)),
            };
            assert!(is_text, "{line}");
        }
        assert_eq!(families, described);
        assert!(families.iter().all(|family| family.starts_with("rollcall_")), "{families:?}");
        for line in [
            "rollcall_reads_total{tier=\"local\",outcome=\"answered\"} 1",
            "rollcall_reads_total{tier=\"origin\",outcome=\"answered\"} 1",
            "rollcall_reads_total{tier=\"origin\",outcome=\"user-unknown\"} 1",
            "rollcall_deliveries_total{outcome=\"applied\"} 1",
        ] {
            assert!(text.lines().any(|given| given == line), "{line} is not in {text}");
        }
        assert!(!text.contains("user_ada") && !text.contains("harbour"), "nobody is named");
        Ok(())
    })
    .await;
}
