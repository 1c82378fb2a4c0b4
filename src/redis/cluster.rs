//! Which server has a key, by the word of a Redis Cluster. The maker of connections asks before each one, whoever meets a key
//! that moved asks again, and a task asks once a second while all goes well: a deposed master may go on answering for as
//! long as `cluster-node-timeout`.
//!
//! All servers that are known are asked at once, and of those that hold the cluster to be well the one in the latest epoch is
//! believed: whoever was cut off with a minority says what was true before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{self, IntoConnectionInfo, Value};
use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};

use super::address::{host_of, joined, with_port};

/// How long a server may take; a connection as a whole has a second.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(400);
/// What was told less than this ago is not asked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const PORT: u16 = 6379;
const SCHEME: &str = "redis+cluster://";
/// Slots of every cluster.
const SLOTS: u16 = 16_384;

/// A cluster.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Inner>);

struct Inner {
    /// The servers named in the URL.
    seeds: Vec<String>,
    /// `user:password@`, as written; may be empty.
    credentials: SecretString,
    /// Guards the map as last told; never held over an await.
    map: Mutex<Arc<Map>>,
    /// When the servers were last asked. Whoever asks holds it meanwhile: those who wait for it want the same answer.
    asked_at: tokio::sync::Mutex<Option<Instant>>,
}

/// Who has which slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    epoch: u64,
    owners: Vec<Owner>,
    /// Replicas too, to ask when the masters do not answer.
    servers: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Owner {
    first: u16,
    last: u16,
    address: String,
}

impl Cluster {
    /// Whether a URL names a cluster.
    pub(super) fn is_meant_by(url: &str) -> bool {
        url.starts_with(SCHEME)
    }

    /// Reads `redis+cluster://[user:password@]a[:port],b,c`.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url.strip_prefix(SCHEME).ok_or("it does not begin with redis+cluster://")?;
        let (credentials, hosts) = rest.rsplit_once('@').map_or(("", rest), |(user, hosts)| (user, hosts));
        let hosts = hosts.strip_suffix('/').or(hosts.strip_suffix("/0")).unwrap_or(hosts);
        if hosts.contains('/') {
            return Err("a cluster has no databases: redis+cluster://a,b,c");
        }
        let seeds: Vec<_> = hosts.split(',').map(|host| with_port(host.trim(), PORT)).collect();
        let at = if credentials.is_empty() { "" } else { "@" };
        let credentials = format!("{credentials}{at}").into();
        let cluster = Self(Arc::new(Inner { seeds, credentials, map: Mutex::default(), asked_at: Default::default() }));
        let is_readable = |address: &String| cluster.url_of(address).expose_secret().into_connection_info().is_ok();
        match !hosts.is_empty() && cluster.0.seeds.iter().all(is_readable) {
            true => Ok(cluster),
            false => Err("an address, the user or the password cannot be read (characters of a password are percent-encoded)"),
        }
    }

    /// The URL of a server.
    pub(super) fn url_of(&self, address: &str) -> SecretString {
        format!("redis://{}{address}", self.0.credentials.expose_secret()).into()
    }

    /// The map as last told; empty before anybody was asked.
    pub(super) fn map(&self) -> Arc<Map> {
        self.0.map.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, unless somebody is asking just now.
    pub(super) async fn look_if_nobody_does(&self) {
        if let Ok(asked_at) = self.0.asked_at.try_lock() {
            self.look_with(asked_at).await;
        }
    }

    /// Asks who has what. An older map than the one known changes nothing.
    pub(super) async fn look(&self) -> Arc<Map> {
        let asked_at = self.0.asked_at.lock().await;
        self.look_with(asked_at).await
    }

    async fn look_with(&self, mut asked_at: tokio::sync::MutexGuard<'_, Option<Instant>>) -> Arc<Map> {
        if asked_at.is_some_and(|asked_at| asked_at.elapsed() < LOOK_AGAIN) {
            return self.map();
        }
        let mut servers = self.0.seeds.clone();
        servers.extend(self.map().servers.iter().cloned());
        servers.sort();
        servers.dedup();
        let answers = join_all(servers.iter().map(|address| self.ask(address))).await;
        *asked_at = Some(Instant::now());
        let latest = answers.into_iter().flatten().max_by_key(|map| map.epoch);
        let mut map = self.0.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = latest.filter(|latest| latest.epoch >= map.epoch) {
            *map = Arc::new(latest);
        }
        map.clone()
    }

    async fn ask(&self, address: &str) -> Option<Map> {
        let asking = async {
            let client = redis::Client::open(self.url_of(address).expose_secret()).ok()?;
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            let mut question = redis::pipe();
            question.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
            let (info, slots) = question.query_async::<(String, Value)>(&mut connection).await.ok()?;
            Map::read(&info, slots, host_of(address))
        };
        timeout(ANSWER_TIME_MAX, asking).await.ok()?
    }
}

