//! A primary, its replicas and three sentinels, as real processes: for what a failover does to a node.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::faulty_link::{FaultyLink, Trouble};
use super::redis_server::{RedisServer, free_port, query};
use super::wait::{until, until_within};

const SENTINELS: usize = 3;
/// Sentinels that could not agree try again only after twice their time-out.
const PROMOTED_WITHIN: Duration = Duration::from_secs(30);

/// A Redis that fails over. Everything is stopped when dropped.
pub struct Sentinels {
    /// The first primary, then its replicas.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    /// What the sentinels and the replicas know the first primary by, where that is not its own port.
    link: Option<FaultyLink>,
}

struct Sentinel {
    port: u16,
    child: Child,
    /// Its configuration, which it writes to.
    _folder: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A primary with so many replicas, all of them connected.
pub async fn replicated(replicas: usize) -> Vec<RedisServer> {
    let primary = tokio::task::block_in_place(RedisServer::start);
    let port = primary.port();
    followed(primary, port, replicas).await
}

/// The replicas reach the primary on this port.
async fn followed(primary: RedisServer, port: u16, replicas: usize) -> Vec<RedisServer> {
    let of = port.to_string();
    let arguments = ["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
    let mut servers = vec![primary];
    let start = || tokio::task::block_in_place(|| RedisServer::start_with(&arguments));
    servers.extend((0..replicas).map(|_| start()));
    for replica in &servers[1..] {
        until_following(replica).await;
    }
    servers
}

async fn until_following(replica: &RedisServer) {
    until("the replica to follow", async || replica.query(&["INFO"]).contains("master_link_status:up").then_some(())).await;
}

impl Sentinels {
    /// Starts all of it; the sentinels know each other and the replicas.
    pub async fn start(replicas: usize) -> Self {
        let servers = replicated(replicas).await;
        let port = servers[0].port();
        Self::watching(servers, port, None, &[]).await
    }

    /// The same, where the sentinels, the replicas and whoever asks the sentinels reach the first primary by a link. Who knows
    /// its own port stays with it when the link is cut.
    pub async fn start_behind_a_link(replicas: usize) -> Self {
        let primary = tokio::task::block_in_place(RedisServer::start);
        let link = FaultyLink::to(primary.port()).await;
        let servers = followed(primary, link.port(), replicas).await;
        let port = link.port();
        Self::watching(servers, port, Some(link), &[]).await
    }

    /// The same without replicas, with these lines more for each sentinel, which are not waited for.
    pub async fn start_with(primary: RedisServer, lines: &[&str]) -> Self {
        let port = primary.port();
        let sentinels = (0..SENTINELS).map(|_| Sentinel::start(port, lines)).collect();
        Self { servers: vec![primary], sentinels, link: None }
    }

    async fn watching(servers: Vec<RedisServer>, port: u16, link: Option<FaultyLink>, lines: &[&str]) -> Self {
        let sentinels: Vec<_> = (0..SENTINELS).map(|_| Sentinel::start(port, lines)).collect();
        let all = Self { servers, sentinels, link };
        let known = [format!("num-slaves\n{}", all.servers.len() - 1), format!("num-other-sentinels\n{}", SENTINELS - 1)];
        for sentinel in &all.sentinels {
            until("the sentinels to know everybody", async || {
                let told = query(sentinel.port, &["SENTINEL", "MASTER", "main"]);
                known.iter().all(|known| told.contains(known)).then_some(())
            })
            .await;
        }
        all
    }

    /// The first primary stands alone with those who know its own port: nothing reaches it by the link, nothing comes back.
    pub fn part(&self) {
        self.link.as_ref().expect("it was started behind a link").trouble(Trouble::Stalled);
    }

    /// Where the sentinels listen.
    pub fn ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|sentinel| sentinel.port).collect()
    }

    /// Kills a sentinel.
    pub fn kill_sentinel(&mut self, number: usize) {
        drop(self.sentinels.remove(number));
    }

    /// Has another primary chosen, though the first one is well; it goes on as a primary for some seconds. Answers the place of
    /// the new one.
    pub async fn fail_over(&self) -> usize {
        until_within(PROMOTED_WITHIN, "the failover to begin", async || {
            (query(self.sentinels[0].port, &["SENTINEL", "FAILOVER", "main"]) == "OK").then_some(())
        })
        .await;
        self.promoted_after(0).await
    }

    /// From now on the replicas get nothing of what the first primary writes, and stay in good health.
    pub async fn cut_replication(&self) {
        for replica in &self.servers[1..] {
            assert_eq!(replica.query(&["CONFIG", "SET", "masterauth", "what-the-primary-does-not-ask-for"]), "OK");
        }
        self.servers[0].query(&["CLIENT", "KILL", "TYPE", "replica"]);
        for replica in &self.servers[1..] {
            let is_cut = async || replica.query(&["INFO"]).contains("master_link_status:down").then_some(());
            until("the replica to be cut off", is_cut).await;
        }
    }

    /// Replicas may follow again.
    pub fn heal_replication(&self) {
        for replica in &self.servers[1..] {
            assert_eq!(replica.query(&["CONFIG", "SET", "masterauth", ""]), "OK");
        }
    }

    /// What an operator does: the first primary, which is dead, comes back as a replica of the new one.
    pub async fn bring_back_as_a_replica_of(&mut self, promoted: usize) {
        let port = self.servers[promoted].port().to_string();
        tokio::task::block_in_place(|| self.servers[0].restart());
        assert_eq!(self.servers[0].query(&["REPLICAOF", "127.0.0.1", &port]), "OK");
        until_following(&self.servers[0]).await;
    }

    /// Where it is, for a node.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// Waits until another server than this one is the primary, and answers its place.
    pub async fn promoted_after(&self, deposed: usize) -> usize {
        until_within(PROMOTED_WITHIN, "a replica to be promoted", async || {
            let others = self.servers.iter().enumerate().filter(|(place, _)| *place != deposed);
            others.map(|(place, server)| (place, server.query(&["INFO"]))).find(|(_, info)| info.contains("role:master"))
        })
        .await
        .0
    }
}

impl Sentinel {
    fn start(primary: u16, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor main 127.0.0.1 {primary} 2"),
            "sentinel down-after-milliseconds main 500".to_owned(),
            "sentinel failover-timeout main 3000".to_owned(),
        ];
        let file = folder.path().join("sentinel.conf");
        let lines: Vec<_> = lines.iter().map(String::as_str).chain(more.iter().copied()).collect();
        std::fs::write(&file, lines.join("\n")).expect("it can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
        Self { port, child: command.spawn().expect("redis-server is installed"), _folder: folder }
    }
}
