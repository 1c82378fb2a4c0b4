//! How a connection is made: where the primary is, as whoever knows says, and who answers there.
//!
//! On the I/O runtime, because a connection's driver lives where it was made; within a second (I12).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{self, AsyncConnectionConfig, Value};
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Settings;
use super::cluster::{Cluster, slot_of};
use super::counts::Counts;
use super::reason::{phrase, phrase_of_making};
use super::scripts;
use super::sentinel::Sentinels;
use super::server::Server;
use super::start::ServerInfo;
use super::start_error::StartError;

/// How long making a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
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

    /// Whether whoever has a slot of a cluster is asked.
    pub(super) fn is_of_cluster(&self) -> bool {
        matches!(self.source, Source::Cluster(..))
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
