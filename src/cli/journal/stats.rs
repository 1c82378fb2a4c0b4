//! `rollcall journal stats`: how many messages there are in each state, and how old the oldest open one is.

use std::process::ExitCode;

use serde::Serialize;

use super::{Place, words};
use crate::cli::output;
use crate::ports::Journal;

/// Arguments of `journal stats`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 counted, 1 failed, 2 typed wrongly, 78 bad configuration")]
pub(in crate::cli) struct Args {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// What scripts read: the names are a promise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    pending: u64,
    applied: u64,
    ignored: u64,
    buried: u64,
    oldest_open_ms: Option<u64>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let journal = args.place.open().await?;
    let stats = journal.stats().await?;
    journal.close().await;
    let oldest_open_ms = stats.oldest_open.map(|open| u64::try_from(open.as_millis()).unwrap_or(u64::MAX));
    if args.json {
        let (pending, applied, ignored, buried) = (stats.pending, stats.applied, stats.ignored, stats.buried);
        output::json(&Stats { pending, applied, ignored, buried, oldest_open_ms })?;
        return Ok(ExitCode::SUCCESS);
    }
    let states = [("pending", stats.pending), ("applied", stats.applied), ("ignored", stats.ignored), ("buried", stats.buried)];
    let mut table: Vec<_> = states
        .iter()
        .map(|(state, messages)| vec![((*state).to_owned(), words::colour(state)), (messages.to_string(), None)])
        .collect();
    if let Some(open_ms) = oldest_open_ms {
        let open = words::span(i64::try_from(open_ms).unwrap_or(i64::MAX));
        table[0].push((format!("the oldest for {open}"), None));
    }
    output::table(&table).iter().try_for_each(|line| output::line(line))?;
    Ok(ExitCode::SUCCESS)
}
