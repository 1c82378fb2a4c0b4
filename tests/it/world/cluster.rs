//! A Redis Cluster of real processes: masters, perhaps a replica of each, and slots that move step by step.

use std::path::PathBuf;
use std::time::Duration;

use super::redis_server::{RedisServer, free_port, query};
use super::wait::{until, until_within};

const SLOTS: usize = 16_384;
const STREAM: &str = "user-orgs:~changes";
pub const MASTERS: usize = 3;
/// After how long a server that does not answer is held to be gone, and one that reaches no majority holds itself for that.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(1);
/// A replica that was not voted for tries again only after four times that.
const PROMOTED_WITHIN: Duration = Duration::from_secs(30);

/// Three masters, which share the slots in equal parts. Everything is stopped when dropped.
pub struct Cluster {
    /// The masters, then the replica of each; one may be in the hands of the world.
    pub servers: Vec<Option<RedisServer>>,
    ports: Vec<u16>,
}

impl Cluster {
    /// Starts redis-servers, so many replicas of each master, and waits until all hold the cluster to be well.
    pub async fn start(replicas: usize) -> Self {
        Self::start_program("redis-server".into(), replicas).await
    }

    /// The same of another program.
    pub async fn start_program(program: PathBuf, replicas: usize) -> Self {
        Self::start_each(program, replicas, |_| vec!["--cluster-port".to_owned(), free_port().to_string()]).await
    }

    /// The same, each with these arguments more; they name the port of its bus.
    pub async fn start_each(program: PathBuf, replicas: usize, more: impl Fn(usize) -> Vec<String>) -> Self {
        let start = |arguments: &[&str]| RedisServer::start_program(program.clone(), arguments);
        let cluster = Self::launch(replicas, more, start);
        cluster.form().await;
        cluster
    }

    /// The clock of the master that has the stream is so far ahead of the others'.
    pub async fn start_apart(ms: i64) -> Self {
        let bus = |_| vec!["--cluster-port".to_owned(), free_port().to_string()];
        let mut cluster = Self::launch(0, bus, RedisServer::start_with_a_clock);
        let stream = cluster.first_owner(STREAM);
        let server = cluster.servers[stream].as_mut().expect("it is here");
        server.step_clock(ms);
        // It waits a while after its start, by this clock.
        server.restart();
        cluster.form().await;
        cluster
    }

    /// Servers that do not know each other yet.
    fn launch(replicas: usize, more: impl Fn(usize) -> Vec<String>, start: impl Fn(&[&str]) -> RedisServer) -> Self {
        let node_timeout = NODE_TIMEOUT.as_millis().to_string();
        let launch = |number| {
            let arguments = [
                ["--cluster-enabled", "yes"],
                ["--cluster-config-file", "nodes.conf"],
                ["--cluster-node-timeout", &node_timeout],
                ["--repl-diskless-sync-delay", "0"],
                ["--cluster-replica-validity-factor", "0"],
            ];
            let more = more(number);
            let more: Vec<_> = more.iter().map(String::as_str).collect();
            start(&[arguments.as_flattened(), &more].concat())
        };
        let servers: Vec<_> = (0..MASTERS * (1 + replicas)).map(launch).collect();
        let ports = servers.iter().map(RedisServer::port).collect();
        Self { servers: servers.into_iter().map(Some).collect(), ports }
    }

