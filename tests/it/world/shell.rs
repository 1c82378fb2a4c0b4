//! The real binary, run as a person or a script runs it: words, variables, files; its output and its exit code.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::stepping_clock::SteppingClock;

/// A folder to run the binary in, with nothing of this machine's environment.
pub struct Shell {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Shell {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made"), variables: Vec::new() }
    }

    /// With this variable instead of what it was; an empty one is none.
    pub fn set(mut self, variable: &str, value: &str) -> Self {
        self.variables.retain(|(name, _)| name != variable);
        if !value.is_empty() {
            self.variables.push((variable.to_owned(), value.to_owned()));
        }
        self
    }

    /// A variable.
    pub fn variable(&self, variable: &str) -> Option<&str> {
        self.variables.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str())
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// With this file.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the folder takes a file");
        self
    }

    /// The binary with these words, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.prepare(env!("CARGO_BIN_EXE_rollcall"));
        command.args(words);
        command
    }

    fn prepare(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end on a terminal of 120 columns; whatever it writes is then its stdout.
    pub fn run_on_a_terminal(&self, words: &[&str]) -> Ran {
        let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!("stty cols 120; exec {} {}", env!("CARGO_BIN_EXE_rollcall"), words.join(" "));
        let mut command = self.prepare("script");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
        Ran(command.args(["-qec", &line, "/dev/null"]).output().expect("util-linux is installed"))
    }

    /// Runs it to its end by another clock.
    pub fn run_by(&self, clock: &SteppingClock, words: &[&str]) -> Ran {
        let mut command = self.command(words);
        clock.give_to(&mut command);
        Ran(command.output().expect("the binary starts"))
    }

    /// Runs it to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        Ran(self.command(words).output().expect("the binary starts"))
    }
}

/// What a run of the binary left.
pub struct Ran(Output);

impl Ran {
    /// What it wrote to stdout.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// What it wrote to stderr.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// It must have ended with this exit code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(code), "stdout: {}\nstderr: {}", self.out(), self.err());
        self
    }

    /// It must have written all of these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let all = self.out() + &self.err();
        for word in words {
            assert!(all.contains(word), "`{word}` is not in: {all}");
        }
        self
    }

    /// Its stdout as one JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0.stdout).expect("stdout is one JSON document")
    }
}
