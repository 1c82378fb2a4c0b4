//! Deliveries that are not taken: each refusal by its code, what it leaves untouched, and what is not acknowledged although it
//! was understood.

use std::time::Instant;

use rollcall::dev::Tamper;
use rollcall::dev::sign::fresh_secret;
use serde_json::{Value, json};

use crate::world::answer::Answer;
use crate::world::service::{Deployment, Setup, World, run_on_both, run_test};
use crate::world::wait::until;
use crate::world::webhooks::{STANDARD, SVIX, Webhook, event, now};

/// The body of a message that would show: Ada is gone.
fn ada_is_gone() -> String {
    event("user.deleted", json!({"object": "user", "id": "user_ada", "deleted": true})).to_string()
}

/// Nothing of a refused delivery was believed.
async fn ada_is_still_there(world: &World) -> anyhow::Result<()> {
    assert_eq!(world.list("user_ada").await?.header("cache-status"), "rollcall; hit; detail=local");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_missing_doubled_mixed_or_malformed_are_named() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        let good = world.webhook(ada_is_gone());
        let long = Webhook::signed_as(&world.clerk.sender().secret(), &"m".repeat(129), now(), ada_is_gone());
        let mut cases = vec![(long, "svix-id"), (good.clone().with("svix-id", "msg.1"), "svix-id")];
        for name in SVIX {
            cases.push((good.clone().without(name), name));
            cases.push((good.clone().and(name, good.header(name)), name));
            cases.push((good.clone().with(name, ""), name));
        }
        for (svix, standard) in SVIX.into_iter().zip(STANDARD) {
            // Of two families one could be signed and the other believed: not even the same value is taken.
            cases.push((good.clone().and(standard, good.header(svix)), standard));
        }
        for time in ["soon", "-1", "+1", "1.0", "99999999999999999999"] {
            cases.push((good.clone().with("svix-timestamp", time), "svix-timestamp"));
        }
        cases.push((good.clone().with("svix-signature", &"v1,a ".repeat(500)), "svix-signature"));
        for (webhook, field) in &cases {
            let answer = world.post(webhook).await?;
            answer.is_problem(400, "delivery-malformed");
            assert_eq!(answer.json()["field"], *field, "{webhook:?}");
        }
        assert_eq!(world.deliveries("malformed").await?, cases.len() as u64);
        ada_is_still_there(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_family_of_headers_is_taken_alone() {
    run_on_both(Setup::default, async |world: &mut World| {
        for webhook in [world.webhook(ada_is_gone()), world.webhook(ada_is_gone()).in_standard_names()] {
            assert_eq!(world.post(&webhook).await?.status, 204);
        }
        world.list("user_ada").await?.is_problem(404, "user-unknown");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_signature_with_an_old_time_is_told_apart_from_a_wrong_one() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        let (secret, foreign) = (world.clerk.sender().secret(), fresh_secret());
        for age in [310, -310, 100_000, -100_000] {
            let of = |secret: &str| Webhook::signed_as(secret, "msg_1", now() - age, ada_is_gone());
            world.post(&of(&secret)).await?.is_problem(400, "message-too-old");
            world.post(&of(&foreign)).await?.is_problem(401, "signature-invalid");
        }
        assert_eq!((world.deliveries("too-old").await?, world.deliveries("signature-invalid").await?), (4, 4));
        ada_is_still_there(world).await?;
        for age in [290, -290] {
            let webhook = Webhook::signed_as(&secret, "msg_1", now() - age, ada_is_gone());
            assert_eq!(world.post(&webhook).await?.status, 204);
        }
        Ok(())
    })
    .await;
}

/// An answer of a refused signature, without what differs between any two answers.
fn told(answer: &Answer) -> (Value, Vec<String>) {
    answer.is_problem(401, "signature-invalid");
    let mut problem = answer.json();
    problem["requestId"] = Value::Null;
    // Their order is the map's own, and another one in every response.
    let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
    names.sort();
    (problem, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_never_tells_what_was_wrong() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        let good = world.webhook(ada_is_gone());
        let signature = good.header("svix-signature").to_owned();
        let earlier = good.header("svix-timestamp").parse::<i64>()? - 1;
        let wrong = [
            Webhook::signed(&fresh_secret(), ada_is_gone()),
            good.clone().over(ada_is_gone() + " "),
            good.clone().over(""),
            good.clone().with("svix-id", "msg_another"),
            good.clone().with("svix-timestamp", &earlier.to_string()),
            good.clone().with("svix-signature", &signature[..11]),
            good.clone().with("svix-signature", &signature.replace("v1,", "v1a,")),
            good.clone().with("svix-signature", &signature.replace("v1,", "V1,")),
            good.clone().with("svix-signature", "v1,"),
            good.clone().with("svix-signature", "nonsense"),
        ];
        let mut all = Vec::new();
        for webhook in &wrong {
            all.push(told(&world.post(webhook).await?));
        }
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(!all[0].1.contains(&"www-authenticate".to_owned()), "no key would help: {all:?}");
        ada_is_still_there(world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_from_any_secret_of_a_rotation_is_taken() {
    let (next, after_next, foreign) = (fresh_secret(), fresh_secret(), fresh_secret());
    let setup = || Setup { more_webhook_secrets: vec![next.clone(), after_next.clone()], ..Setup::default() };
    run_on_both(setup, async |world: &mut World| {
        let sender = world.clerk.sender().clone();
        let current = sender.secret();
        let rotation: [(&[&String], u16); 7] = [
            (&[&current], 204),
            (&[&next], 204),
            (&[&after_next], 204),
            (&[&foreign, &next], 204),
            (&[&next, &foreign, &current], 204),
            (&[&current, &foreign], 204),
            (&[&foreign], 401),
        ];
        for (secrets, expected) in rotation {
            sender.set_secrets(secrets.iter().map(|secret| (*secret).clone()).collect());
            let promoted = world.change(|clerk| clerk.rename("org_harbour_works", Some("Harbour"), None));
            let delivery = &world.deliver_to(0, &promoted).await[0];
            assert_eq!(delivery.status, Some(expected), "{delivery:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_forgery_of_the_sender_is_refused_and_then_the_message_is_taken() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_ada", "harbour-works").await?.is_member();
        world.origin_lags();
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        let forged = [
            (Tamper::Body, 401),
            (Tamper::Secret(fresh_secret()), 401),
            (Tamper::CutSignature, 401),
            (Tamper::Age(310), 400),
            (Tamper::Age(-310), 400),
            (Tamper::Missing("svix-signature"), 400),
            (Tamper::Doubled("svix-id"), 400),
            (Tamper::MixedFamilies, 400),
        ];
        for (tamper, expected) in forged {
            let endpoint = world.nodes[0].webhooks();
            let delivery = world.clerk.sender().deliver_forged(&left.messages[0], &endpoint, &tamper).await;
            assert_eq!(delivery.status, Some(expected), "{tamper:?}");
        }
        world.check("user_ada", "harbour-works").await?.is_member();
        world.deliver(&left).await;
        world.check("user_ada", "harbour-works").await?.is_not_a_member();
        Ok(())
    })
    .await;
}

/// How Redis goes away, and how it comes back.
type Away = (fn(&mut World), fn(&mut World));

/// A change that only this node knows: it holds here at once, is not acknowledged, and is taken when Redis is back.
async fn holds_here_and_is_not_acknowledged((go, come_back): Away) {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        for node in [0, 1] {
            world.ask(node, "/v1/users/user_ada/orgs/harbour-works").await?.is_member();
        }
        world.origin_lags();
        go(world);
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        let began = Instant::now();
        let answer = world.post(&world.webhook(left.messages[0].body.clone())).await?;
        answer.is_problem(503, "shared-unavailable");
        assert!(answer.headers.get("retry-after").is_none(), "it could only make the sender wait longer: {answer:?}");
        assert!(began.elapsed().as_secs() < 10, "Svix waits for 15 s: {:?}", began.elapsed());
        assert_eq!(world.deliveries("unconfirmed").await?, 1);
        world.ask(0, "/v1/users/user_ada/orgs/harbour-works").await?.is_not_a_member();

        come_back(world);
        until("the message is taken", async || {
            let delivery = world.clerk.sender().deliver_now(&left.messages[0], &world.nodes[0].webhooks()).await;
            delivery.is_taken().then_some(())
        })
        .await;
        until("the change is effective on the other node", async || {
            (world.ask(1, "/v1/users/user_ada/orgs/harbour-works").await.ok()?.status == 404).then_some(())
        })
        .await;
        world.ask(0, "/v1/users/user_ada/orgs/harbour-works").await?.is_not_a_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_while_redis_stands_still_a_change_holds_here_and_is_not_acknowledged() {
    holds_here_and_is_not_acknowledged((|world| world.redis().pause(), |world| world.redis().resume())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_while_redis_is_gone_a_change_holds_here_and_is_not_acknowledged() {
    holds_here_and_is_not_acknowledged((|world| world.redis().kill(), |world| world.redis().restart())).await;
}

/// What asks nothing of anybody is acknowledged all the same: sending it again would change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_gone_what_is_ignored_is_acknowledged() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.redis().kill();
        world.take(&event("email.created", json!({"id": "ema_1", "user_id": "user_ada"}))).await?;
        world.redis().restart();
        Ok(())
    })
    .await;
}
