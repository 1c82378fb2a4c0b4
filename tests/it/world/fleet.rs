//! Several processes of `rollcall serve` on one Clerk, one Redis and one PostgreSQL. Each has a link of its own to Redis, and
//! each can be killed and started again, or stand still, by its number.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rollcall::dev::{Options, StandIn, World as ClerkWorld};
use rollcall::journal::{self, Filter, Sharing, SqlJournal, State};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use super::answer::Answer;
use super::faulty_link::FaultyLink;
use super::postgres::Postgres;
use super::redis_server::{RedisServer, free_port};
use super::rollcall::hex_digest;
use super::service::{ADMIN_KEY, READ_KEY};
use super::shell::Shell;
use super::wait::{until, until_eq};

/// The processes and what they need. Killed when dropped.
pub struct Fleet {
    pub clerk: StandIn,
    pub http: reqwest::Client,
    /// Whoever does something to it has it alone meanwhile.
    pub redis: Mutex<RedisServer>,
    nodes: Vec<Node>,
    postgres: Postgres,
}

/// One of them.
struct Node {
    url: String,
    link: FaultyLink,
    shell: Shell,
    process: Mutex<Process>,
}

/// A node's process, in the hands of whoever does something to it.
pub struct Process(Child);

impl Fleet {
    /// So many nodes in this world, with these settings more; all are ready and nothing of the history is in doubt.
    pub async fn start(nodes: usize, world: ClerkWorld, settings: &[(&str, &str)]) -> Arc<Self> {
        let clerk = StandIn::start(Options { world, ..Options::default() }).await.expect("Clerk starts");
        let (redis, postgres) = tokio::task::block_in_place(|| (RedisServer::start(), Postgres::start()));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        let redis_port = redis.port();
        let mut fleet = Self { clerk, http, redis: Mutex::new(redis), nodes: Vec::new(), postgres };
        for number in 0..nodes {
            let node = fleet.prepare(redis_port, settings).await;
            fleet.nodes.push(node);
            fleet.until_ready(number).await;
        }
        fleet.until_whole().await;
        Arc::new(fleet)
    }

    async fn prepare(&self, redis_port: u16, settings: &[(&str, &str)]) -> Node {
        let link = FaultyLink::to(redis_port).await;
        let keys = format!("test:read:{},operator:admin:{}", hex_digest(READ_KEY), hex_digest(ADMIN_KEY));
        // A port of its own choice, so that it can come back to it.
        let address = format!("127.0.0.1:{}", free_port());
        let shell = Shell::new()
            .set("CLERK_SECRET_KEY", self.clerk.secret_key())
            .set("CLERK_API_URL", &self.clerk.url())
            .set("CLERK_WEBHOOK_SIGNING_SECRET", &self.clerk.sender().secret())
            .set("DATABASE_URL", &self.postgres.url())
            .set("REDIS_URL", &link.url())
            .set("ROLLCALL_API_KEYS", &keys)
            .set("ROLLCALL_ORIGIN_RATE", "100000")
            .set("ROLLCALL_LISTEN", &address);
        let shell = settings.iter().fold(shell, |shell, (variable, value)| shell.set(variable, value));
        let process = Mutex::new(Process(spawn(&shell)));
        Node { url: format!("http://{address}"), link, shell, process }
    }

    /// Where they are.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    /// The link of a node.
    pub fn link(&self, number: usize) -> &FaultyLink {
        &self.nodes[number].link
    }

    /// The process of a node, for whoever does something to it; the next one waits.
    pub async fn process(&self, number: usize) -> MutexGuard<'_, Process> {
        self.nodes[number].process.lock().await
    }

    /// Starts a node again in the same folder, on the same port, and waits for nothing.
    pub fn start_again(&self, number: usize, process: &mut Process) {
        process.kill();
        process.0 = spawn(&self.nodes[number].shell);
    }

    async fn until_ready(&self, number: usize) {
        until(&format!("node {number} is ready"), async || {
            let request = self.http.get(format!("{}/readyz", self.nodes[number].url)).bearer_auth(ADMIN_KEY);
            let answer = Answer::of(request.send().await.ok()?).await.ok()?;
            (answer.json()["status"] == "ready").then_some(())
        })
        .await;
    }

    async fn until_whole(&self) {
        let redis = self.redis.lock().await;
        let whole = || redis.query(&["HGET", "{user-orgs:~changes}:history", "whole"]);
        until_eq("the history is whole", "1".to_owned(), whole).await;
    }

    /// Waits until every node is ready, nothing of the history is in doubt and no message is open.
    pub async fn until_healed(&self) {
        for number in 0..self.nodes.len() {
            self.until_ready(number).await;
        }
        self.until_whole().await;
        let settings = journal::Settings { url: self.postgres.url().into(), io: Handle::current() };
        let journal = SqlJournal::open(settings, Sharing::Operator).await.expect("a journal");
        let open = Filter { states: vec![State::Pending, State::Buried], ..Filter::default() };
        until("no row to be open or buried", async || {
            journal.list(&open, 1).await.expect("it can be read").is_empty().then_some(())
        })
        .await;
        journal.close().await;
    }

    /// The last lines of every node's log.
    pub fn logs(&self) -> String {
        let log = |(number, node): (usize, &Node)| {
            let text = std::fs::read_to_string(node.shell.folder().join("log")).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            format!("node {number}:\n{}\n", lines[lines.len().saturating_sub(60)..].join("\n"))
        };
        self.nodes.iter().enumerate().map(log).collect()
    }
}

impl Process {
    /// Kills it (SIGKILL) in the middle of whatever it does. It is gone.
    pub fn kill(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): its connections stay, nothing is answered.
    pub fn stand_still(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().expect("kill is installed");
        assert!(sent.success(), "{signal}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Every start goes on with the same log.
fn spawn(shell: &Shell) -> Child {
    let log = File::options().create(true).append(true).open(shell.folder().join("log")).expect("a log");
    shell.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().expect("the binary starts")
}
