//! One kept connection per purpose, replaced when it fails. Used by every file of this room that talks to Redis.
//!
//! It never hammers: one attempt at a time, at most one in 100 ms after a failure, and callers meanwhile are told at once.
//! Every wait is bounded (I12). Connections are made on the I/O runtime, because their driver lives where they were made; a
//! caller that is dropped leaves nothing behind but an answer nobody reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{self, AsyncConnectionConfig, Pipeline, Value};
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::ports::SharedError;
use crate::protocol::rules::{self, Rule};

use super::Settings;
use super::cluster::{Cluster, is_well, slot_of};
use super::counts::Counts;
use super::reason::{phrase, phrase_of_making};
use super::scripts;
use super::sentinel::Sentinels;
use super::server::Server;
use super::shared::millis;
use super::start::ServerInfo;
use super::start_error::StartError;

/// How long a question may take.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_millis(250);
/// How long making a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Attempts are at least this far apart, also when they succeed: two primaries behind one address would make every new
/// connection the end of the others.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the time for an answer, what replicas have; the rest is for the way.
const WAIT_SHARE: f32 = 0.8;
/// A server that answers so may be the right one, later or with another password.
pub(super) const NOT_NOW: [&str; 5] = ["LOADING", "NOAUTH", "WRONGPASS", "MASTERDOWN", "BUSY"];
/// Connections being made at once, over all purposes; a kept one does not count.
const ATTEMPTS_MAX: usize = 8;

/// What connections are made with, shared by all links.
#[derive(Clone)]
pub(super) struct Maker {
    source: Source,
    /// Where the last connection was begun to, where that may change. Guards itself only, never held over an await.
    went_to: Arc<Mutex<Option<String>>>,
    /// How many replicas a write waits for.
    pub replicas: u32,
    pub io: Handle,
    pub server: Arc<Server>,
    pub counts: Counts,
}

/// Where the primary is.
#[derive(Clone)]
enum Source {
    /// Always at one address.
    Address(Pool),
    /// The same, read when it is needed: whoever told it may have told nonsense.
    Named(SecretString),
    /// Where Sentinel says.
    Sentinels(Sentinels),
    /// Where the cluster has this slot.
    Cluster(Cluster, u16),
}

/// The connection for one purpose.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    maker: Maker,
    purpose: &'static str,
    /// Guards the connection and the attempts at one; never held over an await.
    state: Mutex<State>,
    /// Ticks when an attempt has ended.
    settled: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    is_making: bool,
    /// Whether the last attempt, or the last question, failed in a way that waiting does not mend.
    is_failing: bool,
    not_before: Option<Instant>,
    made: u64,
}

/// A connection and its tag: the epoch it was made in.
#[derive(Clone)]
struct Held {
    connection: MultiplexedConnection,
    epoch: u64,
    serial: u64,
}

enum Next {
    Use(Held),
    Wait,
    Refuse,
}

impl Maker {
    /// Prepares to make connections, to whoever has this key; makes none.
    pub(super) fn new(settings: &Settings, stream: &str, counts: Counts) -> Result<Self, StartError> {
        let (url, replicas, io) = (&settings.url, settings.replicas, settings.io.clone());
        let source = Source::of(url, stream).map_err(|what| StartError::Url { what })?;
        let server = Arc::new(Server::of(settings.consistency));
        Ok(Self { source, went_to: Arc::default(), replicas, io, server, counts })
    }

