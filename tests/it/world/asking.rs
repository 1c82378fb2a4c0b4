//! Asking as callers do: any method, key, headers and body, many at once, or bytes as they are. Every answer is held
//! against what the contract says of all answers.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use rollcall::dev::{Act, Faults, NewOrganization, NewUser, Rule};
use rollcall::protocol::freshness::Bounds;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::Answer;
use super::service::{ADMIN_KEY, READ_KEY, Setup, World};
use super::wait::until;

impl Setup {
    /// Readings live this long, and as long again as the second in grace.
    pub fn living(ttl: Duration, grace: Duration) -> Self {
        let setup = Self::default();
        let bounds = Bounds { ttl, grace, ..setup.bounds };
        Self { bounds, ..setup }
    }

    /// The small world, and `count` more users, `user_crowd_000` and on, each a member of Harbour Works.
    pub fn crowded(count: usize) -> Self {
        let mut setup = Self::default();
        setup.clerk.seed(|world| {
            for n in 0..count {
                let id = crowd(n);
                world.create_user(NewUser { id: Some(id.clone()), ..NewUser::default() }).expect("a new user");
                world.grant(&id, "harbour-works", "org:member").expect("a new member");
            }
        });
        setup
    }
}

/// A user of the crowd.
pub fn crowd(n: usize) -> String {
    format!("user_crowd_{n:03}")
}

impl World {
    /// A request to the first node, without a key.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.http.request(method, format!("{}{path}", self.nodes[0].url()))
    }

    /// Sends it.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        Ok(Answer::of(request.send().await?).await?.lawful())
    }

    /// Asks the first node under these `Cache-Control` directives.
    pub async fn ask_under(&self, directives: &str, path: &str) -> anyhow::Result<Answer> {
        self.ask_with(0, path, &[("cache-control", directives)]).await
    }

    /// The list of a user, under these directives.
    pub async fn list_under(&self, directives: &str, user: &str) -> anyhow::Result<Answer> {
        self.ask_under(directives, &format!("/v1/users/{user}/orgs")).await
    }

    /// One membership, under these directives.
    pub async fn check_under(&self, directives: &str, user: &str, organization: &str) -> anyhow::Result<Answer> {
        self.ask_under(directives, &format!("/v1/users/{user}/orgs/{organization}")).await
    }

    /// Many checks of node `number`, under these directives.
    pub async fn batch_of(&self, number: usize, directives: &str, checks: Value) -> anyhow::Result<Answer> {
        let request = self.http.post(format!("{}/v1/checks", self.nodes[number].url())).bearer_auth(READ_KEY);
        self.send(request.header("cache-control", directives).json(&json!({ "checks": checks }))).await
    }

    /// Many checks of the first node.
    pub async fn batch(&self, checks: Value) -> anyhow::Result<Answer> {
        self.batch_of(0, "", checks).await
    }

    /// The body of a batch, as it is.
    pub async fn batch_body(&self, body: impl Into<reqwest::Body>) -> anyhow::Result<Answer> {
        let request = self.request("POST", "/v1/checks").bearer_auth(READ_KEY);
        self.send(request.header("content-type", "application/json").body(body)).await
    }

    /// Evicts a user, by the first node.
    pub async fn evict(&self, user: &str) -> anyhow::Result<Answer> {
        Ok(self.evict_at(0, user).await?.lawful())
    }

    /// Asks each node until it gives the new answer. Asked later than the bound after this moment, none gives an old one.
    pub async fn until_all_know(&self, acknowledged: Instant, path: &str, is_new: impl Fn(&Answer) -> bool) {
        for node in 0..self.nodes.len() {
            until(&format!("node {node} to know"), async || {
                let since = acknowledged.elapsed();
                let answer = self.ask(node, path).await.ok()?;
                let is_old = answer.status == 200 && !is_new(&answer);
                assert!(!is_old || since < self.bounds().staleness, "node {node}, after {since:?}: {answer:?}");
                is_new(&answer).then_some(())
            })
            .await;
        }
    }

    /// Waits until what the first node reads of a user is in Redis. A landing that took too long is given up; the next reading
    /// lands its own.
    pub async fn until_shared(&self, user: &str) {
        let key = format!("user-orgs:{user}");
        until("the value to be in Redis", async || {
            let is_there = self.redis_ref().query(&["EXISTS", &key]) == "1";
            if !is_there {
                self.list_under("no-cache", user).await.ok()?;
            }
            is_there.then_some(())
        })
        .await;
    }

    /// What the first node says of its readiness, to an operator.
    pub async fn readiness(&self) -> anyhow::Result<Answer> {
        self.send(self.request("GET", "/readyz").bearer_auth(ADMIN_KEY)).await
    }

    /// Sends these bytes to the first node and reads its answer until the connection closes: for what no client would send.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> anyhow::Result<Answer> {
        let mut connection = TcpStream::connect(self.nodes[0].address).await?;
        connection.write_all(request.as_ref()).await?;
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).await?;
        parse(&bytes).map(Answer::lawful)
    }

    /// Asks for a path as it is written, nothing normalised.
    pub async fn ask_raw(&self, path: &str) -> anyhow::Result<Answer> {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {READ_KEY}\r\n\r\n")).await
    }

    /// From now on the origin does this to every request.
    pub fn origin_does(&self, act: Act) {
        self.clerk.faults().set(Faults::of([Rule::always(act)]));
    }

    /// From now on the origin answers every request with this status.
    pub fn origin_answers(&self, status: u16) {
        self.clerk.faults().set(Faults::status(status));
    }

    /// An organization comes to be, with this user as its admin, and no webhook says so.
    pub fn found_quietly(&self, slug: &str, user: &str) {
        let (slug, created_by) = (Some(slug.to_owned()), Some(user.to_owned()));
        let name = "Founded Quietly".to_owned();
        self.change(|clerk| clerk.create_organization(NewOrganization { id: None, name, slug, created_by }));
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| anyhow::anyhow!("no head: {bytes:?}"))?;
    let (head, body) = (std::str::from_utf8(&bytes[..end])?, bytes[end + 4..].to_vec());
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().parse()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| anyhow::anyhow!("no header: {line}"))?;
        headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(Answer { status, headers, body })
}
