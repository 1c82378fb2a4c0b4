//! The current user context: who calls, and in which organization, from a session token alone.

use std::time::{Duration, Instant};

use rollcall::config::{Config, TokenKeys};
use rollcall::dev::{NewToken, SessionEnd};
use rollcall::token::Key;
use serde_json::{Value, json};

use crate::world::answer::Answer;
use crate::world::service::{self, Deployment, READ_KEY, Setup, World};
use crate::world::token_keys::pem_of;
use crate::world::wait::until;

/// Runs a test in a world whose nodes have heard that its history is whole: until then a token from before is in doubt.
async fn run_test(deployment: Deployment, test: impl AsyncFn(&mut World) -> anyhow::Result<()>) {
    service::run_test(deployment, Setup::default(), async |world: &mut World| {
        for number in 0..world.nodes.len() {
            until("tokens are in no doubt", async || {
                let answer = ask(world, number, &mint(world, &of("user_noor")), "").await.ok()?;
                (answer.status == 200).then_some(())
            })
            .await;
        }
        test(world).await
    })
    .await;
}

/// Alone and on Redis with one node: what is promised is promised of both.
pub(crate) async fn run_on_both(test: impl AsyncFn(&mut World) -> anyhow::Result<()>) {
    for deployment in [Deployment::Alone, Deployment::Redis(1)] {
        println!("deployment: {deployment:?}");
        run_test(deployment, &test).await;
    }
}

/// A token of a new session of this user.
pub(crate) fn of(user: &str) -> NewToken {
    NewToken { user: Some(user.to_owned()), ..NewToken::default() }
}

/// The same, with this organization active.
pub(crate) fn within(user: &str, organization: &str) -> NewToken {
    NewToken { organization: Some(organization.to_owned()), ..of(user) }
}

pub(crate) fn mint(world: &World, new: &NewToken) -> String {
    world.clerk.mint(new).expect("the world allows it")
}

/// Asks node `number` with a token.
pub(crate) async fn ask(world: &World, number: usize, token: &str, query: &str) -> anyhow::Result<Answer> {
    let url = format!("{}/v1/context{query}", world.nodes[number].url());
    Ok(Answer::of(world.http.get(url).bearer_auth(token).send().await?).await?.lawful())
}

/// Asks the first node with a fresh token.
async fn context(world: &World, new: &NewToken, query: &str) -> anyhow::Result<Answer> {
    ask(world, 0, &mint(world, new), query).await
}

/// A context by decision: its object.
#[track_caller]
pub(crate) fn decided(answer: &Answer, decision: &str) -> Value {
    assert_eq!((answer.status, answer.header("rollcall-decision")), (200, decision), "{answer:?}");
    answer.json()
}

