//! The command line as a person or a script meets it: the real binary, its output and its exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;

use crate::world::shell::Shell;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request as it came over the wire, headers in lower case.
#[derive(Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value).unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

/// A server that gives the statuses in order, one per connection, and ends.
struct Answers {
    url: String,
    requests: JoinHandle<Vec<Request>>,
}

impl Answers {
    fn with(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let requests = std::thread::spawn(move || {
            statuses.iter().map(|status| answer(listener.accept().expect("a client comes").0, *status)).collect()
        });
        Self { url, requests }
    }

    fn requests(self) -> Vec<Request> {
        self.requests.join().expect("the server met only whole requests")
    }
}

fn answer(stream: TcpStream, status: u16) -> Request {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit can be set");
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a line comes") > 0, "the head ends early: {head}");
    }
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body comes");
    write!(reader.into_inner(), "HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .expect("the client waits");
    Request { head, body }
}

/// Svix's own check of a delivery, at any time.
fn is_signed(request: &Request) -> bool {
    let mut headers = http1::HeaderMap::new();
    for name in ["svix-id", "svix-timestamp", "svix-signature"] {
        headers.insert(name, request.header(name).parse().expect("a header value"));
    }
    svix::webhooks::Webhook::new(SECRET).expect("a secret").verify(&request.body, &headers).is_ok()
}

#[test]
fn the_version_names_the_commit() {
    let ran = Shell::new().run(&["--version"]).ends_with(0);
    let text = ran.out();
    let commit = text.trim().strip_prefix(concat!("rollcall ", env!("CARGO_PKG_VERSION"), " (")).expect("name, version, commit");
    assert!(commit.ends_with(')') && commit.len() > 1, "{text}");
}

#[test]
fn a_new_key_is_printed_with_the_entry_that_admits_it() {
    let made = Shell::new().run(&["keys", "new", "console-web", "--scope", "evict", "--json"]).ends_with(0).json();
    let key = made["key"].as_str().expect("a key");
    assert!(key.len() == 46 && key.starts_with("rk_"), "{key}");
    let hex: String = digest::digest(&digest::SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(made["entry"], format!("console-web:evict:{hex}"));
    let ran =
        Shell::new().run(&["keys", "new", "console-web", "--scope", "read"]).ends_with(0).says(&["rk_", "console-web:read:"]);
    assert!(!ran.out().contains(key), "a key is new every time");
}

#[test]
fn what_is_typed_wrongly_is_exit_code_2() {
    let shell = Shell::new().file("a.json", "{}").file("b.json", "{}");
    shell.run(&["keys", "new", "Console Web", "--scope", "read"]).ends_with(2).says(&["[a-z0-9-]{1,64}"]);
    shell.run(&["keys", "new", "web", "--scope", "write"]).ends_with(2);
    shell.run(&["replay", "absent.json"]).ends_with(2).says(&["absent.json"]);
    shell.run(&["replay", "a.json", "b.json", "--id", "msg_1", "--dry-run"]).ends_with(2).says(&["single file"]);
    shell.run(&["replay", "a.json", "--to", "nowhere", "--dry-run"]).ends_with(2);
    shell.run(&["evict", "user_1"]).ends_with(2).says(&["--server"]);
    shell.run(&["dev", "--nodes", "2"]).ends_with(2).says(&["REDIS_URL"]);
    shell.run(&["evict", "user 1", "--server", "http://127.0.0.1:1"]).ends_with(2);
    shell.run(&["evict", "user_1", "--server", "http://127.0.0.1:1"]).ends_with(2).says(&["ROLLCALL_KEY"]);
    shell.run(&["nonsense"]).ends_with(2);
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        Shell::new().run(&["completions", shell]).ends_with(0).says(&["healthcheck", "rollcall"]);
    }
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    let shell = Shell::new()
        .set("CLERK_SECRET_KEY", "sk_test_hidden")
        .set("REDIS_URL", "redis://:hidden@x")
        .set("ROLLCALL_KEY", "hidden");
    for verb in ["serve", "evict", "replay"] {
        let ran = shell.run(&[verb, "--help"]).ends_with(0).says(&["Exit codes:"]);
        assert!(!ran.out().contains("hidden"), "{}", ran.out());
    }
}

#[test]
fn a_bad_configuration_is_told_whole_and_ends_with_78() {
    Shell::new().run(&["serve"]).ends_with(78).says(&["CLERK_SECRET_KEY", "CLERK_WEBHOOK_SIGNING_SECRET", "ROLLCALL_API_KEYS"]);
    Shell::new().file("rollcall.toml", "tll = 1").run(&["serve"]).ends_with(78).says(&["`tll`", "rollcall.toml"]);
    let ran = Shell::new().set("ROLLCALL_TTL", "20m").run(&["serve", "--grace", "15m"]).ends_with(78);
    ran.says(&["ROLLCALL_TTL = 20m (from the environment, ROLLCALL_TTL)", "ROLLCALL_GRACE = 15m (from the flag --grace)"]);
}

