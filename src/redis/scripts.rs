//! The Lua scripts by name. Links load them when a connection is made; a server that lost them is given them again.
//!
//! Never queued in MULTI: a full Redis refuses everything there, also what is flagged `allow-oom`.
//!
//! A line that ends in `-- rule` and a number is there for that rule; one that begins with `-- without` and a number is the
//! mistake that the rule prevents. Both are comments, but in a build of `rule-switches`.

use std::borrow::Cow;
use std::sync::LazyLock;

use deadpool_redis::redis::{self, Cmd, Pipeline};

/// A script, known to the server by its hash.
pub(super) struct Script {
    code: Cow<'static, str>,
    hash: String,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {
        $($(#[$doc])* pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)+
        fn all() -> Vec<&'static Script> {
            vec![$(&*$name),+]
        }
    };
}

scripts! {
    /// Takes a lease.
    BEGIN = "scripts/begin.lua";
    /// Lands a reading.
    LAND = "scripts/land.lua";
    /// Gives a lease back.
    RELEASE = "scripts/release.lua";
    /// A change of a user passes.
    INVALIDATE = "scripts/invalidate.lua";
    /// Adds a change to the stream.
    APPEND = "scripts/append.lua";
    /// Asks the stream everything at once.
    TAIL = "scripts/tail.lua";
    /// Notes how far the server's clock has come.
    CLOCK = "scripts/clock.lua";
    /// A write that replicas are waited for with.
    FENCE = "scripts/fence.lua";
    /// Says whose stream this is.
    HISTORY = "scripts/history.lua";
    /// Takes the right to put a lost history back.
    HOLD = "scripts/hold.lua";
    /// A lost history is put back.
    WHOLE = "scripts/whole.lua";
    /// The right to put it back is given to whoever asks next.
    LET_GO = "scripts/let_go.lua";
    /// A node is alive.
    HEARTBEAT = "scripts/heartbeat.lua";
}

impl Script {
    fn new(code: &'static str) -> Self {
        let code = ruled(code);
        Self { hash: redis::Script::new(&code).get_hash().to_owned(), code }
    }

    /// A call of the script; arguments are appended to it.
    pub(super) fn on(&self, keys: &[&str]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len()).arg(keys);
        call
    }
}

/// The text that is sent: the file as it is.
#[cfg(not(feature = "rule-switches"))]
fn ruled(code: &'static str) -> Cow<'static, str> {
    Cow::Borrowed(code)
}

/// The text that is sent: the file as it is, but for a rule that is out.
#[cfg(feature = "rule-switches")]
fn ruled(code: &'static str) -> Cow<'static, str> {
    use crate::protocol::rules::{self, Rule};

    let Some(rule) = rules::out() else { return Cow::Borrowed(code) };
    if rule == Rule::ChangesExceedMemory {
        return Cow::Owned(code.replace("flags=allow-oom", ""));
    }
    let (there_for_it, mistake) = (format!("-- rule {}", rule.number()), format!("-- without {}: ", rule.number()));
    let lines = code.lines().filter(|line| !line.ends_with(&there_for_it));
    Cow::Owned(lines.map(|line| line.strip_prefix(&mistake).unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

/// Adds commands that load every script; answers how many.
pub(super) fn load(pipeline: &mut Pipeline) -> usize {
    let scripts = all();
    for script in &scripts {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(&*script.code);
    }
    scripts.len()
}
