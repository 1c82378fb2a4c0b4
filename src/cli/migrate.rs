//! `rollcall migrate`: brings the journal's database to the form that this release needs, as a start of the service does.

use std::process::ExitCode;

use serde::Serialize;
use tokio::runtime::Handle;

use super::journal::Place;
use super::output;
use crate::journal::{self, SqlJournal};

/// Arguments of `migrate`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 done or nothing to do, 1 failed, 2 typed wrongly, 78 bad configuration")]
pub(super) struct Args {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Serialize)]
struct Migrated {
    /// The names of the steps that were missing.
    applied: Vec<String>,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    let settings = journal::Settings { url: args.place.url()?, io: io.clone() };
    let applied = io.block_on(SqlJournal::migrate(settings))?;
    match (args.json, applied.is_empty()) {
        (true, _) => output::json(&Migrated { applied })?,
        (false, true) => output::line("nothing to do")?,
        (false, false) => applied.iter().try_for_each(|name| output::line(name))?,
    }
    Ok(ExitCode::SUCCESS)
}
