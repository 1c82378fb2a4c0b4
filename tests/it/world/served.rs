//! Several processes of `rollcall serve` beside each other, on one Clerk, one journal and, if asked for, one Redis; each can
//! be killed, told to stop, or given no room on the disk.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use rollcall::dev::{Options, StandIn, World as ClerkWorld};
use rollcall::journal::{Settings, Sharing, SqlJournal};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::answer::Answer;
use super::client::client;
use super::postgres::Postgres;
use super::redis_server::RedisServer;
use super::rollcall::hex_digest;
use super::service::{ADMIN_KEY, READ_KEY};
use super::wait::{until, until_eq};
use super::webhooks::{Webhook, event};

/// Processes and what they need. All are killed when dropped.
pub struct Served {
    pub clerk: StandIn,
    redis: Option<RedisServer>,
    database_url: String,
    processes: Vec<Process>,
    http: reqwest::Client,
    _postgres: Option<Postgres>,
    folder: TempDir,
}

struct Process {
    child: Mutex<Child>,
    url: String,
}

impl Process {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

impl Served {
    /// One process alone with a file, no file larger than this many bytes.
    pub async fn alone_with_files_of_at_most(bytes: u64) -> Self {
        let mut served = Self::prepare(None, None).await;
        served.start(Some(bytes)).await;
        served
    }

    /// One process on a Redis, with a file.
    pub async fn on_redis() -> Self {
        let mut served = Self::prepare(Some(RedisServer::start()), None).await;
        served.start(None).await;
        served
    }

    /// So many processes on a Redis and a PostgreSQL.
    pub async fn on_postgres(processes: usize) -> Self {
        let mut served = Self::prepare(Some(RedisServer::start()), Some(Postgres::start())).await;
        for _ in 0..processes {
            served.start(None).await;
        }
        served
    }

    async fn prepare(redis: Option<RedisServer>, postgres: Option<Postgres>) -> Self {
        let clerk = StandIn::start(Options { world: ClerkWorld::small(), ..Options::default() }).await.expect("Clerk starts");
        let folder = tempfile::tempdir().expect("a folder");
        let file = || format!("sqlite://{}", folder.path().join("rollcall.db").display());
        let database_url = postgres.as_ref().map_or_else(file, Postgres::url);
        let http = client();
        Self { clerk, redis, database_url, processes: Vec::new(), http, _postgres: postgres, folder }
    }

    async fn start(&mut self, file_bytes_max: Option<u64>) {
        let mut command = Command::new("env");
        if let Some(bytes) = file_bytes_max {
            // The write fails; without the first word the process would be ended.
            command.arg("--ignore-signal=XFSZ").args(["prlimit", &format!("--fsize={bytes}:")]);
        }
        let keys = format!("test:read:{},operator:admin:{}", hex_digest(READ_KEY), hex_digest(ADMIN_KEY));
        command.args([env!("CARGO_BIN_EXE_rollcall"), "serve"]).env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CLERK_SECRET_KEY", self.clerk.secret_key()).env("CLERK_API_URL", self.clerk.url());
        command.env("CLERK_WEBHOOK_SIGNING_SECRET", self.clerk.sender().secret()).env("ROLLCALL_API_KEYS", keys);
        command.env("ROLLCALL_LISTEN", "127.0.0.1:0").env("DATABASE_URL", &self.database_url);
        command.envs(self.redis.as_ref().map(|redis| ("REDIS_URL", redis.url())));
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let address = tokio::task::block_in_place(|| listening(&mut child));
        self.processes.push(Process { child: Mutex::new(child), url: format!("http://{address}") });
        self.until_status("ready").await;
    }

    /// The Redis of these processes.
    pub fn redis_ref(&self) -> &RedisServer {
        self.redis.as_ref().expect("there is one")
    }

    /// A delivery of this body, rightly signed.
    pub fn webhook(&self, body: impl Into<Bytes>) -> Webhook {
        Webhook::signed(&self.clerk.sender().secret(), body)
    }

    /// A delivery of this type about a user.
    pub fn webhook_of(&self, event_type: &str, user: &str) -> Webhook {
        self.webhook(event(event_type, json!({ "id": user })).to_string())
    }

