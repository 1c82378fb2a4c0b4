//! The webhook route against senders that are slow, large, many, or strange: by hand over TCP. Every limit holds, and nothing
//! that was acknowledged is lost.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rollcall::dev::World as ClerkWorld;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::wait::until;
use crate::world::webhooks::{Webhook, event};
use crate::world::wire::{Response, Wire, chunked, head, request};

/// Svix's limit, and a quarter more in doubt.
const BODY_BYTES_MAX: usize = (1 << 20) + (1 << 18);
/// What a slow sender is given, with room for a busy machine.
const PATIENCE: std::ops::Range<Duration> = Duration::from_millis(4_500)..Duration::from_secs(8);

fn ada_is_gone() -> String {
    event("user.deleted", json!({"object": "user", "id": "user_ada", "deleted": true})).to_string()
}

async fn ada_is_unknown(world: &World) -> anyhow::Result<()> {
    world.list("user_ada").await?.is_problem(404, "user-unknown");
    Ok(())
}

/// Sends bytes on a connection of their own; the response to them. What is still being sent when it comes is dropped.
async fn send(world: &World, bytes: Vec<u8>) -> anyhow::Result<Response> {
    let Wire { mut out, mut back } = Wire::to(world.nodes[0].address).await?;
    let sending = tokio::spawn(async move {
        // A service that refuses need not read to the end.
        let _ = out.write_all(&bytes).await;
        out
    });
    let response = back.response().await;
    sending.abort();
    response
}

/// Goes on sending a byte now and then until the service ends it; how long that took.
async fn drip(world: &World, beginning: &str) -> anyhow::Result<(Option<Response>, Duration)> {
    let began = Instant::now();
    let Wire { mut out, mut back } = Wire::to(world.nodes[0].address).await?;
    out.write_all(beginning.as_bytes()).await?;
    let dripping = tokio::spawn(async move {
        while out.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let response = back.response().await.ok();
    let took = began.elapsed();
    dripping.abort();
    Ok((response, took))
}

/// A head that never ends, and bodies that never do, at once; and beside them a delivery that is as quick as ever.
#[tokio::test(flavor = "multi_thread")]
async fn i12_slow_senders_are_cut_off_and_hold_nobody_up() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        let webhook = world.webhook(ada_is_gone());
        let length = webhook.body.len().to_string();
        let announced = head(&webhook, &[("content-length", &length)]);
        let in_chunks = head(&webhook, &[("transfer-encoding", "chunked")]) + "ffff\r\n";
        let quick = async {
            let began = Instant::now();
            let answer = world.post(&world.webhook(event("email.created", json!({})).to_string())).await?;
            assert_eq!(answer.status, 204);
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            anyhow::Ok(())
        };
        let (headless, slow, slow_chunk, ()) = tokio::try_join!(
            drip(world, "POST /webhooks/clerk HTTP/1.1\r\nhost: rollcall\r\nx-padding: "),
            drip(world, &announced),
            drip(world, &in_chunks),
            quick
        )?;
        assert!(headless.0.is_none_or(|response| response.status == 408), "a head is not waited for");
        for (response, took) in [slow, slow_chunk] {
            let response = response.expect("a body's sender is told");
            assert_eq!((response.status, response.code().as_str()), (408, "body-timeout"), "{response:?}");
            assert!(PATIENCE.contains(&took), "{took:?}");
        }
        assert!(headless.1 < PATIENCE.end, "{:?}", headless.1);
        assert_eq!(world.list("user_ada").await?.header("cache-status"), "rollcall; hit; detail=local");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_body_at_the_limit_is_taken_and_a_byte_more_is_refused() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for (size, expected) in [(BODY_BYTES_MAX, (204, "")), (BODY_BYTES_MAX + 1, (413, "body-too-large"))] {
            let webhook = world.webhook("a".repeat(size));
            let in_chunks = head(&webhook, &[("transfer-encoding", "chunked")]).into_bytes();
            let in_chunks = [in_chunks, chunked(&webhook.body, 10_000)].concat();
            for bytes in [request(&webhook), in_chunks] {
                let response = send(world, bytes).await?;
                assert_eq!((response.status, response.code().as_str()), expected, "{response:?}");
            }
        }
        // Announced alone: nothing needs to be read to know.
        let webhook = world.webhook("a");
        for length in [(BODY_BYTES_MAX + 1).to_string(), u64::MAX.to_string()] {
            let response = send(world, head(&webhook, &[("content-length", &length)]).into_bytes()).await?;
            assert_eq!((response.status, response.code().as_str()), (413, "body-too-large"), "{length}");
        }
        Ok(())
    })
    .await;
}

