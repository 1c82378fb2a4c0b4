//! The files of `examples/`, as they come, in an app of their kind: against the real `rollcall dev`, and against servers that say
//! what is no decision.

mod asgi;
mod next;

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::world::dev::Dev;
use crate::world::nobody::nobody;
use crate::world::shell::Shell;
use crate::world::wait::until;

/// The service key of every `dev`.
const DEV_KEY: &str = "rk_dev_dev_dev_dev_dev_dev_dev_dev_dev_dev_dev";
/// A context as rollcall answers it, of a member or of nobody in particular.
const CONTEXT: &str = r#"{"userId":"user_ada","sessionId":"sess_1","actor":null,"organization":{"organizationId":"org_1","role":"org:admin"},"memberships":[],"claims":{},"tokenExpiresAt":0}"#;

/// `dev`, whose world can be changed.
struct Town {
    rollcall: SocketAddr,
    clerk: String,
    http: reqwest::Client,
    _dev: Dev,
    _shell: Shell,
}

impl Town {
    async fn start() -> Self {
        let shell = Shell::new();
        let temporary = shell.folder().display().to_string();
        let shell = shell.set("TMPDIR", &temporary);
        let dev = Dev::start(&shell, &[]);
        let mut urls = dev.guide.split([' ', ',', '\n']).filter(|word| word.starts_with("http://"));
        let (rollcall, clerk) = (urls.next().expect("where it is"), urls.next().expect("where Clerk is").to_owned());
        let rollcall = rollcall.trim_start_matches("http://").parse().expect("an address");
        let town = Self { rollcall, clerk, http: reqwest::Client::new(), _dev: dev, _shell: shell };
        until("tokens are in no doubt", async || {
            let url = format!("http://{rollcall}/v1/context");
            let answer = town.http.get(url).bearer_auth(town.token("user_noor").await).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        town
    }

    /// A change of its world, and what it answers.
    async fn change(&self, method: &str, path: &str, body: Value) -> Value {
        let method = method.parse().expect("a method");
        let request = self.http.request(method, format!("{}/world{path}", self.clerk)).json(&body);
        request.send().await.expect("it answers").error_for_status().expect("the world allows it").json().await.expect("JSON")
    }

    /// The session and the token of this description.
    async fn mint(&self, new: Value) -> (String, String) {
        let minted = self.change("POST", "/tokens", new).await;
        let text = |name: &str| minted[name].as_str().expect("text").to_owned();
        (text("session"), text("jwt"))
    }

    /// A token of a new session of this user.
    async fn token(&self, user: &str) -> String {
        self.mint(json!({ "user": user })).await.1
    }
}

/// A problem of rollcall's.
fn problem(status: u16, code: &str) -> String {
    format!("{status} Problem\r\ncontent-type: application/problem+json\r\n\r\n{{\"type\":\"urn:rollcall:problem:{code}\"}}")
}

/// An answer with a decision.
fn decided(decision: &str, body: &str) -> String {
    format!("200 OK\r\nrollcall-decision: {decision}\r\n\r\n{body}")
}

/// What a proxy, a wrong path or a service in trouble may answer: neither a yes nor a no, and nothing about a token.
fn no_decisions() -> Vec<String> {
    let proxy = |status: &str, body: &str| format!("{status}\r\ncontent-type: text/html\r\n\r\n{body}");
    vec![
        proxy("404 Not Found", "<h1>Not found</h1>"),
        proxy("403 Forbidden", ""),
        proxy("401 Unauthorized", r#"{"code":"token-expired"}"#),
        proxy("200 OK", CONTEXT),
        proxy("302 Found\r\nlocation: http://127.0.0.1:8/", ""),
        proxy("500 Internal Server Error", ""),
        proxy("503 Service Unavailable", "no Retry-After"),
        proxy("503 Service Unavailable\r\nretry-after: 60", "too long a wait"),
        problem(404, "route-unknown"),
        problem(404, "not-a-member"),
        problem(403, "role-missing"),
        problem(400, "parameter-invalid"),
        decided("member", "{\"half\":"),
        decided("context", "{\"half\":"),
        decided("list", "[]"),
        decided("a-word-of-tomorrow", CONTEXT),
        String::new(),
    ]
}