    async fn form(&self) {
        for (number, port) in self.ports.iter().enumerate() {
            assert_eq!(query(*port, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]), "OK");
        }
        let (first, port, bus) = (query(self.ports[0], &["CLUSTER", "MYID"]), self.ports[0].to_string(), self.bus(0));
        // On a busy machine they may not meet in time, and then they never do.
        until("all servers to know the first", async || {
            let is_stranger = |port: &&u16| !query(**port, &["CLUSTER", "NODES"]).contains(&first);
            let strangers: Vec<_> = self.ports.iter().filter(is_stranger).collect();
            for stranger in &strangers {
                assert_eq!(query(**stranger, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "OK");
            }
            strangers.is_empty().then_some(())
        })
        .await;
        for (number, port) in self.ports[..MASTERS].iter().enumerate() {
            let bounds = [number, number + 1].map(|part| part * SLOTS / MASTERS);
            let (first, last) = (bounds[0].to_string(), (bounds[1] - 1).to_string());
            assert_eq!(query(*port, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]), "OK");
        }
        self.until_well().await;
        let ids: Vec<_> = self.ports.iter().map(|port| query(*port, &["CLUSTER", "MYID"])).collect();
        for (number, port) in self.ports.iter().enumerate().skip(MASTERS) {
            until("a master to be known to its replica", async || {
                (query(*port, &["CLUSTER", "REPLICATE", &ids[number % MASTERS]]) == "OK").then_some(())
            })
            .await;
        }
        for port in &self.ports[MASTERS..] {
            until("the replica to follow", async || query(*port, &["INFO"]).contains("master_link_status:up").then_some(()))
                .await;
        }
        let replicas = self.ports.len() - MASTERS;
        for port in &self.ports {
            until("everybody to know the replicas", async || {
                (query(*port, &["CLUSTER", "NODES"]).matches(" slave ").count()
                    + query(*port, &["CLUSTER", "NODES"]).matches("myself,slave").count()
                    == replicas)
                    .then_some(())
            })
            .await;
        }
    }

    /// Waits until every server that answers knows all others and holds the cluster to be well.
    pub async fn until_well(&self) {
        let known = format!("cluster_known_nodes:{}", self.ports.len());
        for port in &self.ports {
            until("the cluster to be well", async || {
                let info = query(*port, &["CLUSTER", "INFO"]);
                (info.contains("cluster_state:ok") && info.contains(&known)).then_some(())
            })
            .await;
        }
    }

    fn bus(&self, number: usize) -> String {
        let nodes = query(self.ports[number], &["CLUSTER", "NODES"]);
        let mine = nodes.lines().find(|line| line.contains("myself")).expect("itself");
        mine.split(['@', ',', ' ']).nth(2).expect("a port of the bus").to_owned()
    }

    /// Where it is, for a node.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// The same, by another name of this machine.
    pub fn url_at(&self, host: &str) -> String {
        let hosts: Vec<_> = self.ports[..MASTERS].iter().map(|port| format!("{host}:{port}")).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Where a server listens.
    pub fn port(&self, number: usize) -> u16 {
        self.ports[number]
    }

    /// Which slot a key lies in.
    pub fn slot(&self, key: &str) -> String {
        query(self.ports[0], &["CLUSTER", "KEYSLOT", key])
    }

    /// Which master has a key in the beginning.
    pub fn first_owner(&self, key: &str) -> usize {
        let slot: usize = self.slot(key).parse().expect("a slot");
        (0..MASTERS).find(|number| slot < (number + 1) * SLOTS / MASTERS).expect("a master")
    }

    /// Where every server listens.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The only replica of a master.
    pub fn replica_of(&self, master: usize) -> usize {
        MASTERS + master
    }

    /// From now on this replica gets nothing of what its master writes, and stays in good health.
    pub async fn cut_replication(&self, replica: usize) {
        let (port, master) = (self.ports[replica], self.ports[replica % MASTERS]);
        assert_eq!(query(port, &["CONFIG", "SET", "masterauth", "what-the-master-does-not-ask-for"]), "OK");
        query(master, &["CLIENT", "KILL", "TYPE", "replica"]);
        let is_cut = async || query(port, &["INFO"]).contains("master_link_status:down").then_some(());
        until("the replica to be cut off", is_cut).await;
    }

    /// It may follow again.
    pub fn heal_replication(&self, replica: usize) {
        assert_eq!(query(self.ports[replica], &["CONFIG", "SET", "masterauth", ""]), "OK");
    }

    /// Waits until this replica is a master.
    pub async fn until_promoted(&self, replica: usize) {
        let port = self.ports[replica];
        let is_promoted = async || query(port, &["INFO"]).contains("role:master").then_some(());
        until_within(PROMOTED_WITHIN, "the replica to be promoted", is_promoted).await;
    }

    /// Kills a server.
    pub fn kill(&mut self, number: usize) {
        self.servers[number].as_mut().expect("it is here").kill();
    }

    /// Starts it again; it knows which cluster it belongs to.
    pub fn restart(&mut self, number: usize) {
        self.servers[number].as_mut().expect("it is here").restart();
    }

    /// The master of the change stream, into other hands.
    pub fn take_stream_master(&mut self) -> RedisServer {
        let number = self.first_owner(STREAM);
        self.servers[number].take().expect("it is here")
    }

    /// A slot begins to move: its keys are where they were until they are moved.
    pub fn begin_move(&self, slot: &str, from: usize, to: usize) {
        let id = |number: usize| query(self.ports[number], &["CLUSTER", "MYID"]);
        assert_eq!(query(self.ports[to], &["CLUSTER", "SETSLOT", slot, "IMPORTING", &id(from)]), "OK");
        assert_eq!(query(self.ports[from], &["CLUSTER", "SETSLOT", slot, "MIGRATING", &id(to)]), "OK");
    }

    /// Moves these keys.
    pub fn move_keys(&self, keys: &[&str], from: usize, to: usize) {
        let port = self.ports[to].to_string();
        let words = [&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"], keys].concat();
        let moved = query(self.ports[from], &words);
        assert!(["OK", "NOKEY"].contains(&moved.as_str()), "{moved}");
    }

    /// Moves what is left, and everybody is told.
    pub fn end_move(&self, slot: &str, from: usize, to: usize) {
        loop {
            let keys = query(self.ports[from], &["CLUSTER", "GETKEYSINSLOT", slot, "100"]);
            let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            self.move_keys(&keys, from, to);
        }
        let id = query(self.ports[to], &["CLUSTER", "MYID"]);
        for number in [to, from].into_iter().chain((0..MASTERS).filter(|number| ![from, to].contains(number))) {
            assert_eq!(query(self.ports[number], &["CLUSTER", "SETSLOT", slot, "NODE", &id]), "OK");
        }
    }

    /// Answers of any master to a command about a key that it has.
    pub fn query_owner(&self, command: &[&str]) -> String {
        let answers = self.ports.iter().map(|port| query(*port, command));
        answers.into_iter().find(|answer| !answer.starts_with("MOVED") && !answer.is_empty()).unwrap_or_default()
    }

    /// Waits until nothing of the stream's history is in doubt, wherever the stream is.
    pub async fn until_whole(&self) {
        until("the history is whole", async || {
            let whole = self.query_owner(&["HGET", "{user-orgs:~changes}:history", "whole"]);
            (whole == "1").then_some(())
        })
        .await;
    }
}
