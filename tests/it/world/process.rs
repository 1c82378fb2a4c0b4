//! `rollcall serve` as a process of its own, so that what it costs can be read from /proc. Killed when dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rollcall::dev::StandIn;
use tempfile::TempDir;

use super::redis_server::RedisServer;
use super::service::{ADMIN_KEY, READ_KEY};
use super::wait::until;

/// A running binary.
pub struct Process {
    child: Child,
    url: String,
    http: reqwest::Client,
    /// Where it runs: no configuration of this machine lies there.
    _folder: TempDir,
}

impl Process {
    /// Starts it between Clerk and Redis with more settings, by variable; it is ready.
    pub async fn serve(clerk: &StandIn, redis: &RedisServer, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let keys = format!("read:read:{},admin:admin:{}", hex_digest(READ_KEY), hex_digest(ADMIN_KEY));
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.arg("serve").env_clear().current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        command.env("CLERK_SECRET_KEY", clerk.secret_key()).env("CLERK_API_URL", clerk.url());
        command.env("CLERK_WEBHOOK_SIGNING_SECRET", clerk.sender().secret());
        command.env("REDIS_URL", redis.url()).env("ROLLCALL_API_KEYS", keys).env("ROLLCALL_LISTEN", "127.0.0.1:0");
        command.env("ROLLCALL_LOG_FORMAT", "json").envs(settings.iter().copied());
        let mut child = command.spawn().expect("the binary starts");
        let address = address_in_log(&mut child);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        let process = Self { child, url: format!("http://{address}"), http, _folder: folder };
        until("the binary is ready", async || {
            let answer = process.http.get(format!("{}/readyz", process.url)).send().await.ok()?;
            answer.text().await.ok()?.contains("\"ready\"").then_some(())
        })
        .await;
        clerk.calls().reset();
        process
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of many connections.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Bytes of its memory that are resident.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") << 10
    }

    /// One of its metrics without labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let request = self.http.get(format!("{}/metrics", self.url)).bearer_auth(ADMIN_KEY);
        let text = request.send().await.expect("it answers").text().await.expect("it is text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a whole number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex_digest(key: &str) -> String {
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The address in its log. The log is read to its end, or the binary would stand still at a full pipe.
fn address_in_log(child: &mut Child) -> String {
    let (seen, lines) = std::sync::mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = seen.send(line);
        }
    });
    let (deadline, mut log) = (Instant::now() + Duration::from_secs(20), String::new());
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let (Some("listening"), Some(address)) = (told["message"].as_str(), told["address"].as_str()) {
            return address.to_owned();
        }
        log += &(line + "\n");
    }
    panic!("it does not listen: {log}");
}
