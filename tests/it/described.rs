//! The service's description of itself, held against its answers: every route is asked, every kind of answer that is described
//! is provoked, and each is what the description says.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::RequestBuilder;
use rollcall::dev::sign::fresh_secret;
use rollcall::dev::{Act, NewToken, SessionEnd};
use rollcall::http::TimedFor;
use rollcall::http::problem::Code;
use serde_json::{Value, json};

use crate::world::answer::Answer;
use crate::world::description::Description;
use crate::world::nobody::nobody;
use crate::world::routes::routes;
use crate::world::service::{ADMIN_KEY, Deployment, EVICT_KEY, READ_KEY, Setup, World, run_test};
use crate::world::sqlite_lock::SqliteLock;
use crate::world::wait::until;
use crate::world::webhooks::{Webhook, event, now};

const LIST: &str = "/v1/users/user_ada/orgs";
const CHECK: &str = "/v1/users/user_ada/orgs/harbour-works";
const INSPECTION: &str = "/v1/users/user_ada/inspection";

/// What cannot be provoked from outside, and why.
fn unprovoked(kind: &str) -> Option<&'static str> {
    kind.ends_with(" 500 internal").then_some("a bug, such as a task that panics")
}

/// A world whose answers are held against the description.
struct Held<'a> {
    world: &'a World,
    description: &'a Description,
}

impl Held<'_> {
    async fn send(
        &self,
        method: &str,
        path: &str,
        change: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Answer> {
        let answer = self.world.send(change(self.world.request(method, path))).await?;
        Ok(self.description.hold(method, path, answer))
    }

    async fn ask(&self, method: &str, path: &str, key: &str) -> anyhow::Result<Answer> {
        self.send(method, path, |request| if key.is_empty() { request } else { request.bearer_auth(key) }).await
    }

    async fn read(&self, path: &str, name: &str, value: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, |request| request.bearer_auth(READ_KEY).header(name, value)).await
    }

    async fn batch(&self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> anyhow::Result<Answer> {
        self.send("POST", "/v1/checks", |request| change(request.bearer_auth(READ_KEY))).await
    }

    async fn context(&self, new: NewToken, query: &str) -> anyhow::Result<Answer> {
        let token = self.world.clerk.mint(&new).expect("the world allows it");
        self.ask("GET", &format!("/v1/context{query}"), &token).await
    }

    async fn post(&self, webhook: &Webhook) -> anyhow::Result<Answer> {
        Ok(self.description.hold("POST", "/webhooks/clerk", self.world.post(webhook).await?.lawful()))
    }

    /// Sends bytes as they are; nobody else would.
    async fn raw(&self, method: &str, path: &str, head: &str, body: &str) -> anyhow::Result<Answer> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n{body}");
        Ok(self.description.hold(method, path, self.world.raw(request).await?))
    }
}

fn of(user: &str) -> NewToken {
    NewToken { user: Some(user.to_owned()), ..NewToken::default() }
}

fn within(user: &str, organization: &str) -> NewToken {
    NewToken { organization: Some(organization.to_owned()), ..of(user) }
}

/// A webhook that changes nothing.
fn harmless(world: &World) -> Webhook {
    world.webhook(event("email.created", json!({"id": "ema_1"})).to_string())
}

/// Its headers, as lines of a request.
fn lines(webhook: &Webhook) -> String {
    webhook.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

async fn served(world: &World) -> anyhow::Result<Value> {
    Ok(world.send(world.request("GET", "/openapi.json").bearer_auth(ADMIN_KEY)).await?.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_answer_that_is_described_is_given_and_is_what_is_described() {
    let mut description = None;
    run_test(Deployment::Bare, Setup::default(), async |world: &mut World| {
        world.add_node_with(|config| config.timed_for = TimedFor::Everybody).await;
        let description = description.insert(Description::of(served(world).await?));
        let held = Held { world, description };
        operations_of_anybody(&held).await?;
        reads(&held).await?;
        batches(&held).await?;
        contexts(&held).await?;
        webhooks(&held).await?;
        crowded_webhooks(&held).await?;
        without_the_origin(&held, Act::Status { status: 500, retry_after: None }, "origin-unavailable").await
    })
    .await;
    let description = description.expect("a description");
    run_test(Deployment::Bare, Setup::default(), async |world: &mut World| {
        let nobody = nobody();
        world.start_node_on(&format!("redis://{}", nobody.local_addr()?), 0).await;
        without_redis(&Held { world, description: &description }).await
    })
    .await;
    run_test(Deployment::Bare, Setup::default(), async |world: &mut World| {
        world.add_node_with(|config| config.tokens.policy.authorized_parties = vec!["https://a.test".to_owned()]).await;
        let held = Held { world, description: &description };
        held.context(of("user_ada"), "").await?.is_problem(403, "party-unauthorized");
        without_the_origin(&held, Act::Status { status: 429, retry_after: Some(60) }, "origin-rate-limited").await
    })
    .await;

    let (seen, kinds) = (description.seen(), description.kinds());
    let unseen: Vec<_> = kinds.difference(&seen).filter(|kind| unprovoked(kind).is_none()).collect();
    assert!(unseen.is_empty(), "described, and not seen: {unseen:#?}");
    let told: BTreeSet<&str> = seen.iter().chain(&kinds).filter_map(|kind| kind.split(' ').nth(3)).collect();
    let elsewhere = seen.iter().filter_map(|kind| kind.strip_prefix("no route 404 ").or(kind.strip_prefix("no method 405 ")));
    let told: BTreeSet<&str> = told.into_iter().chain(elsewhere).collect();
    let untold: Vec<_> = Code::ALL.iter().map(|code| code.slug()).filter(|slug| !told.contains(slug)).collect();
    assert!(untold.is_empty(), "of the table, and not described: {untold:?}");
}

/// Every route is described, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_described_are_the_routes() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        assert_eq!(Description::of(served(world).await?).operations(), routes());
        Ok(())
    })
    .await;
}

