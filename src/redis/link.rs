//! One kept connection per purpose, replaced when it fails. Used by every file of this room that talks to Redis.
//!
//! It never hammers: one attempt at a time, at most one in 100 ms after a failure, and callers meanwhile are told at once.
//! Every wait is bounded (I12). A caller that is dropped leaves nothing behind but an answer nobody reads. How a connection
//! is made is `maker`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{self, Pipeline, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::ports::SharedError;
use crate::protocol::rules::{self, Rule};

use super::cluster::is_well;
use super::maker::Maker;
use super::reason::phrase;
use super::scripts;
use super::shared::millis;

/// How long a question may take.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_millis(250);
/// Attempts are at least this far apart, also when they succeed: two primaries behind one address would make every new
/// connection the end of the others.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the time for an answer, what replicas have; the rest is for the way.
const WAIT_SHARE: f32 = 0.8;

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

    /// Connects, or waits until somebody has tried. Asks nothing.
    pub(super) async fn reach(&self) {
        // Whoever asks hears why.
        let _ = self.held().await;
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
        self.0.maker.is_of_cluster()
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
