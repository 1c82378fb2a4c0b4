//! The binary: parse, make the I/O runtime, run one verb, exit code.
//!
//! The runtime made here owns connections, flights and background work; it is the first thing to start and the last to end.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use rollcall::cli::Cli;
use tokio::runtime::{Builder, Runtime};

/// What background work may take to end once everything that needs it has ended.
const IO_END_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // First of all: two TLS users (Redis, Clerk) would otherwise each have to choose, and rustls panics when none has.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    installed.expect("nothing before this line could have installed another provider");
    let cli = Cli::parse();
    let io = match io_runtime() {
        Ok(io) => io,
        Err(error) => {
            eprintln!("error: the I/O runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = cli.run(io.handle());
    io.shutdown_timeout(IO_END_MAX);
    code
}

fn io_runtime() -> std::io::Result<Runtime> {
    let number = AtomicUsize::new(0);
    let name = move || format!("rollcall-io-{}", number.fetch_add(1, Ordering::Relaxed));
    Builder::new_multi_thread().thread_name_fn(name).enable_all().build()
}