/// In `dev` a browser may open it; elsewhere it takes an admin key.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_an_operators_unless_it_is_opened() {
    run_test(Deployment::Bare, Setup::default(), async |world: &mut World| {
        world.add_node_with(|config| config.is_description_open = true).await;
        for path in ["/openapi.json", "/docs"] {
            assert_eq!(world.send(world.request("GET", path)).await?.status, 200, "{path}");
        }
        world.ask(0, "/metrics").await?.is_problem(403, "scope-missing");
        Ok(())
    })
    .await;
}

async fn operations_of_anybody(held: &Held<'_>) -> anyhow::Result<()> {
    for path in ["/openapi.json", "/docs", "/metrics", INSPECTION] {
        held.ask("GET", path, "").await?.is_problem(401, "caller-unknown");
        for key in [READ_KEY, EVICT_KEY] {
            held.ask("GET", path, key).await?.is_problem(403, "scope-missing");
        }
        assert_eq!(held.ask("GET", path, ADMIN_KEY).await?.status, 200, "{path}");
    }
    for user in ["user_nobody", "user_tomas"] {
        assert_eq!(held.ask("GET", &format!("/v1/users/{user}/inspection"), ADMIN_KEY).await?.status, 200);
    }
    held.ask("GET", &format!("{INSPECTION}?org=harbour-works"), ADMIN_KEY).await?;
    held.ask("GET", "/v1/users/user.ada/inspection", ADMIN_KEY).await?.is_problem(400, "id-malformed");
    for (path, key) in [("/livez", ""), ("/readyz", ""), ("/readyz", ADMIN_KEY)] {
        assert_eq!(held.ask("GET", path, key).await?.status, 200, "{path}");
    }
    held.ask("DELETE", LIST, "").await?.is_problem(401, "caller-unknown");
    held.ask("DELETE", LIST, READ_KEY).await?.is_problem(403, "scope-missing");
    held.ask("DELETE", "/v1/users/user.ada/orgs", EVICT_KEY).await?.is_problem(400, "id-malformed");
    assert_eq!(held.ask("DELETE", LIST, EVICT_KEY).await?.status, 204);
    held.ask("GET", "/v1/nothing", READ_KEY).await?.is_problem(404, "route-unknown");
    for operation in held.description.operations() {
        let path = operation.split(' ').nth(1).expect("a path").replace("{userId}", "user_ada").replace("{org}", "acme");
        held.ask("PUT", &path, ADMIN_KEY).await?.is_problem(405, "method-not-allowed");
    }
    Ok(())
}

async fn reads(held: &Held<'_>) -> anyhow::Result<()> {
    for path in [LIST, CHECK] {
        let answer = held.ask("GET", path, READ_KEY).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let known = held.read(path, "if-none-match", answer.header("etag")).await?;
        assert_eq!(known.status, 304, "{known:?}");
        held.ask("GET", path, "").await?.is_problem(401, "caller-unknown");
        held.read(path, "cache-control", "max-age=x").await?.is_problem(400, "parameter-invalid");
        held.read(path, "rollcall-max-lag", "soon").await?.is_problem(400, "parameter-invalid");
        let [of_nobody, malformed, uncached] = ["user_nobody", "user.ada", "user_mei"].map(|user| path.replace("user_ada", user));
        held.ask("GET", &of_nobody, READ_KEY).await?.is_user_unknown();
        held.ask("GET", &malformed, READ_KEY).await?.is_problem(400, "id-malformed");
        held.read(&uncached, "cache-control", "only-if-cached").await?.is_problem(504, "not-cached");
    }
    assert_eq!(held.ask("GET", "/v1/users/user_tomas/orgs", READ_KEY).await?.json(), json!([]));
    held.ask("GET", "/v1/users/user_ada/orgs/willow-ledger", READ_KEY).await?.is_not_a_member();
    held.ask("GET", &format!("{CHECK}?role=org:none"), READ_KEY).await?.is_problem(403, "role-missing");
    held.ask("GET", &format!("{CHECK}?role="), READ_KEY).await?.is_problem(400, "parameter-invalid");
    Ok(())
}

