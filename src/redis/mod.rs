//! The Redis room: the shared tier, the change stream with its reader and fence, and how many nodes there are.
//!
//! [`Redis::connect`] is the door. The roof hands what comes out to the cache and the intake, through the ports; nobody else
//! knows Redis. Everything here may fail without an answer becoming wrong: a value not got is a miss, a fill not landed costs
//! a copy, and a stream not read lets the fence age. Where the primary may move, `sentinel` or `cluster` says where it is; `links`
//! reaches the values that a cluster spreads. Upholds I5, I6, I7, I12, I13.

mod address;
mod clock;
mod cluster;
mod counts;
mod eventual;
mod history;
mod keys;
mod link;
mod links;
mod maker;
mod nodes;
mod question;
mod reason;
mod replicas;
mod report;
mod scripts;
mod sentinel;
mod server;
mod shared;
mod stamps;
mod start;
mod start_error;
mod stream;
mod tail;
mod token;
mod walk;
mod window;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use crate::ports::{Fence, StreamSink};
use crate::protocol::freshness::{Bounds, Consistency};

pub use counts::{Cause, Counts, Reason};
pub use history::RedisHistory;
pub use keys::Keys;
pub use report::{LookError, Report};
pub use shared::RedisShared;
pub use start_error::StartError;
pub use stream::RedisStream;
pub use walk::{Step, Walk};

use cluster::Cluster;
use eventual::Reader;
use link::Link;
use links::Links;
use maker::Maker;
use nodes::{Alive, Heartbeat, Node};
use sentinel::{NoPrimary, Sentinels};
use start::{CHECK_TIME_MAX, ServerInfo};
use tail::Tail;

/// The stream is asked once in this part of the staleness bound.
const QUESTIONS_PER_BOUND: u32 = 40;
/// How often the sentinels are asked whether the primary is still the same.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How long stopping waits for the tasks.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// How Redis is used.
#[derive(Clone)]
pub struct Settings {
    /// `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`.
    pub url: SecretString,
    /// How many replicas every write, and every question that moves the fence, waits for.
    pub replicas: u32,
    /// What is promised of answers.
    pub consistency: Consistency,
    /// Prefix of every key; belongs to one Clerk instance.
    pub prefix: String,
    /// The TTL of values, and the staleness bound that the stream is asked for.
    pub bounds: Bounds,
    /// The runtime that connections and tasks live on.
    pub io: Handle,
}

/// A Redis, reachable or not yet.
pub struct Redis {
    maker: Maker,
    shared: Arc<RedisShared>,
    stream: Arc<RedisStream>,
    history: Arc<RedisHistory>,
    /// Up to when the stream was heard.
    heard: Fence,
    /// This node, once its journal is known.
    node: OnceLock<Node>,
    alive: Alive,
    instance: Arc<OnceLock<String>>,
    counts: Counts,
    period: Duration,
    stop: watch::Sender<bool>,
    /// Guards the list of tasks; never held over an await.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Whether a `redis+cluster://` URL can be read; a phrase without anything of it.
pub fn check_cluster_url(url: &str) -> Result<(), &'static str> {
    Cluster::parse(url).map(|_| ())
}

/// Whether a `redis+sentinel://` URL can be read; a phrase without anything of it.
pub fn check_sentinel_url(url: &str) -> Result<(), &'static str> {
    Sentinels::parse(url).map(|_| ())
}

impl Redis {
    /// Looks at the server and refuses one that cannot carry the protocol. One that cannot be reached is none of that: reads
    /// go to the origin until it can, and then everything heals by itself.
    pub async fn connect(settings: Settings) -> Result<Self, StartError> {
        let redis = Self::prepare(settings)?;
        if redis.maker.server.consistency() == Consistency::Eventual {
            warn!("ROLLCALL_CONSISTENCY=eventual: no staleness bound, no local tier, every answer says Rollcall-Lag: unknown");
        }
        match redis.check().await {
            Err(error @ StartError::Unreachable { .. }) => warn!(%error, "starting without Redis"),
            checked => checked?,
        }
        Ok(redis)
    }

