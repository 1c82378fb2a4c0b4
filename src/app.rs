//! The roof beam: builds every room from a configuration, connects them, runs until told to stop.
//!
//! Two kinds of threads: the server's workers, which touch only the local tier, and the I/O runtime given by the caller, which
//! owns connections, flights, the stream's reader and every piece of background work. The I/O runtime ends last.

mod listen;
mod rotation;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::web;
use anyhow::Context;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::cache::{Cache, Parts};
use crate::clerk::{self, Clerk, WellKnown};
use crate::config::{Config, TokenKeys};
use crate::http::auth;
use crate::http::{Readiness, State};
use crate::ingest::{Applier, Intake, Repair, Sweep, Upkeep, Worker};
use crate::journal::{self, Sharing, SqlJournal};
use crate::memory::MemoryStream;
use crate::ports::{ChangeStream, Fence, Retention, SharedTier};
use crate::protocol::facts::DEAD_FOR;
use crate::redis::{self, Redis};
use crate::session::{Keys, Sessions};
use crate::token::{LIFE_MAX, SKEW};
use crate::webhook::Secrets;

use listen::{Listening, listen, listen_for_metrics};
pub use rotation::Rotation;

/// Requests under way at a shutdown have this long to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(8);

/// Background work ends at its next await.
const BACKGROUND_STOP_MAX: Duration = Duration::from_secs(1);
/// Unreadable messages are kept for whoever mends the reader.
const BURIED_KEPT: Duration = Duration::from_secs(180 * 24 * 3600);
/// A start waits no longer for what was before it: a Redis that is away must not keep a node from answering.
const FIRST_LOOK_MAX: Duration = Duration::from_millis(500);
/// Nor for all that a long outage left open to be made due.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(2);
/// Much less than a question to Redis takes to be worth waiting for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// For reads under way and clocks.
const REPAIR_MARGIN: Duration = Duration::from_secs(60);
// What is put back at a start, and after a lost history, reaches further back than any token that is still taken.
const _: () = assert!(DEAD_FOR.as_secs() + REPAIR_MARGIN.as_secs() > LIFE_MAX.as_secs() + 2 * SKEW.as_secs());

/// A service that is listening and not yet running.
pub struct App {
    main: Listening,
    metrics: Option<Listening>,
    state: web::Data<State>,
    redis: Option<Arc<Redis>>,
    /// Closed at the end, if it is this node's own.
    journal: Option<Arc<SqlJournal>>,
    background: Background,
    shutdown_delay: Duration,
}