/// Everything else is as it should be, but for the port, which somebody else has: whatever is not refused ends with another
/// exit code.
#[test]
fn a_journal_that_would_lose_what_it_must_keep_is_refused_with_78() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let listen = taken.local_addr().expect("it is bound").to_string();
    let shell = || {
        Shell::new()
            .set("CLERK_SECRET_KEY", "sk_test_0123456789")
            .set("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .set("ROLLCALL_API_KEYS", &format!("web:read:{}", "ab".repeat(32)))
            .set("ROLLCALL_LISTEN", &listen)
            .set("CLERK_API_URL", "http://127.0.0.1:9")
    };
    let refused = |variable: &str, value: &str, words: &[&str]| {
        let shell = shell().set(variable, value);
        let ran = shell.run(&["serve"]).ends_with(78).says(&[variable]).says(words);
        assert_eq!(ran.err().matches("\n  - ").count(), 1, "one thing is wrong: {}", ran.err());
        assert_eq!(shell.folder().read_dir().expect("it is there").count(), 0, "{variable} = {value} left a file");
    };
    // The TTL is 5 min, the grace 10 min, and a minute is added.
    let retention =
        ["ROLLCALL_JOURNAL_RETENTION = 15m 59s (from the environment", "ROLLCALL_GRACE = 10m (the default)", "TTL + grace"];
    refused("ROLLCALL_JOURNAL_RETENTION", "15m 59s", &retention);
    refused("ROLLCALL_JOURNAL_RETENTION", "for ever", &["not a duration", "30s"]);
    refused("ROLLCALL_JOURNAL_PAYLOAD", "none", &["= none (from the environment", "minimal, full"]);
    for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://rollcall.db?mode=memory"] {
        refused("DATABASE_URL", url, &["a journal in memory would lose what was acknowledged", "sqlite://rollcall.db"]);
        let words = ["journal", "stats", "--database-url", url];
        Shell::new().run(&words).ends_with(78).says(&["DATABASE_URL (from the flag --database-url)", "a journal in memory"]);
    }
    let ran = Shell::new().run(&["serve", "--journal-retention", "1s", "--journal-payload", "all"]).ends_with(78);
    ran.says(&["ROLLCALL_JOURNAL_RETENTION = 1s (from the flag", "ROLLCALL_JOURNAL_PAYLOAD = all (from the flag"]);
    // As short as it may be.
    let ran = shell().set("ROLLCALL_JOURNAL_RETENTION", "16m").run(&["serve"]).ends_with(1);
    ran.says(&[&format!("cannot listen on {listen}")]);
}

