//! `rollcall journal retry`: makes messages due now. The worker of a running service applies them, within half a second; with
//! none running, they are applied when one starts.

use std::process::ExitCode;

use serde::Serialize;

use super::{Chosen, Place, list};
use crate::cli::{Usage, output};
use crate::domain::MessageId;
use crate::journal::{SqlJournal, State};

/// Arguments of `journal retry`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 made due, 1 one is not there or ignored, or something failed, 2 typed wrongly, \
                        78 bad configuration")]
pub(in crate::cli) struct Args {
    /// The messages
    #[arg(value_name = "ID", value_parser = MessageId::parse, required_unless_present = "state", conflicts_with = "state")]
    ids: Vec<MessageId>,
    /// All messages in this state, pending or buried, that the other flags choose
    #[arg(long, value_name = "STATE", value_parser = open_or_buried)]
    state: Option<State>,
    #[command(flatten)]
    chosen: Chosen,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

fn open_or_buried(text: &str) -> Result<State, String> {
    let found = list::state(text).ok().filter(|state| matches!(state, State::Pending | State::Buried));
    found.ok_or_else(|| "not a state to retry. Accepted: pending, buried; applied ones by `replay --from-journal`".to_owned())
}

#[derive(Debug, Default, Serialize)]
struct Retried {
    /// How many are due now.
    due: u64,
    /// Ids that name no message, or one that is ignored.
    missing: Vec<MessageId>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.state.is_none() && args.chosen != Chosen::default() {
        return Err(Usage("--type, --user, --org, --since and --until choose among messages of a --state".to_owned()).into());
    }
    let journal = args.place.open().await?;
    let retried = retry(&journal, &args).await;
    journal.close().await;
    let retried = retried?;
    if args.json {
        output::json(&retried)?;
    } else {
        output::line(&format!("{} made due; a running service applies them", count(retried.due)))?;
        let missing = retried.missing.iter();
        missing.map(|id| format!("{id} is not in the journal, or ignored")).try_for_each(|line| output::line(&line))?;
    }
    Ok(if retried.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn retry(journal: &SqlJournal, args: &Args) -> anyhow::Result<Retried> {
    if let Some(state) = args.state {
        let filter = args.chosen.filter(journal.now().await?, vec![state])?;
        return Ok(Retried { due: journal.retry_all(&filter).await?, missing: Vec::new() });
    }
    let due = journal.retry(&args.ids).await?;
    let missing = args.ids.iter().filter(|id| !due.iter().any(|due| due == id.as_str())).cloned().collect();
    Ok(Retried { due: due.len() as u64, missing })
}

fn count(messages: u64) -> String {
    format!("{messages} message{}", if messages == 1 { "" } else { "s" })
}