async fn batches(held: &Held<'_>) -> anyhow::Result<()> {
    let check = |user: &str, organization: &str, role: Value| json!({ "userId": user, "org": organization, "role": role });
    let checks = json!({ "checks": [
        check("user_ada", "harbour-works", json!("org:admin")),
        check("user_ada", "willow-ledger", json!(null)),
        check("user_ada", "harbour-works", json!(["org:none"])),
        check("user_nobody", "harbour-works", json!(null)),
        check("user_ivo", "quillmark-press", json!(null)),
    ] });
    held.world
        .clerk
        .faults()
        .add(rollcall::dev::Rule::always(Act::Status { status: 500, retry_after: None }).of_user("user_ivo"));
    let answer = held.batch(|request| request.json(&checks)).await?;
    held.world.clerk.faults().clear();
    let expected = ["true member", "false not-a-member", "false role-missing", "false user-unknown", "null unavailable"];
    assert_eq!(answer.results(), expected);
    held.ask("POST", "/v1/checks", "").await?.is_problem(401, "caller-unknown");
    held.batch(|request| request.json(&checks).header("cache-control", "max-age=x")).await?.is_problem(400, "parameter-invalid");
    held.batch(|request| request.json(&json!({}))).await?.is_problem(400, "body-malformed");
    held.batch(|request| request.body("{}").header("content-type", "text/plain"))
        .await?
        .is_problem(415, "media-type-unsupported");
    held.batch(|request| request.body(" ".repeat((1 << 20) + 1))).await?.is_problem(413, "body-too-large");
    let head = format!("Authorization: Bearer {READ_KEY}\r\nContent-Length: 20\r\n");
    held.raw("POST", "/v1/checks", &head, "{").await?.is_problem(408, "body-timeout");
    Ok(())
}