#[test]
fn a_dry_run_tells_what_would_be_sent_and_sends_nothing() {
    let shell = Shell::new()
        .file("in/b.json", "{}")
        .file("in/a.json", "{ }")
        .file("in/effects.json", "[]")
        .set("ROLLCALL_LISTEN", "0.0.0.0:9");
    let ran = shell.run(&["replay", "in", "--dry-run"]).ends_with(0);
    let text = ran.out();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("3 bytes") && lines[0].ends_with("in/a.json"), "{text}");
    assert!(lines[2].contains("2 would be sent to http://127.0.0.1:9/webhooks/clerk"), "{text}");
    let json = shell.run(&["replay", "in", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!((&json["sent"], &json["failed"], &json["dryRun"]), (&0.into(), &0.into(), &true.into()));
}

#[test]
fn a_replay_sends_the_bytes_of_the_file_with_a_right_signature() {
    let body = "{\"type\": \"user.created\",\n  \"data\": {} }\n";
    let server = Answers::with(&[204, 204]);
    let shell = Shell::new().file("a.json", body).file("b.json", "{}").set("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
    let ran = shell.run(&["replay", "a.json", "b.json", "--to", &server.url, "--rate", "1000"]).ends_with(0);
    ran.says(&["204  a.json", "204  b.json", "2 delivered", "0 failed"]);
    let requests = server.requests();
    assert_eq!(requests[0].body, body.as_bytes());
    assert_eq!(requests[0].header("content-type"), "application/json");
    assert!(requests.iter().all(is_signed), "{requests:?}");
    assert_ne!(requests[0].header("svix-id"), requests[1].header("svix-id"));
}

#[test]
fn a_replay_keeps_the_id_it_is_given_and_reads_the_secret_from_a_file() {
    let server = Answers::with(&[200]);
    let shell = Shell::new().file("a.json", "{}").file("secret", &format!("{SECRET}\n"));
    shell.run(&["replay", "a.json", "--to", &server.url, "--id", "msg_mine", "--secret-file", "secret"]).ends_with(0);
    let requests = server.requests();
    assert_eq!(requests[0].header("svix-id"), "msg_mine");
    assert!(is_signed(&requests[0]));
}

#[test]
fn a_replay_fails_when_an_answer_is_not_2xx_or_nobody_answers() {
    let server = Answers::with(&[503, 302, 204]);
    let shell =
        Shell::new().file("a.json", "{}").file("b.json", "{}").file("c.json", "{}").set("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
    let json = shell.run(&["replay", ".", "--to", &server.url, "--json"]).ends_with(1).json();
    assert_eq!((&json["sent"], &json["failed"]), (&3.into(), &2.into()), "{json}");
    assert_eq!(json["deliveries"][1]["status"], 302, "a redirect is not followed");
    drop(server.requests());
    shell.run(&["replay", "a.json", "--to", "http://127.0.0.1:9"]).ends_with(1).says(&["no answer", "1 failed"]);
    Shell::new().file("a.json", "{}").run(&["replay", "a.json"]).ends_with(78).says(&["CLERK_WEBHOOK_SIGNING_SECRET"]);
}

#[test]
fn an_eviction_goes_through_the_service_and_fails_unless_confirmed() {
    let server = Answers::with(&[204, 503]);
    let shell = Shell::new().set("ROLLCALL_KEY", "rk_test");
    let ran = shell.run(&["evict", "user_1", "user_2", "--server", &server.url]).ends_with(1);
    ran.says(&["evicted  user_1", "503: not confirmed on every node; try again  user_2"]);
    let requests = server.requests();
    assert!(requests[0].head.starts_with("DELETE /v1/users/user_1/orgs "), "{}", requests[0].head);
    assert_eq!(requests[0].header("authorization"), "Bearer rk_test");
}

#[test]
fn a_health_check_asks_the_address_of_the_service() {
    let server = Answers::with(&[200, 503]);
    let listen = server.url.trim_start_matches("http://").replace("127.0.0.1", "0.0.0.0");
    let shell = Shell::new().set("ROLLCALL_LISTEN", &listen);
    shell.run(&["healthcheck"]).ends_with(0);
    shell.run(&["healthcheck", "--ready"]).ends_with(1).says(&["503"]);
    let requests = server.requests();
    assert!(requests[0].head.starts_with("GET /livez ") && requests[1].head.starts_with("GET /readyz "));
    shell.run(&["healthcheck"]).ends_with(1).says(&["unhealthy: no answer"]);
}

#[test]
fn a_health_check_finds_the_service_by_its_port_alone_and_by_its_address_before_that() {
    let server = Answers::with(&[200, 200]);
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let shell = Shell::new().set("PORT", &port);
    shell.run(&["healthcheck"]).ends_with(0);
    let shell = shell.set("PORT", "9").set("ROLLCALL_LISTEN", &format!("127.0.0.1:{port}"));
    shell.run(&["healthcheck"]).ends_with(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn serve_stops_with_0_when_told_to() {
    let shell = Shell::new()
        .set("CLERK_SECRET_KEY", "sk_test_0123456789")
        .set("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .set("ROLLCALL_API_KEYS", &format!("web:read:{}", "ab".repeat(32)))
        .set("ROLLCALL_LISTEN", "127.0.0.1:0")
        .set("CLERK_API_URL", "http://127.0.0.1:9")
        .set("ROLLCALL_TLL", "1m");
    let mut child = shell.command(&["serve"]).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let (seen, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let reader = std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| seen.send(line)));
    let mut log = wait_for(&lines, "\"message\":\"listening\"");
    assert!(log.contains("ROLLCALL_TLL is not a setting"), "{log}");
    end(child.id(), "TERM");
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                _ = child.kill();
                panic!("still running 20 s after SIGTERM; log: {log}");
            }
            None => log.extend(lines.recv_timeout(Duration::from_millis(50))),
        }
    };
    assert_eq!(status.code(), Some(0), "{log}");
    _ = reader.join();
    assert!(!log.contains("sk_test_0123456789"), "{log}");
}

/// All lines up to the one with this text; fails after 20 s.
fn wait_for(lines: &mpsc::Receiver<String>, text: &str) -> String {
    let mut log = String::new();
    while !log.contains(text) {
        match lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) => log += &(line + "\n"),
            Err(_) => panic!("`{text}` was not logged: {log}"),
        }
    }
    log
}

fn end(process: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status().expect("kill is there");
    assert!(status.success());
}
