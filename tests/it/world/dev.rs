//! `rollcall dev`, the real binary: a service and a stand-in for Clerk in one process, and what it printed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::shell::Shell;

/// `dev` on free ports. Killed when dropped.
pub struct Dev {
    process: Child,
    /// What it printed.
    pub guide: String,
    /// Open while it runs: it may not have written its last line end.
    _stdout: BufReader<ChildStdout>,
}

impl Dev {
    /// Started, with these words more; what it printed is there.
    pub fn start(shell: &Shell, words: &[&str]) -> Self {
        Self::start_at(shell, ["127.0.0.1:0", "127.0.0.1:0"], words)
    }

    /// The same at these addresses: the service's and Clerk's.
    pub fn start_at(shell: &Shell, [listen, clerk]: [&str; 2], words: &[&str]) -> Self {
        let words = [&["dev", "--listen", listen, "--clerk-listen", clerk], words].concat();
        let mut process = shell.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut guide = String::new();
        while !guide.contains("Stop with Ctrl-C.") {
            assert!(stdout.read_line(&mut guide).expect("text") > 0, "it ended early: {guide}");
        }
        Self { process, guide, _stdout: stdout }
    }

    /// What it printed below these words.
    pub fn below(&self, words: &str) -> Option<&str> {
        let mut lines = self.guide.lines().skip_while(|line| !line.starts_with(words));
        lines.nth(1).map(str::trim)
    }

    /// Told to stop, it ends with 0; what it wrote to stderr.
    pub fn stop(mut self) -> String {
        let status = Command::new("kill").arg("-INT").arg(self.process.id().to_string()).status().expect("kill is there");
        assert!(status.success());
        let mut log = String::new();
        self.process.stderr.take().expect("it is piped").read_to_string(&mut log).expect("text");
        assert_eq!(self.process.wait().expect("it is our child").code(), Some(0), "{log}");
        log
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