    /// Delivers to the first process.
    pub async fn post(&self, webhook: &Webhook) -> Answer {
        self.post_to(0, webhook).await
    }

    /// Delivers to process `number`, which must answer something.
    pub async fn post_to(&self, number: usize, webhook: &Webhook) -> Answer {
        self.try_post_to(number, webhook).await.expect("an answer")
    }

    /// Delivers to process `number`, which may be dying.
    pub async fn try_post_to(&self, number: usize, webhook: &Webhook) -> anyhow::Result<Answer> {
        let request = self.http.post(format!("{}/webhooks/clerk", self.processes[number].url));
        let request = request.header("content-type", "application/json").body(webhook.body.clone());
        let request = webhook.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        Answer::of(request.send().await?).await
    }

    /// Asks the first process for one membership.
    pub async fn check(&self, user: &str, organization: &str) -> Answer {
        let url = format!("{}/v1/users/{user}/orgs/{organization}", self.processes[0].url);
        let response = self.http.get(url).bearer_auth(READ_KEY).send().await.expect("an answer");
        Answer::of(response).await.expect("a whole answer")
    }

    /// Waits until the process started last says this of itself.
    pub async fn until_status(&self, status: &str) -> Value {
        let url = format!("{}/readyz", self.processes.last().expect("a process").url);
        until(&format!("the binary to be {status}"), async || {
            let response = self.http.get(&url).bearer_auth(ADMIN_KEY).send().await.ok()?;
            let told = Answer::of(response).await.ok()?.json();
            (told["status"] == status).then_some(told)
        })
        .await
    }

    /// Kills process `number` in the middle of whatever it does.
    pub fn kill(&self, number: usize) {
        let mut child = self.processes[number].child();
        child.kill().expect("it runs");
        child.wait().expect("it is gone");
    }

    /// Stops process `number` in the middle of whatever it does (SIGSTOP): its connections stay, nothing is answered.
    pub fn stand_still(&self, number: usize) {
        run("kill", &["-STOP", &self.processes[number].child().id().to_string()]);
    }

    /// Lets it go on.
    pub fn go_on(&self, number: usize) {
        run("kill", &["-CONT", &self.processes[number].child().id().to_string()]);
    }

    /// Waits until no history is in doubt: whoever puts one back applies what is open too.
    pub async fn until_whole(&self) {
        let whole = || self.redis_ref().query(&["HGET", "{user-orgs:~changes}:history", "whole"]);
        until_eq("the history is whole", "1".to_owned(), whole).await;
    }

    /// Tells the first process to stop, and waits for its end.
    pub async fn terminate(&self) -> ExitStatus {
        run("kill", &["-TERM", &self.processes[0].child().id().to_string()]);
        until("it to stop", async || self.processes[0].child().try_wait().expect("a child")).await
    }

    /// Files may grow again.
    pub fn lift_the_limit(&self) {
        run("prlimit", &["--pid", &self.processes[0].child().id().to_string(), "--fsize=unlimited:"]);
    }

    /// The journal, as an operator sees it.
    pub async fn journal(&self) -> SqlJournal {
        let settings = Settings { url: self.database_url.clone().into(), io: Handle::current() };
        SqlJournal::open(settings, Sharing::Operator).await.expect("a journal")
    }
}

fn run(program: &str, words: &[&str]) {
    assert!(Command::new(program).args(words).status().expect("it is installed").success(), "{program} {words:?}");
}

/// The address in its log. Somebody must go on reading the log, or the binary would stop at a full pipe.
fn listening(child: &mut Child) -> String {
    let (seen, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            // Shown as soon as nobody waits for it any more.
            if let Err(unread) = seen.send(line) {
                eprintln!("{}", unread.0);
            }
        }
    });
    let mut log = String::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(20)) {
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        if let (Some("listening"), Some(address)) = (told["message"].as_str(), told["address"].as_str()) {
            return address.to_owned();
        }
        log += &(line + "\n");
    }
    panic!("it does not listen: {log}");
}