async fn contexts(held: &Held<'_>) -> anyhow::Result<()> {
    let world = held.world;
    let party = NewToken { authorized_party: Some("https://a.test".into()), ..within("user_ada", "harbour-works") };
    let actor = NewToken { actor: Some("user_root".into()), version: Some(1), ..of("user_ada") };
    let gone = within("user_mei", "quiet-room");
    for (new, query) in [
        (of("user_ada"), ""),
        (party, ""),
        (actor, "?include=memberships"),
        (of("user_ada"), "?include=permissions&include=memberships"),
        (of("user_ada"), "?org=harbour-works&role=org:admin"),
    ] {
        let answer = held.context(new, query).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let gone_or_none = NewToken { organization: Some("org_quiet_room".into()), ..gone };
    let token = world.clerk.mint(&gone_or_none).expect("she is in it");
    let left = world.change(|clerk| clerk.revoke("user_mei", "org_quiet_room"));
    world.deliver(&left).await;
    let answer = held.ask("GET", "/v1/context", &token).await?;
    assert_eq!(answer.json()["organizationReason"], "not-a-member", "{answer:?}");
    let known = held.send("GET", "/v1/context", |r| r.bearer_auth(&token).header("if-none-match", answer.header("etag"))).await?;
    assert_eq!(known.status, 304, "{known:?}");

    let uncached = held.send("GET", "/v1/context?org=acme", |request| {
        let token = world.clerk.mint(&of("user_noor")).expect("the world allows it");
        request.bearer_auth(token).header("cache-control", "only-if-cached")
    });
    uncached.await?.is_problem(504, "not-cached");
    held.context(of("user_ada"), "?org=willow-ledger").await?.is_not_a_member();
    held.context(of("user_ada"), "?org=harbour-works&role=org:none").await?.is_problem(403, "role-missing");
    held.context(of("user_ada"), "?include=everything").await?.is_problem(400, "parameter-invalid");
    held.context(of("user_ada"), "?org=org_").await?.is_problem(400, "id-malformed");
    held.ask("GET", "/v1/context", "").await?.is_problem(401, "caller-unknown");

    let signed = |members: Value| {
        let mut claims = json!({
            "iss": world.clerk.issuer(), "sub": "user_ada", "sid": "sess_1", "iat": now(), "nbf": now() - 10, "exp": now() + 60,
        });
        claims.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        world.clerk.sign_token(&claims)
    };
    for (token, status, code) in [
        ("a.b.c".to_owned(), 401, "token-invalid"),
        (signed(json!({"iat": now() - 120, "exp": now() - 60})), 401, "token-expired"),
        (signed(json!({"nbf": now() + 60})), 401, "token-not-yet-valid"),
        (signed(json!({"sub": "mch_1"})), 401, "token-kind-refused"),
        (signed(json!({"sts": "pending"})), 403, "session-pending"),
    ] {
        held.ask("GET", "/v1/context", &token).await?.is_problem(status, code);
    }
    // Clerk has not heard of this user; the token is right all the same.
    held.ask("GET", "/v1/context?org=acme", &signed(json!({"sub": "user_nobody"}))).await?.is_user_unknown();
    let session = world.clerk.world().lock().start_session("user_ada").expect("she is in the world").id;
    let token = world.clerk.mint(&NewToken { session: Some(session.clone()), ..NewToken::default() }).expect("a session");
    let ended = world.change(|clerk| clerk.end_session(&session, SessionEnd::Revoked));
    world.deliver(&ended).await;
    held.ask("GET", "/v1/context", &token).await?.is_problem(401, "session-ended");
    Ok(())
}

async fn webhooks(held: &Held<'_>) -> anyhow::Result<()> {
    let world = held.world;
    let good = harmless(world);
    assert_eq!(held.post(&good).await?.status, 204);
    held.post(&good.clone().without("svix-id")).await?.is_problem(400, "delivery-malformed");
    held.post(&Webhook::signed(&fresh_secret(), good.body.clone())).await?.is_problem(401, "signature-invalid");
    let old = Webhook::signed_as(&world.clerk.sender().secret(), "msg_1", now() - 1_000, good.body.clone());
    held.post(&old).await?.is_problem(400, "message-too-old");
    held.post(&good.clone().and("content-encoding", "gzip")).await?.is_problem(415, "media-type-unsupported");
    held.post(&world.webhook(vec![b'a'; (1 << 20) + (1 << 18) + 1])).await?.is_problem(413, "body-too-large");
    let headers = lines(&good) + "transfer-encoding: chunked\r\n";
    held.raw("POST", "/webhooks/clerk", &headers, "no length\r\n").await?.is_problem(400, "body-malformed");
    // Written under a lock of somebody else's it cannot be.
    let lock = SqliteLock::take(&world.journal_file()).await;
    let answer = held.post(&harmless(world)).await?;
    lock.release().await;
    answer.is_problem(503, "journal-unavailable");
    Ok(())
}

/// One delivery more than there are places, each waiting for its body: one finds none. Whoever waits is told after five seconds.
async fn crowded_webhooks(held: &Held<'_>) -> anyhow::Result<()> {
    const PLACES: usize = 256;
    let headers = lines(&harmless(held.world)) + "content-length: 10\r\n";
    let deliver = async || held.raw("POST", "/webhooks/clerk", &headers, "").await;
    let mut waiting: FuturesUnordered<_> = (0..=PLACES).map(|_| deliver()).collect();
    waiting.next().await.expect("one is told")?.is_problem(503, "overloaded");
    drop(waiting);
    let answer = until("there is a place", async || {
        let answer = deliver().await.ok()?;
        (answer.status != 503).then_some(answer)
    });
    answer.await.is_problem(408, "body-timeout");
    Ok(())
}

/// The origin does this to every request: whatever asks it could not be found out, by this code.
async fn without_the_origin(held: &Held<'_>, act: Act, code: &str) -> anyhow::Result<()> {
    let kofi = NewToken { authorized_party: Some("https://a.test".into()), ..of("user_kofi") };
    held.world.origin_does(act);
    for path in ["/v1/users/user_kofi/orgs", "/v1/users/user_kofi/orgs/acme"] {
        held.ask("GET", path, READ_KEY).await?.could_not_find_out(code);
    }
    held.context(kofi, "?org=acme").await?.could_not_find_out(code);
    Ok(())
}

/// A node that has not reached its Redis yet: it can confirm nothing, and knows nothing of sessions.
async fn without_redis(held: &Held<'_>) -> anyhow::Result<()> {
    let world = held.world;
    held.ask("DELETE", LIST, EVICT_KEY).await?.could_not_find_out("shared-unavailable");
    held.context(of("user_ada"), "").await?.could_not_find_out("shared-unavailable");
    let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
    held.post(&world.webhook(left.messages[0].body.clone())).await?.is_problem(503, "shared-unavailable");
    world.origin_answers(500);
    until("the node is unready", async || {
        held.ask("GET", LIST, READ_KEY).await.ok()?;
        let answer = held.ask("GET", "/readyz", ADMIN_KEY).await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
    Ok(())
}
