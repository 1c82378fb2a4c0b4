//! `rollcall dev`: the service beside a stand-in for Clerk, each on a port of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime::Handle;

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 stopped when told to, 1 failed, 2 typed wrongly")]
pub(super) struct Args {
    /// Where the service listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Where the stand-in for Clerk listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8788")]
    clerk_listen: SocketAddr,
}

pub(super) fn run(args: Args, _io: &Handle) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not available in this build (asked for {} and {})", args.listen, args.clerk_listen)
}
