//! A real redis-server of its own for one test: a free port, a directory of its own, stopped by its process id.

use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{self, Value};
use tempfile::TempDir;

use super::stepping_clock::SteppingClock;

/// A running redis-server. Stopped when dropped.
pub struct RedisServer {
    program: PathBuf,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
    clock: Option<SteppingClock>,
    child: Child,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more arguments, as on the command line: `["--maxmemory", "4mb"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_by("redis-server".into(), None, arguments)
    }

    /// Starts one whose clock can step, by `step_clock`.
    pub fn start_with_a_clock(arguments: &[&str]) -> Self {
        Self::start_by("redis-server".into(), Some(SteppingClock::new()), arguments)
    }

    /// Starts this program, which speaks like redis-server.
    pub fn start_program(program: PathBuf, arguments: &[&str]) -> Self {
        Self::start_by(program, None, arguments)
    }

    fn start_by(program: PathBuf, clock: Option<SteppingClock>, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        for _ in 0..50 {
            let port = free_port();
            let mut child = spawn(&program, port, &dir, &arguments, clock.as_ref());
            if is_up(port, &mut child) {
                return Self { program, port, dir, arguments, clock, child };
            }
            stop(&mut child);
        }
        panic!("redis-server does not start");
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command, and answers what redis-cli prints: one line per element, nothing for nil; an error with its code.
    pub fn query(&self, command: &[&str]) -> String {
        query(self.port, command)
    }

    /// Stops it in the middle of everything (SIGSTOP): connections stay, nothing is answered.
    pub fn pause(&self) {
        signal(&self.child, "-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal(&self.child, "-CONT");
    }

    /// Its clock steps by so many milliseconds, as when somebody sets the time of the machine; a restart does not undo it.
    pub fn step_clock(&self, ms: i64) {
        self.clock.as_ref().expect("it was started with one").step(ms);
    }

    /// Kills it; `restart` brings it back.
    pub fn kill(&mut self) {
        stop(&mut self.child);
    }

    /// What `SAVE` wrote is gone: from now on it starts empty again.
    pub fn forget(&self) {
        // Never written is as good.
        let _ = std::fs::remove_file(self.dir.path().join("dump.rdb"));
    }

    /// Writes what it holds to disk, and a mark with it: a restart has it, if it has the rest.
    pub fn save(&self) {
        assert_eq!(self.query(&["SET", "snapshot", "taken"]), "OK");
        assert_eq!(self.query(&["SAVE"]), "OK");
    }

    /// Starts it again; it is as it was saved.
    pub fn restore(&mut self) {
        self.restart();
        assert_eq!(self.query(&["GET", "snapshot"]), "taken", "it came back empty");
    }

    /// Starts it again on the same port: empty, or with what `SAVE` wrote before.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.child = spawn(&self.program, self.port, &self.dir, &self.arguments, self.clock.as_ref());
            if is_up(self.port, &mut self.child) {
                return;
            }
            stop(&mut self.child);
            assert!(Instant::now() < deadline, "redis-server does not start again");
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// A port below the ephemeral range, so that no outgoing connection takes it; never the same twice. Each process has ports of its
/// own for as long as it lives, also those of its servers that are down for a moment: another test's server would answer there.
pub fn free_port() -> u16 {
    static OURS: Mutex<Vec<Place>> = Mutex::new(Vec::new());
    let mut ours = OURS.lock().expect("nothing panics while it is held");
    loop {
        let port = match ours.last_mut().and_then(|place| place.left.next()) {
            Some(port) => port,
            None => {
                ours.push(Place::take());
                continue;
            }
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Ports that no other process of tests draws.
struct Place {
    left: Range<u16>,
    /// Locked while this process lives.
    _lock: File,
}

impl Place {
    const PORTS: u16 = 50;
    const PLACES: u16 = 240;

    /// The first that nobody has. Processes that start one after the other look from far apart: 53 and the number of places
    /// have no divisor in common.
    fn take() -> Self {
        let from = std::process::id().wrapping_mul(53) % u32::from(Self::PLACES);
        let places = (0..Self::PLACES).map(|n| (from as u16 + n) % Self::PLACES);
        let lock = |place: u16| {
            let file = std::env::temp_dir().join(format!("rollcall-test-ports-{place}.lock"));
            // Another user's is another user's place.
            let file = File::options().create(true).truncate(false).write(true).open(file).ok()?;
            file.try_lock().ok()?;
            let first = 20_000 + place * Self::PORTS;
            Some(Self { left: first..first + Self::PORTS, _lock: file })
        };
        places.filter_map(lock).next().expect("fewer processes than places")
    }
}

fn spawn(program: &Path, port: u16, dir: &TempDir, arguments: &[String], clock: Option<&SteppingClock>) -> Child {
    let mut command = Command::new(program);
    if let Some(clock) = clock {
        clock.give_to(&mut command);
    }
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(dir.path()).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server can be started")
}

/// Whether the process that answers on the port is this one, and not another test's.
fn is_up(port: u16, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    let expected = format!("process_id:{}", child.id());
    while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
        let info = query(port, &["INFO"]);
        if info.lines().any(|line| line.trim() == expected) && info.contains("loading:0") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Runs a command on whatever listens on this port.
pub fn query(port: u16, command: &[&str]) -> String {
    query_after(&[], port, command)
}

/// The same, of keys on a replica in a cluster, which else names its master.
pub fn query_replica(port: u16, command: &[&str]) -> String {
    query_after(&["READONLY"], port, command)
}

fn query_after(first: &[&str], port: u16, command: &[&str]) -> String {
    let Ok(client) = redis::Client::open(("127.0.0.1", port)) else { return String::new() };
    let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_secs(1)) else { return String::new() };
    connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    for word in first {
        redis::cmd(word).exec(&mut connection).expect("a server that goes on answering");
    }
    let reply = redis::cmd(command[0]).arg(&command[1..]).query::<Value>(&mut connection);
    match reply {
        Ok(reply) => lines(reply),
        Err(error) => format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default()),
    }
}

fn lines(reply: Value) -> String {
    match reply {
        Value::Nil => String::new(),
        Value::Okay => "OK".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) => text,
        Value::Array(replies) => replies.into_iter().map(lines).collect::<Vec<_>>().join("\n"),
        other => format!("{other:?}"),
    }
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is installed");
    assert!(sent.success());
}

fn stop(child: &mut Child) {
    // Already gone is as good.
    let _ = child.kill();
    let _ = child.wait();
}