/// The published vector of a mebibyte: signed in 2021, so it can only be told too old by whoever has verified all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_svixs_largest_size_is_verified_whole() {
    let vectors: Value = serde_json::from_str(include_str!("../../fixtures/signatures/vectors.json")).expect("JSON");
    let vector = vectors["vectors"].as_array().expect("a list").iter().find(|vector| vector["name"] == "D1").expect("there");
    let text = |name: &str| vector[name].as_str().map_or_else(|| vector[name].to_string(), str::to_owned);
    let setup = Setup { more_webhook_secrets: vec![text("key")], ..Setup::default() };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        let headers = [("svix-id", text("id")), ("svix-timestamp", text("timestamp")), ("svix-signature", text("signature"))];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let vector = Webhook { headers, body: "a".repeat(1 << 20).into() };
        world.post(&vector).await?.is_problem(400, "message-too-old");
        world.post(&vector.clone().over("a".repeat((1 << 20) - 1))).await?.is_problem(401, "signature-invalid");
        // And one of today, in which the user stands at the very end.
        let padded =
            format!(r#"{{"padding":"{}","type":"user.deleted","data":{{"id":"user_ada"}}}}"#, "a".repeat((1 << 20) - 70));
        assert_eq!(world.post(&world.webhook(padded)).await?.status, 204);
        ada_is_unknown(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_body_is_refused_whatever_its_signature() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let webhook = world.webhook(ada_is_gone());
        for encoding in ["gzip", "deflate", "br", "zstd", "gzip, identity"] {
            let answer = world.post(&webhook.clone().and("content-encoding", encoding)).await?;
            answer.is_problem(415, "media-type-unsupported");
        }
        assert_eq!(world.list("user_ada").await?.status, 200);
        assert_eq!(world.post(&webhook.and("content-encoding", "identity")).await?.status, 204);
        ada_is_unknown(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_chunks_of_any_size_is_verified_as_received() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for size in [1, 7, 1_000] {
            let webhook = world.webhook(ada_is_gone());
            let head = head(&webhook, &[("transfer-encoding", "chunked")]).into_bytes();
            let response = send(world, [head.clone(), chunked(&webhook.body, size)].concat()).await?;
            assert_eq!(response.status, 204, "{response:?}");
            let response = send(world, [head, chunked(&[&webhook.body[..], b" "].concat(), size)].concat()).await?;
            assert_eq!(response.status, 401, "{response:?}");
        }
        ada_is_unknown(world).await
    })
    .await;
}

/// A receiver that verifies what it has parsed and written again would refuse the first and take the second.
#[tokio::test(flavor = "multi_thread")]
async fn i1_the_bytes_verified_are_the_bytes_received() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let spaced = "{\"type\": \"user.deleted\",\n \"data\": {\"id\": \"user_ada\", \"note\": \"\\u00e9 é\"}}\n";
        let rewritten = serde_json::from_str::<Value>(spaced)?.to_string();
        let webhook = world.webhook(spaced);
        world.post(&webhook.clone().over(rewritten)).await?.is_problem(401, "signature-invalid");
        world.post(&webhook.clone().over(spaced.trim_end().to_owned())).await?.is_problem(401, "signature-invalid");
        assert_eq!(world.list("user_ada").await?.status, 200);
        assert_eq!(world.post(&webhook).await?.status, 204);
        ada_is_unknown(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_told_which_one_is_taken() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let webhook = world.webhook(ada_is_gone());
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let bytes = String::from_utf8(request(&webhook))?.replacen("POST", method, 1);
            let response = send(world, bytes.into_bytes()).await?;
            assert_eq!((response.status, response.code().as_str()), (405, "method-not-allowed"), "{method}");
            assert!(response.head.to_ascii_lowercase().contains("\r\nallow: post\r\n"), "{}", response.head);
        }
        assert_eq!(world.list("user_ada").await?.status, 200);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_in_one_breath_are_answered_each_in_its_turn() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let good = world.webhook(ada_is_gone());
        let bad = good.clone().over(ada_is_gone() + " ");
        let ignored = world.webhook(event("email.created", json!({})).to_string());
        let mut wire = Wire::to(world.nodes[0].address).await?;
        wire.send([request(&ignored), request(&bad), request(&good), request(&ignored)].concat()).await?;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(wire.response().await?.status);
        }
        assert_eq!(statuses, [204, 401, 204, 204]);
        ada_is_unknown(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_asks_before_it_sends_is_told_to_go_on() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let webhook = world.webhook(ada_is_gone());
        let length = webhook.body.len().to_string();
        let mut wire = Wire::to(world.nodes[0].address).await?;
        wire.send(head(&webhook, &[("content-length", &length), ("expect", "100-continue")])).await?;
        assert_eq!(wire.response().await?.status, 100);
        wire.send(&webhook.body).await?;
        assert_eq!(wire.response().await?.status, 204);
        ada_is_unknown(world).await
    })
    .await;
}

