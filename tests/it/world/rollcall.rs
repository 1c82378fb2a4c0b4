//! `rollcall serve` as a process of its own, on a real Redis and the stand-in, which it reaches over HTTP; and the other verbs
//! with the same configuration.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rollcall::dev::{Options, StandIn, World as ClerkWorld};
use rollcall::journal::{self, Sharing, SqlJournal};
use rollcall::ports::JournalError;
use tokio::runtime::Handle;

use super::answer::Answer;
use super::client::client;
use super::redis_server::{RedisServer, free_port};
use super::service::{ADMIN_KEY, READ_KEY};
use super::shell::{Ran, Shell};
use super::wait::until;

/// The binary runs, with everything it needs. Killed when dropped.
pub struct Rollcall {
    pub clerk: StandIn,
    pub redis: RedisServer,
    pub http: reqwest::Client,
    pub url: String,
    shell: Shell,
    serve: Child,
    log: Log,
}

/// The lines of a log so far, of every start.
type Log = Arc<Mutex<Vec<String>>>;

impl Rollcall {
    /// Starts Clerk's small world, a Redis and the binary; it is ready.
    pub async fn serve() -> Self {
        Self::serve_with(ClerkWorld::small(), &[]).await
    }

    /// The same with another world, and with more settings, by variable.
    pub async fn serve_with(world: ClerkWorld, settings: &[(&str, &str)]) -> Self {
        Self::serve_on(RedisServer::start(), world, settings).await
    }

    /// The same on this Redis. An empty setting is none.
    pub async fn serve_on(redis: RedisServer, world: ClerkWorld, settings: &[(&str, &str)]) -> Self {
        let clerk = StandIn::start(Options { world, ..Options::default() }).await.expect("Clerk starts");
        let keys = format!("test:read:{},operator:admin:{}", hex_digest(READ_KEY), hex_digest(ADMIN_KEY));
        // A port of its own choice, so that it can come back to it.
        let address = format!("127.0.0.1:{}", free_port());
        let shell = Shell::new()
            .set("CLERK_SECRET_KEY", clerk.secret_key())
            .set("CLERK_API_URL", &clerk.url())
            .set("CLERK_WEBHOOK_SIGNING_SECRET", &clerk.sender().secret())
            .set("REDIS_URL", &redis.url())
            .set("ROLLCALL_API_KEYS", &keys)
            .set("ROLLCALL_ORIGIN_RATE", "100000")
            .set("ROLLCALL_LISTEN", &address);
        let shell = settings.iter().fold(shell, |shell, (variable, value)| shell.set(variable, value));
        let mut serve = spawn(&shell);
        let log = Log::default();
        listening(&mut serve, &log);
        let http = client();
        let rollcall = Self { clerk, redis, http, url: format!("http://{address}"), shell, serve, log };
        rollcall.until_ready().await;
        rollcall.clerk.calls().reset();
        rollcall
    }

    /// Waits until it says that it is ready.
    pub async fn until_ready(&self) {
        until("the binary is ready", async || {
            let answer = self.get("/readyz", &[]).await.ok()?;
            (answer.json()["status"] == "ready").then_some(())
        })
        .await;
    }

    /// Kills it (SIGKILL) in the middle of whatever it does. It is gone.
    pub fn kill(&mut self) {
        // Already gone is as good.
        let _ = self.serve.kill();
        let _ = self.serve.wait();
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) {
        let sent = Command::new("kill").args(["-HUP", &self.serve.id().to_string()]).status().expect("kill is installed");
        assert!(sent.success());
    }

    /// Starts it again in the same folder, on the same port, and waits for nothing.
    pub fn begin_again(&mut self) {
        self.kill();
        self.serve = spawn(&self.shell);
    }

    /// Starts it again; it listens. Answers when it was started.
    pub fn start_again(&mut self) -> SystemTime {
        let began = SystemTime::now();
        self.begin_again();
        tokio::task::block_in_place(|| listening(&mut self.serve, &self.log));
        began
    }

    /// The file of its journal, where that is SQLite.
    pub fn journal_file(&self) -> PathBuf {
        self.shell.folder().join("rollcall.db")
    }

    /// Looks into its journal, as an operator does; running or not. Nothing stays open, so that a start after a kill finds
    /// the files as the kill left them.
    pub async fn journal<T>(&self, look: impl AsyncFnOnce(&SqlJournal) -> Result<T, JournalError>) -> T {
        let url =
            self.shell.variable("DATABASE_URL").map_or_else(|| format!("sqlite://{}", self.journal_file().display()), Into::into);
        let settings = journal::Settings { url: url.into(), io: Handle::current() };
        let journal = SqlJournal::open(settings, Sharing::Operator).await.expect("a journal");
        let seen = look(&journal).await.expect("the journal can be read");
        journal.close().await;
        seen
    }

    /// Where its webhooks go.
    pub fn webhooks(&self) -> String {
        format!("{}/webhooks/clerk", self.url)
    }

    /// Asks it with the read key.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(READ_KEY);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.send().await?).await
    }

    /// One membership.
    pub async fn check(&self, user: &str, organization: &str) -> anyhow::Result<Answer> {
        self.get(&format!("/v1/users/{user}/orgs/{organization}"), &[]).await
    }

    /// One of its metrics, one without labels.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let request = self.http.get(format!("{}/metrics", self.url)).bearer_auth(ADMIN_KEY);
        let text = request.send().await?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.unwrap_or_else(|| panic!("no {name} in {text}")).parse()?)
    }

    /// Bytes of its memory that are resident.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serve.id())).expect("it runs");
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        size.expect("a size in kB").parse::<u64>().expect("a number") << 10
    }

    /// Everything it has written to its log.
    pub fn log(&self) -> String {
        self.log.lock().expect("unpoisoned").join("\n")
    }

    /// Runs another verb of the binary with the same configuration.
    pub fn run(&self, words: &[&str]) -> Ran {
        tokio::task::block_in_place(|| self.shell.run(words))
    }
}

impl Drop for Rollcall {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(shell: &Shell) -> Child {
    shell.command(&["serve"]).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// A key as it is configured.
pub fn hex_digest(key: &str) -> String {
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until its log says that it listens. Somebody must go on reading the log, or the binary would stop at a full pipe.
fn listening(serve: &mut Child, log: &Log) {
    let (seen, lines) = mpsc::channel();
    let stderr = BufReader::new(serve.stderr.take().expect("it is piped"));
    let (log, before) = (log.clone(), log.lock().expect("unpoisoned").len());
    let written = log.clone();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            written.lock().expect("unpoisoned").push(line.clone());
            let _ = seen.send(line);
        }
    });
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(20)) {
        let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if told["message"] == "listening" {
            return;
        }
    }
    panic!("it does not listen: {}", log.lock().expect("unpoisoned")[before..].join("\n"));
}