impl Map {
    /// None: the server does not hold the cluster to be well, or says nothing that can be read.
    fn read(info: &str, slots: Value, asked: &str) -> Option<Self> {
        if !is_well(info) {
            return None;
        }
        let mut map = Self { epoch: told(info, "cluster_current_epoch")?.parse().ok()?, ..Self::default() };
        let Value::Array(ranges) = slots else { return None };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let mut slot = || redis::from_redis_value::<u16>(range.next()?).ok();
            let (first, last) = (slot()?, slot()?);
            let mut servers = range.filter_map(|server| address(server, asked));
            let owner = servers.next()?;
            map.servers.extend(servers);
            map.servers.push(owner.clone());
            map.owners.push(Owner { first, last, address: owner });
        }
        Some(map)
    }

    /// The master that has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&str> {
        let owner = self.owners.iter().find(|owner| (owner.first..=owner.last).contains(&slot))?;
        Some(&owner.address)
    }

    /// Every master.
    pub(super) fn masters(&self) -> Vec<String> {
        let mut masters: Vec<_> = self.owners.iter().map(|owner| owner.address.clone()).collect();
        masters.sort();
        masters.dedup();
        masters
    }
}

/// Whether a server holds its cluster to be well, by its CLUSTER INFO: a master that reaches too few others does not.
pub(super) fn is_well(info: &str) -> bool {
    told(info, "cluster_state") == Some("ok")
}

fn told<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The slot of a key: of what stands in its first pair of braces, if anything does.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// As the cluster's specification has it (XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// Of `[host, port, id, …]`; a server that does not know its own host means the one it was asked at.
fn address(server: Value, asked: &str) -> Option<String> {
    let Value::Array(parts) = server else { return None };
    let mut parts = parts.into_iter();
    let host = redis::from_redis_value::<Option<String>>(parts.next()?).ok()?.filter(|host| !host.is_empty() && host != "?");
    let port = redis::from_redis_value::<u16>(parts.next()?).ok()?;
    Some(joined(host.as_deref().unwrap_or(asked), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_and_what_they_ask_for() {
        let check = |url: &str, seeds: &[&str], first: &str| {
            let cluster = Cluster::parse(url).expect(url);
            assert_eq!(cluster.0.seeds, seeds, "{url}");
            assert_eq!(cluster.url_of(&cluster.0.seeds[0]).expose_secret(), first, "{url}");
        };
        check("redis+cluster://a,b:7001, c", &["a:6379", "b:7001", "c:6379"], "redis://a:6379");
        check("redis+cluster://me:pa%40ss@a:7000/0", &["a:7000"], "redis://me:pa%40ss@a:7000");
        check("redis+cluster://[::1],[::1]:7000/", &["[::1]:6379", "[::1]:7000"], "redis://[::1]:6379");
        for bad in ["redis://a", "redis+cluster://", "redis+cluster://a/1", "redis+cluster://a,,b", "redis+cluster://a:x"] {
            assert!(Cluster::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_lies_where_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("{foo}:guard"), slot_of("foo"));
        assert_eq!(slot_of("{}foo"), crc16(b"{}foo") % SLOTS);
    }

    #[test]
    fn a_map_is_read_from_a_server_that_is_well() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let server = |host: &str, port| Value::Array(vec![text(host), Value::Int(port), text("id"), Value::Array(vec![])]);
        let slots = |host| {
            Value::Array(vec![
                Value::Array(vec![Value::Int(0), Value::Int(100), server("a", 1), server("b", 2)]),
                Value::Array(vec![Value::Int(101), Value::Int(16_383), server(host, 3)]),
            ])
        };
        let info = "cluster_state:ok\r\ncluster_current_epoch:7\r\n";
        let map = Map::read(info, slots(""), "c").expect("a map");
        assert_eq!((map.owner(100), map.owner(101), map.epoch), (Some("a:1"), Some("c:3"), 7));
        assert_eq!(map.masters(), ["a:1", "c:3"]);
        assert_eq!(map.servers, ["b:2", "a:1", "c:3"]);
        assert_eq!(Map::read("cluster_state:fail\r\ncluster_current_epoch:7\r\n", slots("c"), "c"), None);
        assert_eq!(Map::read(info, text("?"), "c"), None);
    }
}