/// Two lengths, or a length and chunks: two readers could see two different requests in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_is_ambiguous_is_refused() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let webhook = world.webhook(ada_is_gone());
        let length = webhook.body.len().to_string();
        for more in [
            [("content-length", length.as_str()), ("transfer-encoding", "chunked")],
            [("content-length", length.as_str()), ("content-length", "1")],
        ] {
            let response = send(world, [head(&webhook, &more).as_bytes(), &webhook.body].concat()).await?;
            assert_eq!(response.status, 400, "{response:?}");
        }
        assert_eq!(world.list("user_ada").await?.status, 200);
        Ok(())
    })
    .await;
}

/// The sender dies in the middle of the body: what came is not half a message.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_changes_nothing() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list("user_ada").await?;
        // What came so far is rightly signed; more was announced.
        let webhook = world.webhook(ada_is_gone());
        let length = (webhook.body.len() + 1).to_string();
        let mut wire = Wire::to(world.nodes[0].address).await?;
        wire.send([head(&webhook, &[("content-length", &length)]).as_bytes(), &webhook.body].concat()).await?;
        wire.out.shutdown().await?;
        wire.back.ended().await?;
        assert_eq!(world.list("user_ada").await?.header("cache-status"), "rollcall; hit; detail=local");
        Ok(())
    })
    .await;
}

/// 300 deliveries whose last byte is held back: 256 find a place, the others are told at once, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn i12_too_many_at_once_are_told_so_and_none_is_lost() {
    const ALL: usize = 300;
    const PLACES: usize = 256;
    let users: Vec<String> = (0..ALL).map(|n| format!("user_{n}")).collect();
    let mut clerk = ClerkWorld::small();
    users.iter().for_each(|user| clerk.put_into(user, 2).expect("room for them"));
    run_test(Deployment::Redis(1), Setup { clerk, ..Setup::default() }, async |world: &mut World| {
        let everybody = async || try_join_all(users.iter().map(|user| world.check(user, "crowd-0001"))).await;
        everybody().await?.iter().for_each(|answer| drop(answer.is_member()));
        world.origin_lags();
        let leave = |user: &String| world.change(|clerk| clerk.revoke(user, "crowd-0001")).messages[0].body.clone();
        let webhooks: Vec<Webhook> = users.iter().map(|user| world.webhook(leave(user))).collect();

        let (go, is_going) = watch::channel(false);
        let delivering = try_join_all(webhooks.iter().map(|webhook| hold_the_last_byte(world, webhook, is_going.clone())));
        let letting_go = async {
            until("the places are taken", async || {
                (world.deliveries("overloaded").await.ok()? == (ALL - PLACES) as u64).then_some(())
            })
            .await;
            go.send_replace(true);
        };
        let (responses, ()) = tokio::join!(delivering, letting_go);
        let responses = responses?;
        let is_refused = |response: &&Response| response.code() == "overloaded" && !response.has_header("retry-after");
        assert_eq!(responses.iter().filter(is_refused).count(), ALL - PLACES);
        // A Redis that takes too long once is not asked any more by the rest of a crowd.
        let is_heard = |response: &Response| response.status == 204 || response.code() == "shared-unavailable";
        assert_eq!(responses.iter().filter(|response| is_heard(response)).count(), PLACES);

        for (webhook, _) in webhooks.iter().zip(&responses).filter(|(_, response)| response.status == 503) {
            assert_eq!(world.post(webhook).await?.status, 204, "sent again under its id");
        }
        everybody().await?.iter().for_each(|answer| answer.is_not_a_member());
        Ok(())
    })
    .await;
}

/// Sends all but the last byte, and that one only when told to; the response may come before.
async fn hold_the_last_byte(world: &World, webhook: &Webhook, mut go: watch::Receiver<bool>) -> anyhow::Result<Response> {
    let Wire { mut out, mut back } = Wire::to(world.nodes[0].address).await?;
    let bytes = request(webhook);
    let (last, most) = bytes.split_last().expect("there are many");
    out.write_all(most).await?;
    let letting_go = async {
        go.wait_for(|is_going| *is_going).await?;
        Ok(out.write_all(&[*last]).await?)
    };
    let (response, _) = tokio::join!(back.response(), async {
        // Refused already: nobody waits for the byte.
        let _: anyhow::Result<()> = letting_go.await;
    });
    response
}
