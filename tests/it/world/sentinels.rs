//! A primary, its replicas and three sentinels, as real processes: for what a failover does to a node.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::redis_server::{RedisServer, free_port};
use super::wait::until;

const SENTINELS: usize = 3;

/// A Redis that fails over. Everything is stopped when dropped.
pub struct Sentinels {
    /// The first primary, then its replicas.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
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
    let primary = RedisServer::start();
    let of = primary.port().to_string();
    let arguments = ["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
    let mut servers = vec![primary];
    servers.extend((0..replicas).map(|_| RedisServer::start_with(&arguments)));
    for replica in &servers[1..] {
        until("the replica to follow", async || replica.query(&["INFO"]).contains("master_link_status:up").then_some(())).await;
    }
    servers
}

impl Sentinels {
    /// Starts all of it; the sentinels know each other and the replicas.
    pub async fn start(replicas: usize) -> Self {
        let servers = replicated(replicas).await;
        let sentinels: Vec<_> = (0..SENTINELS).map(|_| Sentinel::start(servers[0].port())).collect();
        let all = Self { servers, sentinels };
        let known = [format!("num-slaves\n{replicas}"), format!("num-other-sentinels\n{}", SENTINELS - 1)];
        for sentinel in &all.sentinels {
            until("the sentinels to know everybody", async || {
                let told = super::redis_server::query(sentinel.port, &["SENTINEL", "MASTER", "main"]);
                known.iter().all(|known| told.contains(known)).then_some(())
            })
            .await;
        }
        all
    }

    /// Where it is, for a node.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// Waits until another server than this one is the primary, and answers its place.
    pub async fn promoted_after(&self, deposed: usize) -> usize {
        until("a replica to be promoted", async || {
            let others = self.servers.iter().enumerate().filter(|(place, _)| *place != deposed);
            others.map(|(place, server)| (place, server.query(&["INFO"]))).find(|(_, info)| info.contains("role:master"))
        })
        .await
        .0
    }
}

impl Sentinel {
    fn start(primary: u16) -> Self {
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
        std::fs::write(&file, lines.join("\n")).expect("it can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
        Self { port, child: command.spawn().expect("redis-server is installed"), _folder: folder }
    }
}
