//! A real PostgreSQL of its own for one test: a free port, a data folder of its own, stopped by its process id.
//!
//! It writes to the disk as in production (fsync). It refuses to run as root, so root starts it as somebody else. The empty
//! database is made once per build folder, and copied for each test.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use super::wait::until;

/// Debian's, if it is there: what else is on the PATH may be anything.
const DEBIAN: &str = "/usr/lib/postgresql/15/bin";
const ADMIN: &str = "rollcall";

/// A running PostgreSQL. Stopped when dropped.
pub struct Postgres {
    port: u16,
    folder: TempDir,
    fsync: &'static str,
    child: Child,
}

impl Postgres {
    /// Starts an empty one.
    pub fn start() -> Self {
        Self::start_with("fsync=on")
    }

    /// Starts an empty one that waits for no disk, which others may keep busy: where no machine fails, nothing is lost by it.
    pub fn start_without_a_disk() -> Self {
        Self::start_with("fsync=off")
    }

    fn start_with(fsync: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).expect("root gives folders away");
        }
        copy(&template(), &folder.path().join("data"));
        for _ in 0..20 {
            let port = free_port();
            let mut child = spawn(port, folder.path(), fsync);
            if is_up(folder.path(), &mut child) {
                return Self { port, folder, fsync, child };
            }
            stop(&mut child);
        }
        panic!("PostgreSQL does not start: {}", log(folder.path()));
    }

    /// Where it is, for a journal.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same, at another port: that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{ADMIN}@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on a password is asked for, and nobody has one.
    pub async fn ask_for_passwords(&self) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("it runs");
        let file: String = sqlx::query_scalar("show hba_file").fetch_one(&mut connection).await.expect("a file");
        let rule = format!("copy (select 'host all all 127.0.0.1/32 scram-sha-256') to '{file}'");
        for sql in [rule, "select pg_reload_conf()".to_owned()] {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("its owner may");
        }
        until("it asks for a password", async || PgConnection::connect(&self.url()).await.is_err().then_some(())).await;
    }

    /// Stops it as a failing machine does: connections break, nothing is told. `restart` brings it back.
    pub fn stop(&mut self) {
        stop(&mut self.child);
    }

    /// Starts it again on the same port, with all that was committed.
    pub fn restart(&mut self) {
        self.stop();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.child = spawn(self.port, self.folder.path(), self.fsync);
            if is_up(self.folder.path(), &mut self.child) {
                return;
            }
            stop(&mut self.child);
            assert!(Instant::now() < deadline, "PostgreSQL does not start again: {}", log(self.folder.path()));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The user and group it runs as, where we are root.
fn other_user() -> Option<(u32, u32)> {
    let is_root = Command::new("id").arg("-u").output().expect("id is installed").stdout == b"0\n";
    let users = std::fs::read_to_string("/etc/passwd").expect("a list of users");
    let of = |name: &str| {
        let mut fields = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"))?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    is_root.then(|| of("postgres").or_else(|| of("nobody")).expect("somebody who is not root"))
}

/// One of its programs, run as whoever may.
fn program(name: &str) -> Command {
    let debian = Path::new(DEBIAN).join(name);
    let program = if debian.exists() { debian } else { PathBuf::from(name) };
    let Some((user, group)) = other_user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(program);
    command
}

/// An empty database. Made by the first test that needs one; the others wait for it.
fn template() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = cache.join("postgres-empty");
    let lock = File::create(cache.join("postgres-empty.lock")).expect("a lock");
    lock.lock().expect("nobody else's lock stays");
    if !template.exists() {
        // Where the other user may write, which need not be so in the build folder.
        let folder = tempfile::tempdir().expect("a folder");
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).expect("root gives folders away");
        }
        let mut initdb = program("initdb");
        initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale", "--wal-segsize=1", "-U", ADMIN, "-D"]);
        let made = initdb.arg(folder.path().join("data")).current_dir("/").output().expect("PostgreSQL is installed");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let half_made = cache.join(format!("postgres-empty.{}", std::process::id()));
        copy(&folder.path().join("data"), &half_made);
        std::fs::rename(&half_made, &template).expect("a rename within a folder");
    }
    template
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp is installed");
    assert!(copied.success(), "cp -a {} {}", from.display(), to.display());
}

/// A port below the ephemeral range, so that no outgoing connection takes it, and beside those of the tests' Redis.
fn free_port() -> u16 {
    let mut bytes = [0; 2];
    aws_lc_rs::rand::fill(&mut bytes).expect("random");
    let first = 10_000 + u16::from_le_bytes(bytes) % 9_000;
    (first..19_500).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn spawn(port: u16, folder: &Path, fsync: &str) -> Child {
    let log = File::create(folder.join("log")).expect("a log");
    let mut command = program("postgres");
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", fsync, "shared_buffers=16MB", "timezone=UTC"] {
        command.args(["-c", setting]);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("PostgreSQL is installed")
}

/// Whether it takes connections: it says so in a file, with its process id, so it is no other test's.
fn is_up(folder: &Path, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
        let told = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = told.lines().map(str::trim).collect();
        if lines.first() == Some(&child.id().to_string().as_str()) && lines.get(7) == Some(&"ready") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// SIGQUIT ends it with its children, and without the writes of an orderly end; SIGKILL would leave them.
fn stop(child: &mut Child) {
    if child.try_wait().expect("a child").is_none() {
        let sent = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status().expect("kill is installed");
        assert!(sent.success());
    }
    // Already gone is as good.
    let _ = child.wait();
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}