    /// The cluster, if it is one.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        match &self.source {
            Source::Address(_) | Source::Named(_) | Source::Sentinels(_) => None,
            Source::Cluster(cluster, _) => Some(cluster.clone()),
        }
    }

    /// Who names the primary, if they are sentinels.
    pub(super) fn sentinels(&self) -> Option<Sentinels> {
        match &self.source {
            Source::Address(_) | Source::Named(_) | Source::Cluster(..) => None,
            Source::Sentinels(sentinels) => Some(sentinels.clone()),
        }
    }

    /// Whether the primary may come to be at another address, and somebody can be asked where.
    pub(super) fn may_move(&self) -> bool {
        !matches!(self.source, Source::Address(_) | Source::Named(_))
    }

    /// Where the last connection was begun to, if somebody named the place.
    pub(super) fn went_to(&self) -> Option<String> {
        self.went_to.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the primary is, as whoever knows says now.
    pub(super) async fn address(&self) -> Option<String> {
        match &self.source {
            Source::Address(_) | Source::Named(_) => None,
            Source::Sentinels(sentinels) => sentinels.primary().await.ok(),
            Source::Cluster(cluster, slot) => cluster.look().await.owner(*slot).map(str::to_owned),
        }
    }

    /// The same for whoever has this key in a cluster: not the server that all other connections agree on.
    pub(super) fn for_key(&self, key: &str) -> Self {
        match &self.source {
            Source::Address(_) | Source::Named(_) | Source::Sentinels(_) => self.clone(),
            Source::Cluster(cluster, _) => self.elsewhere(Source::Cluster(cluster.clone(), slot_of(key))),
        }
    }

    /// The same for one server of the cluster, at an address that it told.
    pub(super) fn for_address(&self, cluster: &Cluster, address: &str) -> Self {
        self.elsewhere(Source::Named(cluster.url_of(address)))
    }

    fn elsewhere(&self, source: Source) -> Self {
        let server = Arc::new(Server::of(self.server.consistency()));
        Self { source, server, went_to: Arc::default(), ..self.clone() }
    }

    /// Makes a connection of its own and asks the server who it is, on the I/O runtime, within a second.
    pub(super) async fn make(&self) -> Result<(MultiplexedConnection, ServerInfo), String> {
        let (source, went_to) = (self.source.clone(), self.went_to.clone());
        let making = async move {
            let (pool, address) = source.pool().await?;
            *went_to.lock().unwrap_or_else(PoisonError::into_inner) = address;
            introduce(&pool).await
        };
        match self.io.spawn(timeout(CONNECT_TIME_MAX, making)).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err("no connection in time".to_owned()),
            Err(_) => Err("stopped while connecting".to_owned()),
        }
    }
}

impl Source {
    fn of(url: &SecretString, stream: &str) -> Result<Self, String> {
        let text = url.expose_secret();
        if Sentinels::is_meant_by(text) {
            return Ok(Self::Sentinels(Sentinels::parse(text)?));
        }
        if Cluster::is_meant_by(text) {
            return Ok(Self::Cluster(Cluster::parse(text)?, slot_of(stream)));
        }
        pool(url).map(Self::Address)
    }

    /// What to connect by, and the address that was named, where one was.
    async fn pool(&self) -> Result<(Pool, Option<String>), String> {
        match self {
            Self::Address(pool) => Ok((pool.clone(), None)),
            Self::Named(url) => Ok((pool(url)?, None)),
            Self::Cluster(cluster, slot) => {
                let map = cluster.look().await;
                let address = map.owner(*slot).ok_or("no server of the cluster knows who has the slot")?;
                Ok((pool(&cluster.url_of(address))?, Some(address.to_owned())))
            }
            Self::Sentinels(sentinels) => {
                let address = sentinels.primary().await.map_err(|error| error.to_string())?;
                Ok((pool(&sentinels.url_of(&address))?, Some(address)))
            }
        }
    }
}

fn pool(url: &SecretString) -> Result<Pool, String> {
    // Time is measured here, per question; the driver's own limits would only hide which one was meant.
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIME_MAX)).set_response_timeout(None);
    // The error's category, never the error: its text may hold the URL, and that a password.
    let manager = Manager::new_with_config(url.expose_secret(), config).map_err(|error| error.category().to_owned())?;
    let pool = Pool::builder(manager).max_size(ATTEMPTS_MAX).runtime(Runtime::Tokio1).build();
    pool.map_err(|error| error.to_string())
}

async fn introduce(pool: &Pool) -> Result<(MultiplexedConnection, ServerInfo), String> {
    let connection = pool.get().await.map_err(|error| match error {
        deadpool_redis::PoolError::Backend(error) => phrase_of_making(&error),
        other => other.to_string(),
    })?;
    // Taken out for good: a pooled one would be asked UNWATCH and PING at every use.
    let mut connection = Connection::take(connection);
    let mut hello = redis::pipe();
    hello.cmd("INFO");
    let count = 1 + scripts::load(&mut hello);
    let replies = connection.req_packed_commands(&hello, 0, count).await.map_err(|error| phrase(&error))?;
    let mut replies = replies.into_iter();
    let mut server = match replies.next() {
        Some(Value::ServerError(error)) if NOT_NOW.contains(&error.code()) => return Err(error.code().to_owned()),
        Some(Value::ServerError(error)) => ServerInfo::refused(error.code()),
        Some(info) => ServerInfo::parse(&redis::from_redis_value::<String>(info).map_err(|_| "INFO cannot be read".to_owned())?),
        None => return Err("INFO was not answered".to_owned()),
    };
    let refused = replies.find_map(|reply| if let Value::ServerError(error) = reply { Some(error) } else { None });
    server.scripts_refused = refused.map(|error| error.code().to_owned());
    Ok((connection, server))
}

