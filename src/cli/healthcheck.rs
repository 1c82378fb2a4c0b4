//! `rollcall healthcheck`: for a container's health check, where there is no shell and no curl.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use super::{client, output};
use crate::config::{Environment, Name, Settings, Typed};
use crate::telemetry::ErrorChain;

/// Health checks come every few seconds; one that hangs must end before the next.
const LIMIT: Duration = Duration::from_secs(2);

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 healthy, 1 not healthy or not reached within 2 s, 2 typed wrongly")]
pub(super) struct Args {
    /// Asks whether it can answer (/readyz), not only whether it runs (/livez)
    #[arg(long)]
    ready: bool,
    /// Where the service listens [env: ROLLCALL_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    // Docker gives a meaning to 0 and 1 alone, so a bad configuration is 1 here too.
    match io.block_on(ask(args)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("unhealthy: {}", ErrorChain(error.as_ref()));
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn ask(args: Args) -> anyhow::Result<()> {
    let settings = Settings::gather(&Typed::only(Name::Listen, args.listen), &Environment::of_process())?;
    let url = client::own_url(settings.listen()?, if args.ready { "/readyz" } else { "/livez" });
    let answer = client::client(&url, LIMIT)?.get(url).send().await.context("no answer")?;
    anyhow::ensure!(answer.status().is_success(), "answered {}", answer.status());
    Ok(output::line("healthy")?)
}
