//! Floods of tokens: one of them over and over, made-up ones under made-up keys, and more valid ones than are remembered. A
//! signature is checked once, Clerk is asked for keys once in ten seconds, and memory has an end. I12.
//!
//! By hand more of them: `ROLLCALL_TEST_TOKEN_USES`, `ROLLCALL_TEST_FORGED_TOKENS=100000` and `ROLLCALL_TEST_VALID_TOKENS=100000`
//! before `cargo test --test it token_flood -- --nocapture`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt, stream};
use rollcall::dev::{INSTANCE_ID, NewToken};
use serde_json::json;

use crate::world::answer::Answer;
use crate::world::dice::Dice;
use crate::world::rollcall::Rollcall;
use crate::world::wait::until;
use crate::world::webhooks::now;

/// Requests under way.
const AT_ONCE: usize = 32;
/// Between the begins of two fetches of keys.
const PACE: Duration = Duration::from_secs(10);
/// What is held of tokens, as the service counts it.
const REMEMBERED_BYTES_MAX: u64 = 32 << 20;
const MIB: u64 = 1 << 20;

fn by_hand(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).map_or(ordinary, |text| text.parse().expect("a number"))
}

/// What could not be found out on a busy machine is asked again.
async fn ask(rollcall: &Rollcall, token: &str) -> Answer {
    ask_counted(rollcall, token, &AtomicU64::new(0)).await
}

/// The same, and counts how often.
async fn ask_counted(rollcall: &Rollcall, token: &str, count: &AtomicU64) -> Answer {
    until("an answer", async || {
        count.fetch_add(1, Ordering::Relaxed);
        let request = rollcall.http.get(format!("{}/v1/context", rollcall.url)).bearer_auth(token);
        let answer = Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer");
        (answer.status != 503).then_some(answer)
    })
    .await
}

/// It takes tokens, and has the instance's key.
async fn serve() -> Rollcall {
    let rollcall = Rollcall::serve().await;
    let token = mint(&rollcall);
    until("tokens are in no doubt", async || (ask(&rollcall, &token).await.status == 200).then_some(())).await;
    rollcall
}

fn mint(rollcall: &Rollcall) -> String {
    let new = NewToken {
        user: Some("user_ada".to_owned()),
        organization: Some("harbour-works".to_owned()),
        // However slow the machine is.
        lives_seconds: Some(590),
        ..NewToken::default()
    };
    rollcall.clerk.mint(&new).expect("she is in the world")
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_ten_thousand_uses_of_one_token_are_one_check_of_its_signature() {
    let uses = by_hand("ROLLCALL_TEST_TOKEN_USES", 10_000);
    let rollcall = serve().await;
    let token = mint(&rollcall);
    let counted = async || {
        let [verified, remembered] = ["rollcall_tokens_verified_total", "rollcall_tokens_remembered_total"];
        anyhow::Ok((rollcall.metric(verified).await?, rollcall.metric(remembered).await?))
    };
    let before = counted().await.expect("metrics");
    let (began, asked) = (Instant::now(), AtomicU64::new(0));
    stream::iter(0..uses)
        .for_each_concurrent(AT_ONCE, async |_| {
            let answer = ask_counted(&rollcall, &token, &asked).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        })
        .await;
    let took = began.elapsed();
    let after = counted().await.expect("metrics");
    println!("{uses} uses in {took:?}: {} checks, {} remembered", after.0 - before.0, after.1 - before.1);
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, asked.into_inner() - 1));
}

/// Well-formed, signed by nobody; every tenth under the instance's key, the others under one that nobody has.
fn made_up(dice: &mut Dice) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let kid = if dice.below(10) == 0 { INSTANCE_ID.to_owned() } else { format!("ins_{}", dice.below(usize::MAX)) };
    let header = json!({"alg": "RS256", "kid": kid, "typ": "JWT", "cat": "cl_B7d4PD111AAA"});
    let claims = json!({"sub": "user_ada", "sid": format!("sess_{}", dice.below(usize::MAX)), "iat": now(), "exp": now() + 60});
    let signature: Vec<u8> = (0..32).flat_map(|_| dice.below(usize::MAX).to_be_bytes()).collect();
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// Of a session of its own, with as much in it as a token may carry.
fn heavy(rollcall: &Rollcall, n: usize) -> String {
    let permissions: Vec<String> = (0..180).map(|n| format!("org:a_feature_of_the_plan_{n:03}:manage")).collect();
    // Once: a second later it would live for longer than a token may.
    let now = now();
    rollcall.clerk.sign_token(&json!({
        "iss": rollcall.clerk.issuer(), "sub": "user_ada", "sid": format!("sess_{n}"), "iat": now, "nbf": now - 10,
        "exp": now + 600, "sts": "active", "org_id": "org_harbour_works", "org_role": "org:member",
        "org_permissions": permissions,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_tokens_in_any_number_are_held_in_bounded_memory_and_ask_for_keys_once_in_ten_seconds() {
    let forged = by_hand("ROLLCALL_TEST_FORGED_TOKENS", 20_000);
    let valid = by_hand("ROLLCALL_TEST_VALID_TOKENS", 6_000);
    let began = Instant::now();
    let rollcall = serve().await;
    let mut dice = Dice::new(1);
    let mut flood = async |count: usize| {
        stream::iter((0..count).map(|_| made_up(&mut dice)))
            .for_each_concurrent(AT_ONCE, async |token| {
                let answer = ask(&rollcall, &token).await;
                answer.is_problem(401, "token-invalid");
            })
            .await;
    };
    // What connections and workers cost is not the tokens'.
    flood(1_000).await;
    let before = rollcall.resident_bytes();
    flood(forged).await;
    let after_forged = rollcall.resident_bytes();
    stream::iter(0..valid)
        .for_each_concurrent(AT_ONCE, async |n| {
            let answer = ask(&rollcall, &heavy(&rollcall, n)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        })
        .await;
    let after_valid = rollcall.resident_bytes();
    let (elapsed, fetches) = (began.elapsed(), rollcall.clerk.calls().seen().by_path["GET /v1/jwks"]);
    let dropped = rollcall.metric("rollcall_tokens_dropped_total").await.expect("metrics");
    println!(
        "{forged} made-up and {valid} valid tokens in {elapsed:?}: {fetches} fetches of keys; {} MiB, {} MiB, {} MiB; {dropped} dropped",
        before / MIB,
        after_forged / MIB,
        after_valid / MIB,
    );
    assert!(fetches <= 1 + elapsed.as_secs() / PACE.as_secs(), "{fetches} in {elapsed:?}");
    assert!(after_forged.saturating_sub(before) < 8 * MIB, "of what was refused nothing is kept");
    // The allocator's share is not counted.
    assert!(after_valid.saturating_sub(before) < REMEMBERED_BYTES_MAX * 2, "what is remembered has an end");
    assert!(dropped > 0, "too few to mean anything");
}