/// What runs beside the server until it is told to stop.
struct Background {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
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
/// Fails on what an operator must mend: a listener that cannot be bound, a journal that cannot be opened, a Redis that cannot
/// carry the promises, a key prefix that belongs to another Clerk instance. A Redis or a Clerk that is merely away does not
/// stop a start.
pub async fn build(config: Config, io: Handle) -> anyhow::Result<App> {
    let sharing = if config.redis_url.is_some() { Sharing::Nodes } else { Sharing::Alone };
    let settings = journal::Settings { url: config.database_url.clone(), io: io.clone() };
    let journal = Arc::new(SqlJournal::open_delayed(settings, sharing, config.shutdown_delay).await?);
    let mut app = build_on(config, journal.clone(), io).await?;
    app.journal = Some(journal);
    Ok(app)
}

/// The same on a journal that several nodes of this process share; whoever opened it closes it.
pub async fn build_on(config: Config, journal: Arc<SqlJournal>, io: Handle) -> anyhow::Result<App> {
    let settings = clerk::Settings {
        secret_key: config.clerk_secret_key.clone(),
        api_url: config.clerk_api_url.clone(),
        rate: config.origin_rate,
    };
    let clerk = Arc::new(Clerk::new(settings).context("the origin's client cannot be made")?);
    let shared = connect(&config, &clerk, journal.id(), &io).await?;
    let mut registry = Registry::default();
    clerk.counts().register(&mut registry);
    journal.counts().register(&mut registry);
    if let Some(redis) = &shared.redis {
        redis.counts().register(&mut registry);
    }

    // Without a fence nothing may be answered from memory, and no lag is known that could be bounded.
    let (bounds, local_bytes_max) = match shared.fence.is_known() {
        true => (config.bounds, config.local_bytes_max),
        false => (config.bounds.without_fence(), 0),
    };
    let cache = Cache::new(Parts {
        origin: clerk.clone(),
        shared: shared.tier.clone(),
        fence: shared.fence,
        bounds,
        local_bytes_max,
        io: io.clone(),
    });
    let applier = Arc::new(Applier::new(cache.clone(), shared.tier.clone(), shared.stream.clone()));
    let secrets = Secrets::parse(&config.webhook_secrets).context("CLERK_WEBHOOK_SIGNING_SECRET")?;
    rotation::warn_of_short(&secrets);
    let left = Arc::new(Notify::new());
    let intake = Arc::new(Intake::new(secrets, journal.clone(), applier.clone(), config.journal_keep, left.clone()));
    // What a change outranks: readings that are still answered, and for a while those of an origin that lags behind it.
    let outranking = DEAD_FOR.max(config.bounds.ttl + config.bounds.grace) + REPAIR_MARGIN;
    let settled = config.journal_retention.max(outranking);
    let keep = Retention { settled, buried: BURIED_KEPT.max(settled) };
    let upkeep = Arc::new(Upkeep::new(journal.clone(), keep));
    cache.register(&mut registry);
    intake.register(&mut registry);
    upkeep.register(&mut registry);
    let sweep = Sweep::new(cache.clone(), applier.clone(), clerk.clone(), config.sweep);
    sweep.register(&mut registry);

    let sessions = sessions(&config, &clerk, &cache)?;
    sessions.register(&mut registry);

    let repair = Repair::new(journal.clone(), applier.clone(), outranking);
    let mut worker = Worker::new(journal.clone(), applier.clone(), left);
    let mut background = Background { stop: watch::Sender::new(false), tasks: Vec::new() };
    background.tasks.push(io.spawn(tend(cache.clone(), clerk.clone(), shared.redis.clone())));
    background.tasks.push(io.spawn(look_again(clerk.clone())));
    background.tasks.push(io.spawn(sweep.run()));
    if let Some(memory) = &shared.memory {
        memory.feed(Arc::new(cache.clone()));
        // Before the first read: a reading of a lagging origin must already meet what was acknowledged.
        let remembering = io.spawn(async move { repair.remember().await });
        remembering.await.context("the process is ending")?.context("the journal cannot be read")?;
    } else if let Some(redis) = &shared.redis {
        background.tasks.push(io.spawn(repair.run(redis.history(), background.stop.subscribe())));
        redis.spawn_tail(Arc::new(cache.clone()), journal.id());
        // Whoever comes first meets a node that knows what ended before, if that can be known, and that is connected.
        let first_look = async { tokio::join!(without_doubt(&cache), redis.reach_values()) };
        let _ = tokio::time::timeout(FIRST_LOOK_MAX, first_look).await;
    }
    let remembering = intake.clone();
    background.tasks.push(io.spawn(async move { remembering.remember_last_seen().await }));
    let beginning = io.spawn(async move {
        let _ = tokio::time::timeout(BEGIN_TIME_MAX, worker.begin()).await;
        worker
    });
    let worker = beginning.await.context("the process is ending")?;
    background.tasks.push(io.spawn(worker.run(background.stop.subscribe())));
    background.tasks.push(io.spawn(upkeep.clone().run(background.stop.subscribe())));

    let readiness =
        Readiness { is_draining: AtomicBool::new(false), origin: clerk, shared: shared.tier, stream: shared.stream, upkeep };
    let keys = ArcSwap::from_pointee(auth::Keys::new(config.api_keys.clone()));
    let (is_session_cookie_read, is_description_open) = (config.tokens.is_cookie_read, config.is_description_open);
    let state = web::Data::new(State {
        cache,
        applier,
        intake,
        keys,
        sessions,
        is_session_cookie_read,
        is_description_open,
        timed_for: config.timed_for,
        readiness,
        registry,
    });
    let main = listen(config.listen, state.clone())?;
    let metrics = config.metrics_listen.map(|address| listen_for_metrics(address, state.clone())).transpose()?;
    Ok(App { main, metrics, state, redis: shared.redis, journal: None, background, shutdown_delay: config.shutdown_delay })
}

/// Session tokens, and where their keys come from.
fn sessions(config: &Config, clerk: &Arc<Clerk>, cache: &Cache) -> anyhow::Result<Sessions> {
    let keys = match &config.tokens.keys {
        TokenKeys::Pinned(key) => Keys::Pinned(key.clone()),
        TokenKeys::Published(base) => Keys::Fetched(Arc::new(WellKnown::new(base).context("CLERK_PUBLISHABLE_KEY")?)),
        TokenKeys::OfTheApi => Keys::Fetched(clerk.clone()),
    };
    if config.tokens.policy.issuer.is_none() {
        warn!(
            "no issuer is named: session tokens are held against the instance's keys alone; set CLERK_PUBLISHABLE_KEY or CLERK_ISSUER"
        );
    }
    if config.tokens.is_cookie_read && config.tokens.policy.authorized_parties.is_empty() {
        warn!(
            "the session cookie is read whoever sends it: set CLERK_AUTHORIZED_PARTIES, or another origin of the domain may bring its own"
        );
    }
    Ok(Sessions::new(config.tokens.policy.clone(), keys, cache.clone()))
}

async fn without_doubt(cache: &Cache) {
    while cache.is_in_doubt() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn connect(config: &Config, clerk: &Clerk, journal: &str, io: &Handle) -> anyhow::Result<Shared> {
    let Some(url) = &config.redis_url else {
        let memory = Arc::new(MemoryStream::default());
        return Ok(Shared { tier: None, stream: memory.clone(), fence: Fence::always(), redis: None, memory: Some(memory) });
    };
    let settings = redis::Settings {
        url: url.clone(),
        replicas: config.redis_replicas,
        consistency: config.consistency,
        prefix: config.key_prefix.clone(),
        bounds: config.bounds,
        io: io.clone(),
    };
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
    match redis.check_journal(journal).await {
        Err(redis::StartError::Unreachable { .. }) | Ok(()) => {}
        Err(refused) => return Err(refused.into()),
    }
    Ok(Shared { tier: Some(redis.shared()), stream: redis.stream(), fence: redis.fence(), redis: Some(redis), memory: None })
}

impl App {
    /// Where it listens: the real port, also when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.main.address
    }

    /// Where it gives metrics without a key, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|listening| listening.address)
    }

