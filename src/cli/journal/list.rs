//! `rollcall journal list`: messages by filter, the latest first. No payload is in it, and so nothing of a person but ids.

use std::process::ExitCode;
use std::time::Duration;

use super::{Chosen, Place, words};
use crate::cli::output;
use crate::journal::{Row, State};

/// Arguments of `journal list`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 listed, 1 failed, 2 typed wrongly, 78 bad configuration")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Messages in this state
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// A state by its word.
pub(super) fn state(text: &str) -> Result<State, String> {
    let all = [State::Pending, State::Applied, State::Ignored, State::Buried];
    let found = all.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "not a state. Accepted: pending, applied, ignored, buried".to_owned())
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let journal = args.place.open().await?;
    let now = journal.now().await?;
    let filter = args.chosen.filter(now, args.state.into_iter().collect())?;
    let rows = journal.list(&filter, args.limit).await?;
    journal.close().await;
    if args.json {
        output::json(&rows)?;
    } else if rows.is_empty() {
        output::line("no messages")?;
    } else {
        let head = ["received", "message", "type", "state", "user", "organization", "seen", "tries", ""];
        let mut table = vec![head.map(|title| (title.to_owned(), None)).to_vec()];
        table.extend(rows.iter().map(|row| cells(row, now)));
        output::table(&table).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Row, now: Duration) -> Vec<(String, Option<output::Colour>)> {
    let or_none = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
    let texts = [
        words::age(row.received_at_ms, now),
        row.message_id.clone(),
        row.event_type.clone(),
        row.state.clone(),
        or_none(&row.user_id),
        or_none(&row.org_id),
        row.deliveries.to_string(),
        row.attempts.to_string(),
        note(row, now),
    ];
    let mut cells = texts.map(|text| (text, None)).to_vec();
    cells[3].1 = words::colour(&row.state);
    cells
}

/// Who applied it, or why it is open or buried.
fn note(row: &Row, now: Duration) -> String {
    let due = row.next_attempt_at_ms.filter(|_| row.state == "pending").map(|at_ms| match words::age(at_ms, now) {
        ahead if ahead.starts_with("in ") => format!("next try {ahead}"),
        _ => "due".to_owned(),
    });
    let by = row.applied_by.as_ref().filter(|_| row.state == "applied").map(|by| format!("by {by}"));
    [due, by, row.reason.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ")
}
