//! The service of a test: our own app on free ports, a Clerk stand-in over HTTP, and a real Redis where one is asked for.
//!
//! Faults are things done to the world (`world.redis().pause()`, `world.clerk.faults()…`), never scripts of expected calls.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rollcall::app;
use rollcall::config::{Config, TokenKeys, Tokens};
use rollcall::dev::{Delivery, Done, Options, StandIn, World as ClerkWorld, WorldError};
use rollcall::http::TimedFor;
use rollcall::http::auth::{Scope, ServiceKey};
use rollcall::ingest::{Keep, SweepPace};
use rollcall::journal::{self, Sharing, SqlJournal};
use rollcall::protocol::freshness::{Bounds, Consistency};
use rollcall::token::Policy;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::client::client;
use super::postgres::Postgres;
use super::redis_server::RedisServer;
use super::witness::Witness;

/// Keys that every node of a test knows.
pub const READ_KEY: &str = "rk_read_read_read_read_read_read_read_read_read_re";
pub const EVICT_KEY: &str = "rk_evict_evict_evict_evict_evict_evict_evict_evict";
pub const ADMIN_KEY: &str = "rk_admin_admin_admin_admin_admin_admin_admin_admin";

/// How a test's service is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// One process without Redis.
    Alone,
    /// So many nodes on one Redis.
    Redis(usize),
    /// None yet: the test has a Redis of its own, and adds nodes to it.
    Bare,
}

/// Where a test's journal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Database {
    /// A file.
    #[default]
    Sqlite,
    /// A server.
    Postgres,
}

/// What a test starts with.
pub struct Setup {
    /// Where the journal is.
    pub database: Database,
    /// What the journal keeps of bodies.
    pub keep: Keep,
    /// Who is at Clerk.
    pub clerk: ClerkWorld,
    /// Limits of every node.
    pub bounds: Bounds,
    /// Bytes of each local tier.
    pub local_bytes_max: u64,
    /// Origin requests per 10 s of all nodes together.
    pub origin_rate: u32,
    /// Secrets that may sign webhooks beside Clerk's own.
    pub more_webhook_secrets: Vec<String>,
    /// How fast every node looks for what no webhook told.
    pub sweep: SweepPace,
    /// The server of a deployment on Redis; none: a redis-server of its own.
    pub redis: Option<RedisServer>,
    /// Where the nodes find it; none: at its own address.
    pub redis_url: Option<String>,
    /// What the nodes promise.
    pub consistency: Consistency,
}

/// The small world, the default limits, and a budget that does not get in the way.
impl Default for Setup {
    fn default() -> Self {
        let bounds = Bounds {
            staleness: Duration::from_secs(1),
            ttl: Duration::from_secs(300),
            grace: Duration::from_secs(600),
            local_age_max: Duration::from_secs(60),
        };
        Self {
            database: Database::default(),
            keep: Keep::Minimal,
            clerk: ClerkWorld::small(),
            bounds,
            local_bytes_max: 64 << 20,
            origin_rate: 1_000_000,
            more_webhook_secrets: Vec::new(),
            sweep: SweepPace::default(),
            redis: None,
            redis_url: None,
            consistency: Consistency::Bounded,
        }
    }
}

/// Everything that a test has.
pub struct World {
    pub clerk: StandIn,
    pub nodes: Vec<Node>,
    pub http: reqwest::Client,
    /// The nodes' own where it is a file; else one beside theirs.
    pub journal: Arc<SqlJournal>,
    redis: Option<RedisServer>,
    postgres: Option<Postgres>,
    config: Config,
    /// Holds the journal's file; gone when dropped.
    folder: TempDir,
    /// Of the nodes that are added from now on.
    pub sweep: SweepPace,
    /// Notes everything, where one was called.
    pub(super) witness: Option<Witness>,
}

