//! The roof beam: builds every room from a configuration, connects them, runs until told to stop.
//!
//! Two kinds of threads: the server's workers, which touch only the local tier, and the I/O runtime given by the caller, which
//! owns connections, flights, the stream's reader and every piece of background work. The I/O runtime ends last.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{HttpServer, web};
use anyhow::Context;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::cache::{Cache, Parts};
use crate::clerk::{self, Clerk};
use crate::config::Config;
use crate::http::auth::Keys;
use crate::http::{self, Readiness, State};
use crate::ingest::{Applier, Intake, Sweep, SweepPace};
use crate::memory::MemoryStream;
use crate::ports::{ChangeStream, Fence, SharedTier};
use crate::redis::{self, Redis};
use crate::webhook::Secrets;

/// Requests under way at a shutdown have this long to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(8);

/// A service that is listening and not yet running.
pub struct App {
    address: SocketAddr,
    server: Server,
    state: web::Data<State>,
    redis: Option<Arc<Redis>>,
    background: Vec<JoinHandle<()>>,
    shutdown_delay: Duration,
}

/// Where changes go and values are shared: Redis, or this process alone.
struct Shared {
    tier: Option<Arc<dyn SharedTier>>,
    stream: Arc<dyn ChangeStream>,
    fence: Fence,
    redis: Option<Arc<Redis>>,
    memory: Option<Arc<MemoryStream>>,
}

/// Connects everything and binds the listener. `io` is the runtime that owns connections, flights and background work.
///
/// Fails on what an operator must mend: a listener that cannot be bound, a Redis that cannot carry the promises, a key prefix
/// that belongs to another Clerk instance. A Redis or a Clerk that is merely away does not stop a start.
pub async fn build(config: Config, io: Handle) -> anyhow::Result<App> {
    build_sweeping(config, io, SweepPace::default()).await
}

/// The same with a sweep of another pace: for tests, which have no half minute to wait.
pub async fn build_sweeping(config: Config, io: Handle, pace: SweepPace) -> anyhow::Result<App> {
    let settings = clerk::Settings {
        secret_key: config.clerk_secret_key.clone(),
        api_url: config.clerk_api_url.clone(),
        rate: config.origin_rate,
    };
    let clerk = Arc::new(Clerk::new(settings).context("the origin's client cannot be made")?);
    let shared = connect(&config, &clerk, &io).await?;
    let mut registry = Registry::default();
    clerk.counts().register(&mut registry);
    if let Some(redis) = &shared.redis {
        redis.counts().register(&mut registry);
    }

    let cache = Cache::new(Parts {
        origin: clerk.clone(),
        shared: shared.tier.clone(),
        fence: shared.fence,
        bounds: config.bounds,
        local_bytes_max: config.local_bytes_max,
        io: io.clone(),
    });
    let applier = Arc::new(Applier::new(cache.clone(), shared.tier.clone(), shared.stream.clone()));
    let secrets = Secrets::parse(&config.webhook_secrets).context("CLERK_WEBHOOK_SIGNING_SECRET")?;
    for number in secrets.short() {
        warn!(secret = number, "a webhook secret is short: 24 bytes are usual");
    }
    let intake = Arc::new(Intake::new(secrets, applier.clone()));
    cache.register(&mut registry);
    intake.register(&mut registry);
    let sweep = Sweep::new(cache.clone(), applier.clone(), clerk.clone(), pace);
    sweep.register(&mut registry);

    let tending = io.spawn(tend(cache.clone(), clerk.clone(), shared.redis.clone()));
    let background = vec![tending, io.spawn(look_again(clerk.clone())), io.spawn(sweep.run())];
    if let Some(memory) = &shared.memory {
        memory.feed(Arc::new(cache.clone()));
    }
    if let Some(redis) = &shared.redis {
        redis.spawn_tail(Arc::new(cache.clone()));
    }

    let readiness = Readiness { is_draining: AtomicBool::new(false), origin: clerk, shared: shared.tier, stream: shared.stream };
    let keys = ArcSwap::from_pointee(Keys::new(config.api_keys.clone()));
    let state = web::Data::new(State { cache, applier, intake, keys, readiness, registry });
    let (server, address) = listen(&config, state.clone())?;
    Ok(App { address, server, state, redis: shared.redis, background, shutdown_delay: config.shutdown_delay })
}

async fn connect(config: &Config, clerk: &Clerk, io: &Handle) -> anyhow::Result<Shared> {
    let Some(url) = &config.redis_url else {
        let memory = Arc::new(MemoryStream::default());
        return Ok(Shared { tier: None, stream: memory.clone(), fence: Fence::always(), redis: None, memory: Some(memory) });
    };
    let settings = redis::Settings { url: url.clone(), prefix: config.key_prefix.clone(), bounds: config.bounds, io: io.clone() };
    let redis = Arc::new(Redis::connect(settings).await?);
    match clerk.instance_id().await {
        Ok(Some(instance)) => match redis.check_instance(&instance).await {
            Err(redis::StartError::Unreachable { .. }) | Ok(()) => {}
            Err(refused) => return Err(refused.into()),
        },
        Ok(None) => warn!("the origin names no key: whether the key prefix is this instance's was not checked"),
        Err(error) => {
            warn!(error = %error, "the origin cannot be asked: whether the key prefix is this instance's was not checked")
        }
    }
    Ok(Shared { tier: Some(redis.shared()), stream: redis.stream(), fence: redis.fence(), redis: Some(redis), memory: None })
}

fn listen(config: &Config, state: web::Data<State>) -> anyhow::Result<(Server, SocketAddr)> {
    let listener = TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    let server = HttpServer::new(move || actix_web::App::new().app_data(state.clone()).configure(http::routes))
        .disable_signals()
        .shutdown_timeout(DRAIN_TIME_MAX.as_secs())
        .listen(listener)
        .with_context(|| format!("cannot listen on {address}"))?
        .run();
    Ok((server, address))
}

impl App {
    /// Where it listens: the real port, also when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves; then: not ready, the shutdown delay, stop accepting, drain, stop the background.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let handle = self.server.handle();
        let (state, delay) = (self.state.clone(), self.shutdown_delay);
        let stopping = tokio::spawn(async move {
            shutdown.await;
            info!("stopping: not ready, then draining");
            state.readiness.is_draining.store(true, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
            handle.stop(true).await;
        });
        let served = self.server.await.context("the server failed");
        stopping.abort();
        for task in &self.background {
            task.abort();
        }
        if let Some(redis) = &self.redis {
            redis.stop().await;
        }
        served
    }
}

/// Once a second: old entries go, gauges are taken, and the origin's budget is divided by the nodes alive.
async fn tend(cache: Cache, clerk: Arc<Clerk>, redis: Option<Arc<Redis>>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        cache.tend();
        clerk.set_nodes(redis.as_ref().map_or(1, |redis| redis.nodes()));
    }
}

/// Once a second: whether an origin that failed is back, if nobody's read finds out.
async fn look_again(clerk: Arc<Clerk>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        clerk.look_again().await;
    }
}
