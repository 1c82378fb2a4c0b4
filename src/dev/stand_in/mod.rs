//! The stand-in as a server: Clerk's API and the world's own on one loopback port, with the webhook sender beside it.
//!
//! Started by `rollcall dev` and by the integration tests, on any tokio runtime. It binds 127.0.0.1 only: the world's API
//! has no key.

mod answer;
mod bapi;
mod calls;
mod faults;
mod hold;
mod keys;
mod tokens;
mod world_api;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

pub use calls::{Calls, CallsSeen};
pub use faults::{Act, Faults, FaultsHandle, Rule};
pub use hold::Held;
use hold::Holds;
use keys::SigningKeys;
pub use tokens::NewToken;

use super::sender::Sender;
use super::sign::fresh_secret;
use super::world::{World, WorldError, WorldHandle};

/// How long stopping may take.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a stand-in starts with.
#[derive(Debug)]
pub struct Options {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The only key its API takes.
    pub secret_key: String,
    /// `whsec_…`, which signs the webhooks.
    pub webhook_secret: String,
    /// Whole URLs that webhooks go to, in turn. Can be set later.
    pub endpoints: Vec<String>,
    /// Scales Svix's delays between attempts: 1 is the real schedule, 0.001 makes 5 s into 5 ms.
    pub retry_factor: f64,
    /// Who is in it.
    pub world: World,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            secret_key: "sk_test_rollcall_stand_in".to_owned(),
            webhook_secret: fresh_secret(),
            endpoints: Vec::new(),
            retry_factor: 1.0,
            world: World::new(),
        }
    }
}

/// A running stand-in. Dropped without [`StandIn::stop`], it stops as soon as the runtime lets it.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: ServerHandle,
    task: Option<JoinHandle<std::io::Result<()>>>,
}

/// What the routes look at.
#[derive(Debug)]
struct Shared {
    secret_key: String,
    world: WorldHandle,
    faults: FaultsHandle,
    holds: Holds,
    calls: Calls,
    sender: Sender,
    keys: SigningKeys,
    /// The `iss` of its tokens: the base of its own address.
    issuer: String,
    /// The runtime that owns the sender's connections: a worker only waits for them.
    io: Handle,
}

impl StandIn {
    /// Binds the port and serves. Call it on the runtime that shall own the sender's connections.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .with_context(|| format!("the stand-in cannot listen on port {}", options.port))?;
        let address = listener.local_addr().context("the stand-in listens nowhere")?;
        let shared = Arc::new(Shared {
            secret_key: options.secret_key,
            world: WorldHandle::new(options.world),
            faults: FaultsHandle::default(),
            holds: Holds::default(),
            calls: Calls::default(),
            sender: Sender::new(options.webhook_secret, options.endpoints, options.retry_factor)?,
            keys: SigningKeys::default(),
            issuer: format!("http://{address}"),
            io: Handle::current(),
        });
        let data = Data::from(shared.clone());
        let app = move || {
            let body = web::PayloadConfig::new(world_api::BODY_BYTES_MAX);
            App::new().app_data(data.clone()).app_data(body).configure(bapi::routes).configure(world_api::routes)
        };
        let server = HttpServer::new(app).workers(2).disable_signals().listen(listener).context("the stand-in cannot listen")?;
        let server = server.run();
        let handle = server.handle();
        Ok(Self { address, shared, server: handle, task: Some(tokio::spawn(server)) })
    }

    /// Base of its API, for `CLERK_API_URL`: no `/v1`, no slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key its API takes, for `CLERK_SECRET_KEY`.
    pub fn secret_key(&self) -> &str {
        &self.shared.secret_key
    }

    /// The world: `stand_in.world().lock().revoke(…)`.
    pub fn world(&self) -> &WorldHandle {
        &self.shared.world
    }

    /// What goes wrong.
    pub fn faults(&self) -> &FaultsHandle {
        &self.shared.faults
    }

    /// What it was asked.
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// The sender of webhooks.
    pub fn sender(&self) -> &Sender {
        &self.shared.sender
    }

    /// Holds the next answer under `/v1`: it will have read the world, and is not sent until released.
    pub fn hold_next_answer(&self) -> Held {
        self.shared.holds.next(None)
    }

    /// Holds the next answer about this user.
    pub fn hold_next_answer_about(&self, user: &str) -> Held {
        self.shared.holds.next(Some(user))
    }

    /// The issuer of its tokens, for `CLERK_ISSUER`.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Its publishable key, which names where its keys are published.
    pub fn publishable_key(&self) -> String {
        format!("pk_test_{}", STANDARD_NO_PAD.encode(format!("{}$", self.address)))
    }

    /// A token of a session of its world.
    pub fn mint(&self, new: &NewToken) -> Result<String, WorldError> {
        let minted = tokens::mint(&mut self.shared.world.lock(), &self.shared.issuer, new)?;
        Ok(self.sign_token(&minted.claims))
    }

    /// A token with any claims, signed like one of a session.
    pub fn sign_token(&self, claims: &Value) -> String {
        self.shared.keys.sign(claims)
    }

    /// Signs with a new key from now on; `retire` publishes the old ones no more.
    pub fn rotate_keys(&self, retire: bool) {
        self.shared.keys.rotate(retire);
    }

    /// Stops listening, drops open requests and queued webhooks. The port can be bound again afterwards.
    pub async fn stop(mut self) {
        self.shared.sender.stop();
        let task = self.task.take();
        let stopped = async {
            self.server.stop(false).await;
            if let Some(task) = task {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, stopped).await.is_err() {
            tracing::warn!("the stand-in did not stop in time");
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if self.task.is_some() {
            self.shared.sender.stop();
            // The message is sent as the future is made; waiting for the end needs nobody.
            drop(self.server.stop(false));
        }
    }
}

#[cfg(test)]
mod tests;