/// One node of the service.
pub struct Node {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Runs a test in a world of this deployment, within a minute, and stops everything.
pub async fn run_test(deployment: Deployment, setup: Setup, test: impl AsyncFnOnce(&mut World) -> anyhow::Result<()>) {
    run_test_within(Duration::from_secs(60), deployment, setup, test).await;
}

/// The same within another limit.
pub async fn run_test_within(
    limit: Duration,
    deployment: Deployment,
    setup: Setup,
    test: impl AsyncFnOnce(&mut World) -> anyhow::Result<()>,
) {
    let mut world = World::start(deployment, setup).await;
    let result = tokio::time::timeout(limit, test(&mut world)).await;
    world.stop().await;
    result.expect("the test takes too long").expect("the test fails");
}

/// Runs a test alone and on Redis with one node: what is promised is promised of both.
pub async fn run_on_both(setup: impl Fn() -> Setup, test: impl AsyncFn(&mut World) -> anyhow::Result<()>) {
    for deployment in [Deployment::Alone, Deployment::Redis(1)] {
        println!("deployment: {deployment:?}");
        run_test(deployment, setup(), &test).await;
    }
}

/// The same, both at once: for tests that wait for time to pass.
pub async fn run_on_both_at_once(setup: impl Fn() -> Setup, test: impl AsyncFn(&mut World) -> anyhow::Result<()>) {
    tokio::join!(run_test(Deployment::Alone, setup(), &test), run_test(Deployment::Redis(1), setup(), &test));
}

impl World {
    /// Starts Clerk, Redis and the nodes; every node is ready.
    pub async fn start(deployment: Deployment, setup: Setup) -> Self {
        let clerk = StandIn::start(Options { world: setup.clerk, retry_factor: 0.001, ..Options::default() })
            .await
            .expect("Clerk starts");
        let (redis, count) = match deployment {
            Deployment::Alone => (None, 1),
            Deployment::Bare => (None, 0),
            Deployment::Redis(nodes) => (Some(setup.redis.unwrap_or_else(RedisServer::start)), nodes),
        };
        let folder = tempfile::tempdir().expect("a folder");
        let postgres = (setup.database == Database::Postgres).then(Postgres::start);
        let database_url: SecretString = match &postgres {
            Some(postgres) => postgres.url().into(),
            None => format!("sqlite://{}", folder.path().join("rollcall.db").display()).into(),
        };
        let settings = journal::Settings { url: database_url.clone(), io: Handle::current() };
        // In Postgres the nodes have it, each by itself, and the test only looks.
        let sharing = if postgres.is_some() { Sharing::Operator } else { Sharing::Alone };
        SqlJournal::migrate(settings.clone()).await.expect("a journal of this form");
        let journal = Arc::new(SqlJournal::open(settings, sharing).await.expect("a journal"));
        let config = Config {
            database_url,
            journal_retention: Duration::from_secs(30 * 24 * 3600),
            journal_keep: setup.keep,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics_listen: None,
            clerk_secret_key: clerk.secret_key().to_owned().into(),
            clerk_api_url: clerk.url(),
            webhook_secrets: [vec![clerk.sender().secret()], setup.more_webhook_secrets]
                .concat()
                .into_iter()
                .map(Into::into)
                .collect(),
            tokens: Tokens {
                keys: TokenKeys::Published(clerk.url()),
                policy: Policy { issuer: Some(clerk.issuer().to_owned()), ..Policy::default() },
                is_cookie_read: false,
            },
            redis_replicas: 0,
            consistency: setup.consistency,
            redis_url: redis.as_ref().map(|redis| setup.redis_url.unwrap_or_else(|| redis.url()).into()),
            key_prefix: "user-orgs:".to_owned(),
            api_keys: vec![
                key("read", Scope::Read, READ_KEY),
                key("evict", Scope::Evict, EVICT_KEY),
                key("admin", Scope::Admin, ADMIN_KEY),
            ],
            bounds: setup.bounds,
            local_bytes_max: setup.local_bytes_max,
            origin_rate: setup.origin_rate,
            timed_for: TimedFor::Nobody,
            shutdown_delay: Duration::ZERO,
            is_description_open: false,
            sweep: setup.sweep,
        };
        let http = client();
        let (nodes, sweep) = (Vec::new(), setup.sweep);
        let mut world = Self { clerk, nodes, http, journal, redis, postgres, config, folder, sweep, witness: None };
        for _ in 0..count {
            world.add_node().await;
        }
        // A new Redis is a lost history until the first node has looked through the journal: what comes before may be applied twice.
        if let (Some(redis), Consistency::Bounded) = (&world.redis, setup.consistency) {
            let whole = || redis.query(&["HGET", "{user-orgs:~changes}:history", "whole"]);
            super::wait::until_eq("the history is whole", "1".to_owned(), whole).await;
        }
        let endpoints = world.nodes.iter().map(Node::webhooks).collect();
        world.clerk.sender().set_endpoints(endpoints);
        world.clerk.calls().reset();
        world
    }

    /// Every node there is ends as if told to.
    pub async fn stop_nodes(&mut self) {
        for node in self.nodes.drain(..) {
            node.stop().await;
        }
    }

    /// One more node; it is ready.
    pub async fn add_node(&mut self) {
        self.add_node_with(|_| {}).await;
    }

    /// One more node, configured in another way; it is ready.
    pub async fn add_node_with(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config { sweep: self.sweep, ..self.config.clone() };
        change(&mut config);
        // Postgres is every node's own to connect to; a file is one process's, and these nodes are one process.
        let journal = self.postgres.is_none().then(|| self.journal.clone());
        let node = Node::start(config, journal).await;
        self.nodes.push(node);
        self.until_ready(self.nodes.len() - 1).await;
    }

    /// One more node, on this Redis, waiting for so many of its replicas; it may take its time to be ready.
    pub async fn start_node_on(&mut self, redis_url: &str, replicas: u32) {
        let config = Config {
            sweep: self.sweep,
            redis_url: Some(redis_url.to_owned().into()),
            redis_replicas: replicas,
            ..self.config.clone()
        };
        let journal = self.postgres.is_none().then(|| self.journal.clone());
        self.nodes.push(Node::start(config, journal).await);
    }