/// The session in a token.
pub(crate) fn session_of(token: &str) -> String {
    use base64::Engine;
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let claims: Value = serde_json::from_slice(&payload).expect("JSON");
    claims["sid"].as_str().expect("a session").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_who_calls_and_the_organization_that_is_active() {
    run_on_both(async |world: &mut World| {
        for version in [1, 2] {
            let new = NewToken {
                version: Some(version),
                authorized_party: Some("https://a.test".into()),
                ..within("user_ada", "harbour-works")
            };
            let token = mint(world, &new);
            let answer = ask(world, 0, &token, "").await?;
            let context = decided(&answer, "context");
            assert_eq!((&context["userId"], &context["sessionId"]), (&json!("user_ada"), &json!(session_of(&token))));
            assert_eq!(context["organization"], world.check("user_ada", "harbour-works").await?.is_member());
            assert_eq!(
                (&context["actor"], context.get("memberships"), context.get("organizationReason")),
                (&Value::Null, None, None)
            );
            let claims = &context["claims"];
            assert_eq!(
                (&claims["azp"], &claims["fva"], &claims["sts"]),
                (&json!("https://a.test"), &json!([0, -1]), &json!("active"))
            );
            assert_eq!(context["tokenExpiresAt"], json!(claims["exp"].as_i64().expect("a time") * 1_000));
            assert_eq!(claims["exp"].as_i64().expect("a time") - claims["iat"].as_i64().expect("a time"), 60);
            assert_eq!(answer.header("content-type"), "application/json");
        }
        let impersonated = NewToken { actor: Some("user_root".into()), ..of("user_ada") };
        let context = decided(&context(world, &impersonated, "").await?, "context");
        assert_eq!((&context["actor"]["sub"], &context["organization"]), (&json!("user_root"), &Value::Null));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_organization_nobodys_memberships_are_asked_for() {
    run_on_both(async |world: &mut World| {
        let token = mint(world, &of("user_ada"));
        let answer = ask(world, 0, &token, "").await?;
        let context = decided(&answer, "context");
        assert_eq!((&context["organization"], context.get("organizationReason")), (&Value::Null, None));
        assert_eq!((answer.header("age"), answer.header("cache-status")), ("", ""), "there is no reading");
        assert!(answer.number("rollcall-lag") <= 1_000);
        assert_eq!(world.clerk.calls().of_user("user_ada"), 0);
        let with_list = decided(&ask(world, 0, &token, "?include=memberships").await?, "context");
        assert_eq!(with_list["memberships"], world.list("user_ada").await?.json());
        assert_eq!(with_list["organization"], Value::Null);
        let both = decided(&ask(world, 0, &token, "?include=memberships&org=harbour-works").await?, "member");
        assert_eq!(both["memberships"].as_array().map(Vec::len), Some(12));
        assert_eq!(both["organization"]["organizationSlug"], "harbour-works");
        let none = decided(&self::context(world, &of("user_tomas"), "?include=memberships").await?, "context");
        assert_eq!(none["memberships"], json!([]));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_asked_for_is_answered_like_a_check() {
    run_on_both(async |world: &mut World| {
        let token = mint(world, &within("user_ada", "harbour-works"));
        let ask = async |query: &str| ask(world, 0, &token, query).await;
        for organization in ["northfold-bakery", "org_northfold_bakery"] {
            let context = decided(&ask(&format!("?org={organization}")).await?, "member");
            assert_eq!(context["organization"]["organizationId"], "org_northfold_bakery", "not the active one");
        }
        decided(&ask("?org=harbour-works&role=org:admin").await?, "member");
        decided(&ask("?org=northfold-bakery&role=org:admin&role=org:member").await?, "member");
        let refused = ask("?org=northfold-bakery&role=org:admin").await?;
        refused.is_problem(403, "role-missing");
        assert_eq!(refused.header("rollcall-decision"), "role-missing");
        // Of the world, and hers it is not; and of no world.
        for organization in ["quiet-rooms", "org_nowhere", "Harbour-Works"] {
            ask(&format!("?org={organization}")).await?.is_not_a_member();
        }
        for (query, field) in [
            ("?role=org:admin", "role"),
            ("?include=everything", "include"),
            ("?include=", "include"),
            ("?org=harbour-works&org=harbour-works", "org"),
            ("?org=harbour-works&role=", "role"),
        ] {
            ask(query).await?.is_problem_of("parameter-invalid", field);
        }
        for organization in ["", "a%20b", "org_", "..", "a%2Fb"] {
            ask(&format!("?org={organization}")).await?.is_problem_of("id-malformed", "org");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_is_the_one_known_here_and_who_left_is_told_so() {
    run_on_both(async |world: &mut World| {
        let token = mint(world, &within("user_ada", "harbour-works"));
        assert_eq!(decided(&ask(world, 0, &token, "").await?, "context")["organization"]["role"], "org:admin");
        let demoted = world.change(|clerk| clerk.change_role("user_ada", "harbour-works", "org:member"));
        world.deliver(&demoted).await;
        assert_eq!(decided(&ask(world, 0, &token, "").await?, "context")["organization"]["role"], "org:member");
        ask(world, 0, &token, "?org=harbour-works&role=org:admin").await?.is_problem(403, "role-missing");
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        let context = decided(&ask(world, 0, &token, "").await?, "context");
        assert_eq!((&context["organization"], &context["organizationReason"]), (&Value::Null, &json!("not-a-member")));
        ask(world, 0, &token, "?org=harbour-works").await?.is_not_a_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_known_by_its_etag_and_asked_for_with_freshness() {
    run_on_both(async |world: &mut World| {
        let url = format!("{}/v1/context?org=harbour-works", world.nodes[0].url());
        let token = mint(world, &of("user_ada"));
        let ask = async |name: &str, value: &str| {
            let request = world.http.get(&url).bearer_auth(&token).header(name, value);
            anyhow::Ok(Answer::of(request.send().await?).await?.lawful())
        };
        let first = ask("x-nothing", "").await?;
        first.came("fwd=miss; stored");
        ask("x-nothing", "").await?.came("hit; detail=local");
        let known = ask("if-none-match", first.header("etag")).await?;
        assert_eq!((known.status, known.body.len(), known.header("rollcall-decision")), (304, 0, "member"));
        ask("cache-control", "no-cache").await?.came("fwd=request");
        ask("cache-control", "max-age=x").await?.is_problem_of("parameter-invalid", "Cache-Control");
        let bare = format!("{}/v1/context", world.nodes[0].url());
        let request = world.http.get(bare).bearer_auth(&token).header("cache-control", "max-age=x");
        Answer::of(request.send().await?).await?.is_problem_of("parameter-invalid", "Cache-Control");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_live_session_token_of_this_instance_is_refused_with_its_code() {
    run_test(Deployment::Alone, async |world: &mut World| {
        let url = format!("{}/v1/context", world.nodes[0].url());
        let bare = Answer::of(world.http.get(&url).send().await?).await?.lawful();
        bare.is_problem(401, "caller-unknown");
        assert_eq!(bare.header("www-authenticate"), "Bearer");
        let issuer = world.clerk.issuer().to_owned();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
        let signed = |members: Value| {
            let mut claims = json!({
                "iss": issuer, "sub": "user_ada", "sid": "sess_1", "iat": now, "nbf": now - 10, "exp": now + 60, "sts": "active",
            });
            claims.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
            world.clerk.sign_token(&claims)
        };
        let whole = signed(json!({}));
        assert_eq!(ask(world, 0, &whole, "").await?.status, 200);
        for (token, status, code) in [
            (READ_KEY.to_owned(), 401, "token-invalid"),
            ("a.b.c".to_owned(), 401, "token-invalid"),
            (whole[..whole.len() - 4].to_owned(), 401, "token-invalid"),
            ("x".repeat(16_385), 401, "token-invalid"),
            (signed(json!({"iss": "https://clerk.elsewhere.test"})), 401, "token-invalid"),
            (signed(json!({"exp": now + 3_600})), 401, "token-invalid"),
            (signed(json!({"iat": now - 120, "exp": now - 60})), 401, "token-expired"),
            (signed(json!({"iat": now + 60, "exp": now + 120})), 401, "token-not-yet-valid"),
            (signed(json!({"nbf": now + 60})), 401, "token-not-yet-valid"),
            (signed(json!({"sub": "mch_1"})), 401, "token-kind-refused"),
            ("ak_0123456789".to_owned(), 401, "token-kind-refused"),
            (signed(json!({"sts": "pending"})), 403, "session-pending"),
        ] {
            let refused = ask(world, 0, &token, "?org=harbour-works").await?;
            refused.is_problem(status, code);
            assert_eq!((refused.header("rollcall-decision"), refused.header("retry-after")), ("", ""), "{code}");
            assert_eq!(refused.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
        }
        // What was wrong with the request comes after what was wrong with the caller.
        ask(world, 0, "a.b.c", "?org=").await?.is_problem(401, "token-invalid");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parties_pending_sessions_and_the_cookie_are_taken_where_that_is_configured() {
    run_test(Deployment::Bare, async |world: &mut World| {
        let configure = |config: &mut Config| {
            config.tokens.policy.authorized_parties = vec!["https://a.test".to_owned()];
            config.tokens.policy.allows_pending = true;
            config.tokens.is_cookie_read = true;
        };
        world.add_node_with(configure).await;
        let party = |party: &str| NewToken { authorized_party: Some(party.into()), is_pending: true, ..of("user_ada") };
        let token = mint(world, &party("https://a.test"));
        assert_eq!(decided(&ask(world, 0, &token, "").await?, "context")["claims"]["sts"], "pending");
        context(world, &party("https://b.test"), "").await?.is_problem(403, "party-unauthorized");
        context(world, &of("user_ada"), "").await?.is_problem(403, "party-unauthorized");
        let url = format!("{}/v1/context", world.nodes[0].url());
        let with = async |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(world.http.get(&url), |request, (name, value)| request.header(*name, *value));
            anyhow::Ok(Answer::of(request.send().await?).await?.lawful())
        };
        let cookie = format!("a=b; __session={token}; __session_x=no");
        assert_eq!(with(&[("cookie", &cookie)]).await?.status, 200);
        with(&[("cookie", "__session_x=no; x__session=no; __session")]).await?.is_problem(401, "caller-unknown");
        with(&[("cookie", &cookie), ("authorization", "Bearer a.b.c")]).await?.is_problem(401, "token-invalid");
        with(&[("cookie", &cookie), ("authorization", "Basic YTpi")]).await?.is_problem(401, "caller-unknown");
        Ok(())
    })
    .await;
    run_test(Deployment::Alone, async |world: &mut World| {
        let token = mint(world, &of("user_ada"));
        let request =
            world.http.get(format!("{}/v1/context", world.nodes[0].url())).header("cookie", format!("__session={token}"));
        Answer::of(request.send().await?).await?.is_problem(401, "caller-unknown");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_is_refused_on_every_node_whoever_remembers_its_token() {
    run_test(Deployment::Redis(3), async |world: &mut World| {
        for how in [SessionEnd::Ended, SessionEnd::Removed, SessionEnd::Revoked] {
            let token = mint(world, &of("user_ada"));
            // The third node has not seen it before.
            for number in 0..2 {
                decided(&ask(world, number, &token, "").await?, "context");
            }
            let ended = world.change(|clerk| clerk.end_session(&session_of(&token), how));
            world.deliver(&ended).await;
            let acknowledged = Instant::now();
            ask(world, 0, &token, "").await?.is_problem(401, "session-ended");
            for number in [1, 2] {
                until("the end is known", async || {
                    let since = acknowledged.elapsed();
                    let answer = ask(world, number, &token, "?org=harbour-works").await.ok()?;
                    let is_late = since > world.bounds().staleness;
                    assert!(answer.status != 200 || !is_late || answer.number("rollcall-lag") > 1_000, "{since:?}: {answer:?}");
                    (answer.status == 401).then(|| answer.is_problem(401, "session-ended"))
                })
                .await;
            }
        }
        let another = mint(world, &of("user_ada"));
        decided(&ask(world, 1, &another, "").await?, "context");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_and_a_deletion_end_every_token_of_the_user() {
    run_on_both(async |world: &mut World| {
        let (banned, deleted) = (mint(world, &of("user_noor")), mint(world, &of("user_ivo")));
        for token in [&banned, &deleted] {
            decided(&ask(world, 0, token, "").await?, "context");
        }
        let mut ban = world.change(|clerk| clerk.ban("user_noor"));
        // The ban alone: the sessions' own messages come later, or never.
        ban.messages.truncate(1);
        world.deliver(&ban).await;
        ask(world, 0, &banned, "").await?.is_problem(401, "session-ended");
        let deletion = world.change(|clerk| clerk.delete_user("user_ivo"));
        world.deliver(&deletion).await;
        ask(world, 0, &deleted, "").await?.is_problem(401, "session-ended");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_way_and_unknown_ones_are_asked_for_seldom() {
    run_test(Deployment::Bare, async |world: &mut World| {
        // From the API, where the stand-in counts.
        world.add_node_with(|config| config.tokens.keys = TokenKeys::OfTheApi).await;
        world.clerk.calls().reset();
        let old = mint(world, &of("user_ada"));
        world.clerk.rotate_keys(false);
        // Of the second key, before any was fetched.
        decided(&context(world, &of("user_noor"), "").await?, "context");
        decided(&ask(world, 0, &old, "").await?, "context");
        world.clerk.rotate_keys(true);
        for _ in 0..50 {
            context(world, &of("user_noor"), "").await?.is_problem(401, "token-invalid");
        }
        decided(&ask(world, 0, &old, "").await?, "context");
        assert_eq!(world.clerk.calls().seen().by_path.get("GET /v1/jwks"), Some(&1), "within ten seconds");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_of_our_own_clerk_is_not_asked_and_need_not_be_there() {
    run_test(Deployment::Bare, async |world: &mut World| {
        let document =
            world.http.get(format!("{}/.well-known/jwks.json", world.clerk.url())).send().await?.json::<Value>().await?;
        let pem = pem_of(&document["keys"][0]);
        let key = Key::from_pem(&pem).expect("a key");
        world.add_node_with(|config| config.tokens.keys = TokenKeys::Pinned(key.into())).await;
        world.clerk.calls().reset();
        world.clerk.faults().add(rollcall::dev::Rule::always(rollcall::dev::Act::Hang));
        decided(&context(world, &of("user_ada"), "").await?, "context");
        assert_eq!(world.clerk.calls().total(), 0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_keys_cannot_be_fetched_a_token_is_not_called_invalid() {
    run_test(Deployment::Bare, async |world: &mut World| {
        world.add_node_with(|config| config.tokens.keys = TokenKeys::Published("http://127.0.0.1:9".to_owned())).await;
        for _ in 0..3 {
            context(world, &of("user_ada"), "").await?.could_not_find_out("origin-unavailable");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_verified_once_however_often_it_comes() {
    run_test(Deployment::Alone, async |world: &mut World| {
        let token = mint(world, &of("user_ada"));
        for _ in 0..20 {
            let asking = (0..50).map(|_| ask(world, 0, &token, ""));
            for answer in futures_util::future::join_all(asking).await {
                assert_eq!(answer?.status, 200);
            }
        }
        let request = world.http.get(format!("{}/metrics", world.nodes[0].url()));
        let metrics = request.bearer_auth(crate::world::service::ADMIN_KEY).send().await?.text().await?;
        assert!(metrics.contains("rollcall_tokens_verified_total 2\n"), "{metrics}");
        assert!(metrics.contains("rollcall_tokens_remembered_total 999\n"), "{metrics}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_lost_fence_a_token_is_still_verified_and_the_lag_says_so() {
    run_test(Deployment::Redis(1), async |world: &mut World| {
        let (remembered, fresh) = (mint(world, &of("user_ada")), mint(world, &of("user_noor")));
        decided(&ask(world, 0, &remembered, "").await?, "context");
        world.redis().kill();
        until("the fence is lost", async || {
            let answer = ask(world, 0, &remembered, "").await.ok()?;
            decided(&answer, "context");
            (answer.number("rollcall-lag") > 1_500).then_some(())
        })
        .await;
        let answer = ask(world, 0, &fresh, "").await?;
        decided(&answer, "context");
        assert!(answer.number("rollcall-lag") > Duration::from_secs(1).as_millis() as u64);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_the_tokens_as_long_as_its_role_is_the_one_known_here() {
    run_on_both(async |world: &mut World| {
        for version in [1, 2] {
            let token = mint(world, &NewToken { version: Some(version), ..within("user_mei", "tidewell-energy") });
            let role = decided(&ask(world, 0, &token, "").await?, "context")["organization"]["role"].clone();
            let permissions = async |query: &str, decision: &str| {
                anyhow::Ok(decided(&ask(world, 0, &token, query).await?, decision).get("permissions").cloned())
            };
            assert_eq!(permissions("", "context").await?, None);
            let given = permissions("?include=permissions", "context").await?.expect("a member");
            assert!(given.as_array().is_some_and(|given| given.contains(&json!("org:ledger:view"))), "{given}");
            assert_eq!(permissions("?include=permissions&include=memberships&org=tidewell-energy", "member").await?, Some(given));
            let changed = if role == "org:admin" { "org:member" } else { "org:admin" };
            let change = world.change(|clerk| clerk.change_role("user_mei", "tidewell-energy", changed));
            world.deliver(&change).await;
            assert_eq!(permissions("?include=permissions", "context").await?, Some(Value::Null), "of another role");
        }
        let without = mint(world, &of("user_mei"));
        let context = decided(&ask(world, 0, &without, "?include=permissions").await?, "context");
        assert_eq!((&context["permissions"], context.get("memberships")), (&Value::Null, None));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_without_a_reading_is_known_by_its_etag_too() {
    run_test(Deployment::Alone, async |world: &mut World| {
        let token = mint(world, &of("user_ada"));
        let first = ask(world, 0, &token, "").await?;
        let url = format!("{}/v1/context", world.nodes[0].url());
        let known = world.http.get(url).bearer_auth(&token).header("if-none-match", first.header("etag")).send().await?;
        let known = Answer::of(known).await?.lawful();
        assert_eq!((known.status, known.body.len(), known.header("rollcall-decision")), (304, 0, "context"));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_banned_signs_in_again() {
    run_test(Deployment::Redis(1), async |world: &mut World| {
        let before = mint(world, &of("user_noor"));
        let ban = world.change(|clerk| clerk.ban("user_noor"));
        world.deliver(&ban).await;
        ask(world, 0, &before, "").await?.is_problem(401, "session-ended");
        let unban = world.change(|clerk| clerk.unban("user_noor"));
        world.deliver(&unban).await;
        ask(world, 0, &before, "").await?.is_problem(401, "session-ended");
        // Issued after the ban, and what clocks may differ by.
        until("a token from after the ban", async || {
            let answer = ask(world, 0, &mint(world, &of("user_noor")), "").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}