    /// Serves until `shutdown` resolves; then: not ready and no connection kept, the shutdown delay, stop accepting, drain,
    /// stop the background. Another process that took the journal meanwhile ends it at once, as a failure.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let handle = self.main.server.handle();
        let metrics = self.metrics.map(|metrics| (metrics.server.handle(), tokio::spawn(metrics.server)));
        let (state, journal, delay) = (self.state.clone(), self.journal.clone(), self.shutdown_delay);
        let is_taken_over = Arc::new(AtomicBool::new(false));
        let noting = is_taken_over.clone();
        let stopping = tokio::spawn(async move {
            tokio::select! {
                () = shutdown => {
                    info!("stopping: not ready, then draining");
                    state.readiness.is_draining.store(true, Ordering::Relaxed);
                    tokio::time::sleep(delay).await;
                    handle.stop(true).await;
                }
                () = taken_over(journal) => {
                    noting.store(true, Ordering::Relaxed);
                    handle.stop(false).await;
                }
            }
        });
        let served = self.main.server.await.context("the server failed");
        stopping.abort();
        if let Some((handle, serving)) = metrics {
            // Last: whoever watches sees the drain to its end.
            handle.stop(false).await;
            let _ = serving.await;
        }
        self.background.stop().await;
        if let Some(redis) = &self.redis {
            redis.stop().await;
        }
        if let Some(journal) = &self.journal {
            journal.close().await;
        }
        anyhow::ensure!(!is_taken_over.load(Ordering::Relaxed), "another process runs on this journal");
        served
    }
}

/// Resolves when another process has this node's journal; a journal of somebody else is theirs to watch.
async fn taken_over(journal: Option<Arc<SqlJournal>>) {
    match journal {
        Some(journal) => journal.taken_over().await,
        None => std::future::pending().await,
    }
}

impl Background {
    /// Tells everything to stop, and ends what does not hear. Nothing here has to come to its end.
    async fn stop(self) {
        self.stop.send_replace(true);
        for task in &self.tasks {
            task.abort();
        }
        let ended = async {
            for task in self.tasks {
                // A task that panicked has ended too, and was logged.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(BACKGROUND_STOP_MAX, ended).await.is_err() {
            warn!("background work did not stop in time");
        }
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