    /// The same; it is ready.
    pub async fn add_node_on(&mut self, redis_url: &str, replicas: u32) {
        self.start_node_on(redis_url, replicas).await;
        self.until_ready(self.nodes.len() - 1).await;
    }

    /// Waits until a node says that it is ready.
    pub async fn until_ready(&self, number: usize) {
        super::wait::until("the node is ready", async || {
            let answer = self.ask(number, "/readyz").await.ok()?;
            (answer.json()["status"] == "ready").then_some(())
        })
        .await;
    }

    /// The limits of every node.
    pub fn bounds(&self) -> Bounds {
        self.config.bounds
    }

    /// The file of the journal.
    pub fn journal_file(&self) -> PathBuf {
        self.folder.path().join("rollcall.db")
    }

    /// The Redis of this world, from now on in the test's own hands.
    pub fn take_redis(&mut self) -> RedisServer {
        self.redis.take().expect("this deployment has a Redis")
    }

    /// The Redis of this world.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("this deployment has a Redis")
    }

    /// The same, to look at it, or to stop and go on, while others look too.
    pub fn redis_ref(&self) -> &RedisServer {
        self.redis.as_ref().expect("this deployment has a Redis")
    }

    /// The PostgreSQL of this world.
    pub fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("this world's journal is in PostgreSQL")
    }

    /// Where the journal's file is, if it is one.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How every node is configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Asks node `number` with the read key.
    pub async fn ask(&self, number: usize, path: &str) -> anyhow::Result<Answer> {
        self.ask_with(number, path, &[]).await
    }

    /// Asks with more headers.
    pub async fn ask_with(&self, number: usize, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        Ok(self.asking(number, path, headers).await?.lawful())
    }

    /// The list of a user, asked of the first node.
    pub async fn list(&self, user: &str) -> anyhow::Result<Answer> {
        self.ask(0, &format!("/v1/users/{user}/orgs")).await
    }

    /// One membership, asked of the first node.
    pub async fn check(&self, user: &str, organization: &str) -> anyhow::Result<Answer> {
        self.ask(0, &format!("/v1/users/{user}/orgs/{organization}")).await
    }

    /// Changes the world of Clerk; answers what Clerk would send, unsent.
    pub fn change(&self, verb: impl FnOnce(&mut ClerkWorld) -> Result<Done, WorldError>) -> Done {
        let mut clerk = self.clerk.world().lock();
        let began = Instant::now();
        let done = verb(&mut clerk).expect("the world allows it");
        if let Some(witness) = &self.witness {
            witness.saw_a_change(began, &clerk, &done);
        }
        done
    }

    /// Sends the messages of a change to node `number`, each once.
    pub async fn deliver_to(&self, number: usize, done: &Done) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for message in &done.messages {
            deliveries.push(self.clerk.sender().deliver_now(message, &self.nodes[number].webhooks()).await);
        }
        if let Some(witness) = self.witness.as_ref().filter(|_| deliveries.iter().all(Delivery::is_taken)) {
            witness.saw_it_taken(done);
        }
        deliveries
    }

    /// Sends the messages of a change to the first node until every one is taken.
    pub async fn deliver(&self, done: &Done) {
        self.deliver_until_taken(0, done).await;
    }

    /// The same to node `number`; how each was taken. 503 is an answer too, where Redis or a database took too long.
    pub async fn deliver_until_taken(&self, number: usize, done: &Done) -> Vec<Delivery> {
        super::wait::until("the messages to be taken", async || {
            let deliveries = self.deliver_to(number, done).await;
            assert!(deliveries.iter().all(|delivery| [Some(204), Some(503)].contains(&delivery.status)), "{deliveries:?}");
            deliveries.iter().all(Delivery::is_taken).then_some(deliveries)
        })
        .await
    }

    /// Stops everything that was started.
    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
        self.journal.close().await;
        self.clerk.stop().await;
    }
}

impl Node {
    /// Builds and runs one on a free port, on this journal or on one of its own.
    pub async fn start(config: Config, journal: Option<Arc<SqlJournal>>) -> Self {
        let built = match journal {
            Some(journal) => app::build_on(config, journal, Handle::current()).await,
            None => app::build(config, Handle::current()).await,
        };
        let app = built.expect("the node starts");
        let address = app.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.run_until(async move {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), task }
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its webhooks go.
    pub fn webhooks(&self) -> String {
        format!("{}/webhooks/clerk", self.url())
    }

    /// Begins to stop it, and waits for nothing.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Drains and stops it.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let stopped = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        stopped.expect("the node stops in time").expect("the node does not panic").expect("the node stops cleanly");
    }
}

fn key(name: &str, scope: Scope, text: &str) -> ServiceKey {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    ServiceKey { name: name.to_owned(), scope, digest: digest.as_ref().try_into().expect("32 bytes") }
}
