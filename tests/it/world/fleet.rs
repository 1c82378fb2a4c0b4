//! Several processes of `rollcall serve` on one Clerk, one Redis and one PostgreSQL. Each has links of its own to Redis and to
//! its journal, and each can be killed and started again, or stand still, by its number. Who ends by itself is started again,
//! as by whoever runs services: a start that finds no journal ends at once.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use rollcall::dev::{Options, StandIn, World as ClerkWorld};
use rollcall::journal::{self, Filter, Sharing, SqlJournal, State};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client::client;
use super::faulty_link::FaultyLink;
use super::postgres::Postgres;
use super::redis_server::{RedisServer, free_port};
use super::rollcall::hex_digest;
use super::service::{ADMIN_KEY, READ_KEY};
use super::shell::Shell;
use super::wait::until_within;

/// Who was killed while it put a lost history back keeps the right to do so for 10 s; and a machine may be busy.
const HEALS_WITHIN: Duration = Duration::from_secs(30);

/// How a start ends that finds something missing.
const FAILED: i32 = 1;
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const STARTS_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The processes and what they need. Killed when dropped.
pub struct Fleet {
    pub clerk: StandIn,
    pub http: reqwest::Client,
    /// Whoever does something to it has it alone meanwhile.
    pub redis: Mutex<RedisServer>,
    nodes: Vec<Node>,
    postgres: Postgres,
    /// How often a process ended by itself.
    ended: AtomicUsize,
    /// Who starts them again. It ends early where it found one that ended as none should.
    keeper: OnceLock<JoinHandle<()>>,
}

/// One of them.
struct Node {
    url: String,
    link: FaultyLink,
    journal_link: FaultyLink,
    shell: Shell,
    process: Mutex<Process>,
}

/// A node's process, in the hands of whoever does something to it.
pub struct Process(Child);

impl Fleet {
    /// So many nodes in this world, with these settings more; all are ready and nothing of the history is in doubt.
    pub async fn start(nodes: usize, world: ClerkWorld, settings: &[(&str, &str)]) -> Arc<Self> {
        let redis = tokio::task::block_in_place(|| RedisServer::start_with_a_clock(&[]));
        Self::start_on(redis, nodes, world, settings).await
    }

    /// The same on this Redis. Where the settings name another `REDIS_URL`, no node's link is in use.
    pub async fn start_on(redis: RedisServer, nodes: usize, world: ClerkWorld, settings: &[(&str, &str)]) -> Arc<Self> {
        let clerk = StandIn::start(Options { world, ..Options::default() }).await.expect("Clerk starts");
        let postgres = tokio::task::block_in_place(Postgres::start_without_a_disk);
        let http = client();
        let redis_port = redis.port();
        let mut fleet = Self {
            clerk,
            http,
            redis: Mutex::new(redis),
            nodes: Vec::new(),
            postgres,
            ended: AtomicUsize::new(0),
            keeper: OnceLock::new(),
        };
        for number in 0..nodes {
            let node = fleet.prepare(redis_port, settings).await;
            fleet.nodes.push(node);
            if number == 0 {
                // It makes the tables, and begins the history; the others can start beside each other.
                fleet.until_ready(0).await;
                fleet.until_whole().await;
            }
        }
        for number in 1..nodes {
            fleet.until_ready(number).await;
        }
        let fleet = Arc::new(fleet);
        let keeper = tokio::spawn(keep_up(Arc::downgrade(&fleet)));
        assert!(fleet.keeper.set(keeper).is_ok(), "one is enough");
        fleet
    }

    /// How often a process ended by itself, and was started again.
    pub fn ended_by_themselves(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    async fn prepare(&self, redis_port: u16, settings: &[(&str, &str)]) -> Node {
        let link = FaultyLink::to(redis_port).await;
        let journal_link = FaultyLink::to(self.postgres.port()).await;
        let keys = format!("test:read:{},operator:admin:{}", hex_digest(READ_KEY), hex_digest(ADMIN_KEY));
        // A port of its own choice, so that it can come back to it.
        let address = format!("127.0.0.1:{}", free_port());
        let shell = Shell::new()
            .set("CLERK_SECRET_KEY", self.clerk.secret_key())
            .set("CLERK_API_URL", &self.clerk.url())
            .set("CLERK_WEBHOOK_SIGNING_SECRET", &self.clerk.sender().secret())
            .set("DATABASE_URL", &self.postgres.url_at(journal_link.port()))
            .set("REDIS_URL", &link.url())
            .set("ROLLCALL_API_KEYS", &keys)
            .set("ROLLCALL_ORIGIN_RATE", "100000")
            .set("ROLLCALL_LISTEN", &address);
        let shell = settings.iter().fold(shell, |shell, (variable, value)| shell.set(variable, value));
        let process = Mutex::new(Process(spawn(&shell)));
        Node { url: format!("http://{address}"), link, journal_link, shell, process }
    }

    /// Where they are.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    /// The link of a node to Redis.
    pub fn link(&self, number: usize) -> &FaultyLink {
        &self.nodes[number].link
    }

    /// The link of a node to its journal.
    pub fn journal_link(&self, number: usize) -> &FaultyLink {
        &self.nodes[number].journal_link
    }

    /// The process of a node, for whoever does something to it; the next one waits.
    pub async fn process(&self, number: usize) -> MutexGuard<'_, Process> {
        self.nodes[number].process.lock().await
    }

