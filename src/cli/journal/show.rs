//! `rollcall journal show`: everything of one message, its payload included. Where whole bodies are kept, that holds names and
//! addresses of people.

use std::process::ExitCode;
use std::time::Duration;

use super::{Place, words};
use crate::cli::output;
use crate::domain::MessageId;
use crate::journal::Row;

/// Arguments of `journal show`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 shown, 1 not there or failed, 2 typed wrongly, 78 bad configuration")]
pub(in crate::cli) struct Args {
    /// The message
    #[arg(value_name = "ID", value_parser = MessageId::parse)]
    id: MessageId,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let journal = args.place.open().await?;
    let (now, row) = (journal.now().await?, journal.show(&args.id).await?);
    journal.close().await;
    let Some(row) = row else { anyhow::bail!("there is no message {} in the journal", args.id) };
    if args.json {
        output::json(&row)?;
    } else {
        let line = |(name, text): (&str, String)| {
            let colour = words::colour(&row.state).filter(|_| name == "state");
            vec![(name.to_owned(), None), (text, colour)]
        };
        let table: Vec<_> = told(&row, now).into_iter().map(line).collect();
        output::table(&table).iter().try_for_each(|line| output::line(line))?;
        if let Some(payload) = &row.payload {
            output::line(&serde_json::to_string_pretty(payload)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to tell, in order; what is none is left out.
fn told(row: &Row, now: Duration) -> Vec<(&'static str, String)> {
    let moment = |at_ms: Option<i64>| at_ms.map(|at_ms| words::moment(at_ms, now));
    let is_open = row.state == "pending";
    let all = [
        ("message", Some(row.message_id.clone())),
        ("type", Some(row.event_type.clone())),
        ("state", Some(row.state.clone())),
        ("reason", row.reason.clone()),
        ("user", row.user_id.clone()),
        ("organization", row.org_id.clone()),
        ("membership", row.membership_id.clone()),
        ("session", row.session_id.clone()),
        ("instance", row.instance_id.clone()),
        ("happened", moment(row.occurred_at_ms)),
        ("entity updated", moment(row.entity_updated_at_ms)),
        ("received", moment(Some(row.received_at_ms))),
        ("last seen", moment(Some(row.last_seen_at_ms))),
        ("deliveries", Some(row.deliveries.to_string())),
        ("tries", Some(row.attempts.to_string())),
        ("open since", moment(Some(row.opened_at_ms)).filter(|_| is_open)),
        ("next try", moment(row.next_attempt_at_ms).filter(|_| is_open)),
        ("applied", moment(row.applied_at_ms)),
        ("applied by", row.applied_by.clone()),
        ("replay", row.replay_id.map(|id| id.to_string())),
        ("payload", row.payload.is_none().then(|| "none".to_owned())),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}
