//! The links to the servers that hold values: one to the only primary, or one to each master of a cluster. Used by the shared
//! tier and by walks; what lies beside the stream has a link of its own.
//!
//! A master of values needs no tag: an old value that comes back with a failover, or from a master that was deposed, is refused
//! by what the stream says of its user, which every node remembers for longer than any value lives (I5, I6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{Cmd, Pipeline, ServerError, Value};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::ports::SharedError;

use super::address::{host_of, joined};
use super::cluster::{Cluster, slot_of};
use super::link::{Link, unavailable};
use super::maker::Maker;

/// Servers that are remembered at most: a cluster has a thousand.
const LINKS_MAX: usize = 1000;

/// Links for one purpose.
#[derive(Clone)]
pub(super) enum Links {
    /// Everything is there.
    One(Link),
    /// Each key has its master.
    Many(Arc<Many>),
}

pub(super) struct Many {
    maker: Maker,
    cluster: Cluster,
    purpose: &'static str,
    /// By address. Guards the list alone; never held over an await.
    links: Mutex<BTreeMap<String, Link>>,
}

impl Links {
    /// Links for a purpose; `one` where there is one server.
    pub(super) fn new(maker: &Maker, one: &Link, purpose: &'static str) -> Self {
        match maker.cluster() {
            None => Self::One(one.clone()),
            Some(cluster) => Self::Many(Arc::new(Many { maker: maker.clone(), cluster, purpose, links: Mutex::default() })),
        }
    }

    /// Whether the server of a value may be another one than the stream's.
    pub(super) fn are_many(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    /// A link to every server that holds values now.
    pub(super) async fn everywhere(&self) -> Vec<Link> {
        match self {
            Self::One(link) => vec![link.clone()],
            Self::Many(many) => many.cluster.look().await.masters().into_iter().map(|master| many.link_to(master)).collect(),
        }
    }

    /// Asks whoever has this key; all keys of the pipeline lie in its slot.
    pub(super) async fn ask(&self, key: &str, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, SharedError> {
        match self {
            Self::One(link) => link.ask(pipeline, within).await,
            Self::Many(many) => many.exchange(key, pipeline, within).await,
        }
    }

    /// One command about this key and its reply.
    pub(super) async fn one(&self, key: &str, command: Cmd, within: Duration) -> Result<Value, SharedError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let replies = self.ask(key, &pipeline, within).await?;
        replies.into_iter().next().ok_or_else(|| unavailable("no reply"))
    }

    /// Writes commands, each with the key it is about; their replies in the same order. Ok means that every server that has
    /// one of the keys answered, and as many of its replicas as are awaited. A key that moves shows in its reply.
    pub(super) async fn confirm(&self, commands: &[(String, Cmd)], within: Duration) -> Result<Vec<Value>, SharedError> {
        match self {
            Self::One(link) => link.confirm(&pipeline_of(commands.iter().map(|(_, command)| command)), within).await,
            Self::Many(many) => many.confirm(commands, within).await,
        }
    }

    /// Writes one command about one key wherever it is now: also at the server that its slot is just moving to.
    pub(super) async fn confirm_moving(&self, key: &str, command: &Cmd, within: Duration) -> Result<Value, SharedError> {
        let commands = [(key.to_owned(), command.clone())];
        let reply = |replies: Vec<Value>| replies.into_iter().next_back().ok_or_else(|| unavailable("no reply"));
        let first = reply(self.confirm(&commands, within).await?)?;
        let Self::Many(many) = self else { return Ok(first) };
        if redirect(&first).is_none() {
            return Ok(first);
        }
        let asked = many.master_of(key, within).await?;
        let Some((code, address)) = redirected(&first, &asked) else { return Ok(first) };
        let mut pipeline = Pipeline::with_capacity(2);
        if code == "ASK" {
            pipeline.cmd("ASKING");
        } else {
            many.look_soon();
        }
        pipeline.add_command(command.clone());
        reply(many.link_to(address).confirm(&pipeline, within).await?)
    }
}

impl Many {
    async fn confirm(&self, commands: &[(String, Cmd)], within: Duration) -> Result<Vec<Value>, SharedError> {
        let mut by_master = BTreeMap::<String, Vec<usize>>::new();
        for (place, (key, _)) in commands.iter().enumerate() {
            by_master.entry(self.master_of(key, within).await?).or_default().push(place);
        }
        let groups = by_master.into_iter().map(|(master, places)| async move {
            let pipeline = pipeline_of(places.iter().map(|place| &commands[*place].1));
            let replies = self.noting(self.link_to(master).confirm(&pipeline, within).await)?;
            Ok(places.into_iter().zip(replies))
        });
        let groups = join_all(groups).await.into_iter().collect::<Result<Vec<_>, SharedError>>()?;
        let mut replies: Vec<_> = groups.into_iter().flatten().collect();
        replies.sort_by_key(|(place, _)| *place);
        Ok(replies.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Asks the master of a key; once more where the key has moved.
    async fn exchange(&self, key: &str, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, SharedError> {
        let master = self.master_of(key, within).await?;
        let replies = self.noting(self.link_to(master.clone()).ask(pipeline, within).await)?;
        match replies.iter().find_map(|reply| redirected(reply, &master)) {
            Some(("MOVED", address)) => {
                self.look_soon();
                self.link_to(address).ask(pipeline, within).await
            }
            // What is just being moved is not looked for: it is a miss, until it has arrived.
            Some(_) | None => Ok(replies),
        }
    }

    /// Whoever does not answer may have been replaced. Nobody waits for it: he is told at once.
    fn noting<T>(&self, answered: Result<T, SharedError>) -> Result<T, SharedError> {
        if answered.is_err() {
            self.look_soon();
        }
        answered
    }

    fn look_soon(&self) {
        let cluster = self.cluster.clone();
        self.maker.io.spawn(async move { cluster.look_if_nobody_does().await });
    }

    async fn master_of(&self, key: &str, within: Duration) -> Result<String, SharedError> {
        let slot = slot_of(key);
        if let Some(master) = self.cluster.map().owner(slot) {
            return Ok(master.to_owned());
        }
        let map = timeout(within, self.cluster.look()).await.map_err(|_| SharedError::TimedOut)?;
        map.owner(slot).map(str::to_owned).ok_or_else(|| unavailable("no master of the slot is known"))
    }

    fn link_to(&self, address: String) -> Link {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= LINKS_MAX {
            // Servers that came and went: whoever is still needed is connected to again.
            links.clear();
        }
        let link = |address: &String| Link::new(&self.maker.for_address(&self.cluster, address), self.purpose);
        links.entry(address).or_insert_with_key(link).clone()
    }
}

fn pipeline_of<'a>(commands: impl ExactSizeIterator<Item = &'a Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command.clone());
    }
    pipeline
}

/// Whether a reply sends whoever asked elsewhere.
fn redirect(reply: &Value) -> Option<(&'static str, &ServerError)> {
    let Value::ServerError(error) = reply else { return None };
    let code = ["MOVED", "ASK"].into_iter().find(|code| *code == error.code())?;
    Some((code, error))
}

/// Where a reply sends whoever asked here: for good (`MOVED`), or for this once (`ASK`).
fn redirected(reply: &Value, asked: &str) -> Option<(&'static str, String)> {
    let (code, error) = redirect(reply)?;
    // `MOVED 3999 127.0.0.1:6381`; an address of IPv6 comes without brackets, and a host that is the same not at all.
    let (host, port) = error.details()?.rsplit_once(' ')?.1.rsplit_once(':')?;
    Some((code, joined(if host.is_empty() { host_of(asked) } else { host }, port)))
}