    /// Starts a node again in the same folder, on the same port, and waits for nothing.
    pub fn start_again(&self, number: usize, process: &mut Process) {
        process.end();
        process.0 = spawn(&self.nodes[number].shell);
    }

    async fn until_ready(&self, number: usize) {
        let deadline = Instant::now() + HEALS_WITHIN;
        loop {
            let told = self.told(number).await.unwrap_or_else(|error| format!("{error:#}"));
            if told.contains("\"status\":\"ready\"") {
                return;
            }
            assert!(Instant::now() < deadline, "node {number} is not ready: {told}\n{}", self.logs());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What a node says of itself.
    async fn told(&self, number: usize) -> anyhow::Result<String> {
        let request = self.http.get(format!("{}/readyz", self.nodes[number].url)).bearer_auth(ADMIN_KEY);
        Ok(request.send().await?.text().await?)
    }

    async fn until_whole(&self) {
        let redis = self.redis.lock().await;
        until_within(HEALS_WITHIN, "the history is whole", async || {
            (redis.query(&["HGET", "{user-orgs:~changes}:history", "whole"]) == "1").then_some(())
        })
        .await;
    }

    /// Waits until every node is ready, nothing of the history is in doubt and no message is open. Answers how long each took.
    pub async fn until_healed(&self) -> [Duration; 3] {
        let began = Instant::now();
        let is_kept_up = || self.keeper.get().is_some_and(|keeper| !keeper.is_finished());
        assert!(is_kept_up(), "a process did not end in an orderly way: {}", self.logs());
        for number in 0..self.nodes.len() {
            self.until_ready(number).await;
        }
        let ready = began.elapsed();
        self.until_whole().await;
        let whole = began.elapsed();
        let settings = journal::Settings { url: self.postgres.url().into(), io: Handle::current() };
        let journal = SqlJournal::open(settings, Sharing::Operator).await.expect("a journal");
        let open = Filter { states: vec![State::Pending, State::Buried], ..Filter::default() };
        until_within(HEALS_WITHIN, "no row to be open or buried", async || {
            journal.list(&open, 1).await.expect("it can be read").is_empty().then_some(())
        })
        .await;
        journal.close().await;
        assert!(is_kept_up(), "a process did not end in an orderly way: {}", self.logs());
        self.expect_no_panic();
        [ready, whole, began.elapsed()]
    }

    /// No thread of a process panicked, ever: who lives on after it would not show it otherwise.
    fn expect_no_panic(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let log = std::fs::read(node.shell.folder().join("log")).expect("a log");
            let log = String::from_utf8_lossy(&log);
            let panicked: Vec<_> = log.lines().filter(|line| line.contains("panicked")).take(5).collect();
            assert!(panicked.is_empty(), "node {number}: {}", panicked.join("\n"));
        }
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

/// Starts again who ended by itself. Whoever does something to a node has it alone, and knows.
async fn keep_up(fleet: Weak<Fleet>) {
    while let Some(fleet) = fleet.upgrade() {
        for (number, node) in fleet.nodes.iter().enumerate() {
            let Ok(mut process) = node.process.try_lock() else { continue };
            if let Some(status) = process.0.try_wait().expect("a child") {
                assert_eq!(status.code(), Some(FAILED), "node {number} did not end in an orderly way: {}", fleet.logs());
                fleet.ended.fetch_add(1, Ordering::Relaxed);
                fleet.start_again(number, &mut process);
            }
        }
        drop(fleet);
        sleep(STARTS_AGAIN_AFTER).await;
    }
}

impl Process {
    /// Kills it (SIGKILL) in the middle of whatever it does. It is gone; before that it was alive, or ended in an orderly way.
    pub fn kill(&mut self) {
        let ended = self.0.try_wait().expect("a child");
        assert!(ended.is_none_or(|status| status.code() == Some(FAILED)), "it did not end in an orderly way: {ended:?}");
        self.end();
    }

    fn end(&mut self) {
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
        self.end();
    }
}

/// Every start goes on with the same log.
fn spawn(shell: &Shell) -> Child {
    let log = File::options().create(true).append(true).open(shell.folder().join("log")).expect("a log");
    shell.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().expect("the binary starts")
}