    /// The same, and looks at nothing: for whoever only reports.
    pub fn prepare(settings: Settings) -> Result<Self, StartError> {
        let counts = Counts::default();
        let keys = Arc::new(Keys::new(&settings.prefix)?);
        let maker = Maker::new(&settings, keys.changes(), counts.clone())?;
        let changes = Link::new(&maker, "changes");
        // Without a fence it still says whether the stream is heard of, here.
        let (heard, alive) = (Fence::asked(), Alive::default());
        let is_eventual = settings.consistency == Consistency::Eventual;
        let period = if is_eventual { settings.bounds.staleness } else { settings.bounds.staleness / QUESTIONS_PER_BOUND };
        let shared = RedisShared {
            values: Links::new(&maker, &Link::new(&maker, "values"), "values"),
            changes: Links::new(&maker, &changes, "changes"),
            stream: changes.clone(),
            keys: keys.clone(),
            clock: Default::default(),
            ttl: settings.bounds.ttl,
            fence: heard.clone(),
            staleness: settings.bounds.staleness + if is_eventual { 2 * period } else { Duration::ZERO },
            counts: counts.clone(),
        };
        Ok(Self {
            maker,
            shared: Arc::new(shared),
            history: Arc::new(RedisHistory {
                link: changes.clone(),
                keys: keys.clone(),
                holder: token::token(),
                doubts: watch::Sender::new(None),
                alive: alive.clone(),
            }),
            stream: Arc::new(RedisStream { changes, keys, standing: Arc::default(), alive: alive.clone() }),
            heard,
            node: OnceLock::new(),
            alive: alive.clone(),
            instance: Arc::default(),
            counts,
            period,
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Whether the server is one to rest on: its version, its eviction policy, its role; and whether it answers what the
    /// fence is moved by.
    pub async fn check(&self) -> Result<(), StartError> {
        let (connection, server) = self.introduce().await?;
        let consistency = self.maker.server.consistency();
        server.check(consistency)?;
        match consistency {
            Consistency::Bounded if server.is_in_cluster && self.maker.cluster().is_none() => return Err(StartError::InCluster),
            Consistency::Bounded => start::check_fence(connection, &self.shared.keys, &server).await?,
            Consistency::Eventual => {}
        }
        self.check_masters(consistency).await
    }

    /// A connection, and what the server says of itself.
    async fn introduce(&self) -> Result<(MultiplexedConnection, ServerInfo), StartError> {
        let made = self.maker.make().await;
        if let (Err(_), Some(sentinels)) = (&made, self.maker.sentinels()) {
            // Sentinels that answer and know no such primary will not come to know it by waiting.
            let asking = self.maker.io.spawn(async move { sentinels.primary().await });
            if let Ok(Err(NoPrimary::UnknownName { name })) = asking.await {
                return Err(StartError::UnknownPrimary { name });
            }
        }
        made.map_err(|what| StartError::Unreachable { what })
    }

    /// The other masters of a cluster.
    async fn check_masters(&self, consistency: Consistency) -> Result<(), StartError> {
        let Some(cluster) = self.maker.cluster() else { return Ok(()) };
        for master in cluster.map().masters() {
            let made = self.maker.for_address(&cluster, &master).make().await;
            made.map_err(|what| StartError::Unreachable { what })?.1.check(consistency)?;
        }
        Ok(())
    }

    /// Claims the prefix for a Clerk instance, or finds it claimed by another. When Redis cannot be reached the claim is made
    /// as soon as it can, and the stream of another instance is not followed.
    pub async fn check_instance(&self, instance: &str) -> Result<(), StartError> {
        let ours = self.instance.get_or_init(|| instance.to_owned());
        let keys = &self.shared.keys;
        let unreachable = |error: crate::ports::SharedError| StartError::Unreachable { what: error.to_string() };
        let found = start::claim(&self.shared.stream, keys, ours, CHECK_TIME_MAX).await.map_err(unreachable)?;
        start::check_instance(keys, &found, ours)
    }

    /// The shared tier.
    pub fn shared(&self) -> Arc<RedisShared> {
        self.shared.clone()
    }

    /// The change stream, to append to.
    pub fn stream(&self) -> Arc<RedisStream> {
        self.stream.clone()
    }

    /// The history beside it.
    pub fn history(&self) -> Arc<RedisHistory> {
        self.history.clone()
    }

    /// The fence that the tail moves; one that says nothing where nothing can be said.
    pub fn fence(&self) -> Fence {
        match self.maker.server.consistency() {
            Consistency::Bounded => self.heard.clone(),
            Consistency::Eventual => self.heard.unvouched(),
        }
    }

    /// How many nodes are alive, this one included.
    pub fn nodes(&self) -> u32 {
        self.alive.nodes()
    }

    /// What this room counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Says that this node is alive with the journal of this id, and refuses it if another node alive on this Redis has
    /// another one. Takes some seconds when such a node has just died.
    pub async fn check_journal(&self, journal: &str) -> Result<(), StartError> {
        self.node(journal).check_journal().await
    }

    fn node(&self, journal: &str) -> &Node {
        self.node.get_or_init(|| {
            Node::new(Link::new(&self.maker.for_key(self.shared.keys.nodes()), "nodes"), self.shared.keys.clone(), journal)
        })
    }

    /// Begins to feed `sink`, to move the fence, and to say that this node is alive with this journal. Once per `Redis`.
    pub fn spawn_tail(&self, sink: Arc<dyn StreamSink>, journal: &str) {
        let heartbeat = Heartbeat { node: self.node(journal).clone(), alive: self.alive.clone() };
        self.tasks().push(self.maker.io.spawn(heartbeat.run(self.stop.subscribe())));
        match self.maker.server.consistency() {
            Consistency::Bounded => self.spawn_bounded(sink),
            Consistency::Eventual => self.spawn_eventual(sink),
        }
        if self.maker.may_move() {
            self.tasks().push(self.maker.io.spawn(follow(self.maker.clone(), self.stop.subscribe())));
        }
    }

    fn spawn_eventual(&self, sink: Arc<dyn StreamSink>) {
        let reader = Reader {
            link: Link::new(&self.maker, "stream"),
            keys: self.shared.keys.clone(),
            clock: self.shared.clock.clone(),
            heard: self.heard.clone(),
            standing: self.stream.standing.clone(),
            counts: self.counts.clone(),
            sink,
            instance: self.instance.clone(),
            place: Default::default(),
        };
        self.tasks().push(self.maker.io.spawn(reader.run(self.period, self.stop.subscribe())));
    }

    fn spawn_bounded(&self, sink: Arc<dyn StreamSink>) {
        let tail = Tail {
            link: Link::new(&self.maker, "tail"),
            keys: self.shared.keys.clone(),
            clock: self.shared.clock.clone(),
            fence: self.heard.clone(),
            standing: self.stream.standing.clone(),
            token: token::token(),
            counts: self.counts.clone(),
            sink,
            instance: self.instance.clone(),
            doubts: self.history.doubts.clone(),
            place: Default::default(),
        };
        self.tasks().push(self.maker.io.spawn(tail.run(self.period, self.stop.subscribe())));
    }

    /// Connects to whoever holds values, so that the first read need not do it in its own time. Where that fails, whoever reads
    /// tries again.
    pub async fn reach_values(&self) {
        let links = self.shared.values.everywhere().await;
        join_all(links.iter().map(Link::reach)).await;
    }

    /// Stops the tail and the heartbeat, within a second.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks());
        let stopped = async {
            for task in tasks {
                // A task that panicked has stopped too, and was logged by the runtime.
                let _ = task.await;
            }
        };
        if timeout(STOP_TIME_MAX, stopped).await.is_err() {
            warn!("the reader of the change stream did not stop in time");
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twice a second: whether the sentinels name another primary than before, or the cluster another master of the stream. All
/// connections to it are made anew then.
async fn follow(maker: Maker, mut stop: watch::Receiver<bool>) {
    let mut told = None;
    let mut ticks = interval(FOLLOW_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|is_stopped| *is_stopped) => return,
        }
        let Some(address) = maker.address().await else { continue };
        // With where connections were made to, not with what was named before: one may have been on its way meanwhile.
        if maker.went_to().is_none_or(|went_to| went_to == address) {
            continue;
        }
        maker.server.depose();
        if told.replace(address.clone()) != Some(address) {
            info!("another primary is named");
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.shared.keys.prefix()).finish_non_exhaustive()
    }
}