impl Link {
    /// A link for a purpose, a word for the log.
    pub(super) fn new(maker: &Maker, purpose: &'static str) -> Self {
        Self(Arc::new(Inner { maker: maker.clone(), purpose, state: Mutex::default(), settled: watch::Sender::new(()) }))
    }

    /// The epoch of the primary as all links see it.
    pub(super) fn epoch(&self) -> u64 {
        self.0.maker.server.epoch()
    }

    /// Notes which server answered; the epoch it belongs to, none when it is no primary.
    pub(super) fn observe(&self, replid: &str, is_primary: bool) -> Option<u64> {
        self.0.maker.server.observe(replid, is_primary)
    }

    /// Asks everything in the pipeline and answers every reply, errors of single commands among them. What another server
    /// answered than the one that is the primary when the answer arrives is an error.
    pub(super) async fn ask(&self, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, SharedError> {
        let deadline = Instant::now() + within;
        let replies = self.ask_once(pipeline, deadline).await?;
        if !replies.iter().any(|reply| has_code(reply, "NOSCRIPT")) {
            return Ok(replies);
        }
        // The server forgot its scripts. What ran already runs again: every script bears that.
        let mut loading = redis::pipe();
        scripts::load(&mut loading);
        self.ask_once(&loading, deadline).await?;
        self.ask_once(pipeline, deadline).await
    }

    /// How many replicas writes wait for.
    pub(super) fn awaited(&self) -> u32 {
        self.0.maker.replicas
    }

    /// The same for writes: Ok means that the primary has them, and as many replicas as are awaited.
    pub(super) async fn confirm(&self, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, SharedError> {
        let replicas = self.0.maker.replicas;
        if replicas == 0 || !rules::is_on(Rule::ReplicasAreAwaited) {
            return self.ask(pipeline, within).await;
        }
        let mut awaited = pipeline.clone();
        awaited.cmd("WAIT").arg(replicas).arg(millis(within.mul_f32(WAIT_SHARE)));
        let mut replies = self.ask(&awaited, within).await?;
        let confirmed = replies.pop().map_or(Ok(0), read::<u32>)?;
        match confirmed >= replicas {
            true => Ok(replies),
            false => Err(SharedError::Unconfirmed { confirmed, awaited: replicas }),
        }
    }

    /// The same for what moves the fence. A master that reaches too few of its cluster may have been replaced, and vouches for
    /// nothing, though it goes on being read where `cluster-allow-reads-when-down` says so.
    pub(super) async fn vouch(&self, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, SharedError> {
        if !self.is_by_slot() || !rules::is_on(Rule::OnlyAMajorityVouches) {
            return self.confirm(pipeline, within).await;
        }
        // First: what follows is no older than the moment in which the master reached enough.
        let mut asked = redis::pipe();
        asked.cmd("CLUSTER").arg("INFO");
        for command in pipeline.cmd_iter() {
            asked.add_command(command.clone());
        }
        let mut replies = self.confirm(&asked, within).await?.into_iter();
        let info = replies.next().ok_or_else(|| unavailable("no reply"))?;
        match is_well(&read::<String>(info)?) {
            true => Ok(replies.collect()),
            false => Err(unavailable("CLUSTERDOWN")),
        }
    }

    /// Whether whoever has a slot of a cluster is asked.
    fn is_by_slot(&self) -> bool {
        matches!(self.0.maker.source, Source::Cluster(..))
    }

    async fn ask_once(&self, pipeline: &Pipeline, deadline: Instant) -> Result<Vec<Value>, SharedError> {
        let Ok(held) = timeout_at(deadline, self.held()).await else { return Err(self.timed_out(None)) };
        let mut held = held?;
        let asked = held.connection.req_packed_commands(pipeline, 0, pipeline.len());
        let Ok(answered) = timeout_at(deadline, asked).await else { return Err(self.timed_out(Some(held.serial))) };
        let replies = answered.map_err(|error| {
            self.let_go(held.serial, false);
            unavailable(phrase(&error))
        })?;
        self.accept(&held, replies)
    }

    fn accept(&self, held: &Held, replies: Vec<Value>) -> Result<Vec<Value>, SharedError> {
        // A server that answers so is, for now or for good, not the one to talk to.
        for code in ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "NOPERM", "CLUSTERDOWN"] {
            if replies.iter().any(|reply| has_code(reply, code)) {
                self.let_go(held.serial, true);
                return Err(unavailable(code));
            }
        }
        // The key of this link has another server now: the next connection finds it.
        if self.is_by_slot() && replies.iter().any(|reply| has_code(reply, "MOVED")) {
            self.let_go(held.serial, false);
            return Err(unavailable("MOVED"));
        }
        match held.epoch == self.0.maker.server.epoch() || !rules::is_on(Rule::OldTagIsAMiss) {
            true => Ok(replies),
            false => Err(unavailable("the primary changed")),
        }
    }

    fn timed_out(&self, serial: Option<u64>) -> SharedError {
        self.0.maker.counts.timeouts.inc();
        if let Some(serial) = serial {
            self.let_go(serial, true);
        }
        SharedError::TimedOut
    }

    /// Lets a connection go that failed; a later one stays.
    fn let_go(&self, serial: u64, is_failing: bool) {
        let mut state = self.state();
        if state.held.as_ref().is_some_and(|held| held.serial == serial) {
            debug!(purpose = self.0.purpose, "a connection to Redis is let go");
            state.held = None;
            state.is_failing |= is_failing;
        }
    }

    async fn held(&self) -> Result<Held, SharedError> {
        let mut settled = self.0.settled.subscribe();
        loop {
            match self.next() {
                Next::Use(held) => return Ok(held),
                Next::Refuse => return Err(unavailable("no connection")),
                Next::Wait => settled.changed().await.map_err(|_| unavailable("stopped"))?,
            }
        }
    }

    /// While things fail, only the caller that begins an attempt waits for it.
    fn next(&self) -> Next {
        let epoch = self.0.maker.server.epoch();
        let mut state = self.state();
        state.held.take_if(|held| held.epoch != epoch);
        match (&state.held, state.is_making) {
            (Some(held), _) => return Next::Use(held.clone()),
            (None, true) if state.is_failing => return Next::Refuse,
            (None, true) => return Next::Wait,
            (None, false) => {}
        }
        if state.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return Next::Refuse;
        }
        state.is_making = true;
        let link = self.clone();
        self.0.maker.io.spawn(async move { link.make().await });
        Next::Wait
    }

    async fn make(&self) {
        let made = self.0.maker.make().await.and_then(|(connection, server)| {
            let epoch = self.0.maker.server.meet(&server).ok_or("the server is no primary")?;
            Ok((connection, epoch))
        });
        self.settle(made);
        self.0.settled.send_replace(());
    }

    fn settle(&self, made: Result<(MultiplexedConnection, u64), String>) {
        let counts = &self.0.maker.counts;
        let mut state = self.state();
        state.is_making = false;
        state.not_before = Some(Instant::now() + ATTEMPT_PAUSE);
        match made {
            Ok((connection, epoch)) => {
                counts.connections.inc();
                debug!(purpose = self.0.purpose, "connected to Redis");
                state.made += 1;
                state.held = Some(Held { connection, epoch, serial: state.made });
                state.is_failing = false;
            }
            Err(error) => {
                counts.connections_failed.inc();
                if !state.is_failing {
                    warn!(purpose = self.0.purpose, error, "Redis cannot be reached");
                }
                state.is_failing = true;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error for whoever can do without Redis for a moment.
pub(super) fn unavailable(what: impl Into<String>) -> SharedError {
    SharedError::Unavailable { what: what.into() }
}

fn has_code(reply: &Value, code: &str) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == code)
}

/// A reply, or the error in its place: by code, which holds no key and no value.
pub(super) fn read<T: redis::FromRedisValue>(reply: Value) -> Result<T, SharedError> {
    match reply {
        Value::ServerError(error) => Err(unavailable(error.code())),
        reply => redis::from_redis_value(reply).map_err(|_| unavailable("an answer that cannot be read")),
    }
}
