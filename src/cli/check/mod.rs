//! `rollcall check`: whether a service could start here, and would work: every setting and where it comes from, Clerk, Redis, the
//! journal, the clocks. It looks and changes nothing; a service may run beside it.
//!
//! What is found wrong keeps nothing else from being looked at. Three looks go side by side, each within its time, so that
//! whatever hangs costs its own lines only; what one found another may be compared with comes last. No line holds a secret.

mod clerk;
mod configuration;
mod database;
mod line;
mod redis;
mod token_keys;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{BAD_CONFIGURATION, output};
use crate::config::{Environment, Settings, Typed};
use line::{Line, Status};

/// Everything looked at answers in less, or is to be looked into.
const LOOK_TIME_MAX: Duration = Duration::from_secs(6);
const NO_ANSWER: &str = "no answer within 6 s";

/// Arguments of `check`: every setting has a flag, as in `serve`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 all good, though some lines may warn, 1 something failed, 2 typed wrongly, 78 bad configuration"
)]
pub(super) struct Args {
    /// Prints JSON: an array of name, status (ok, warn, fail), found and, unless ok, fix
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    typed: Typed,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    let (lines, is_bad_configuration) = io.block_on(look(args.typed))?;
    if args.json {
        output::json(&lines)?;
    } else {
        let table: Vec<_> = lines.iter().map(Line::cells).collect();
        output::table(&table).iter().try_for_each(|line| output::line(line))?;
    }
    let has_failed = lines.iter().any(|line| line.status == Status::Fail);
    Ok(match (is_bad_configuration, has_failed) {
        (true, _) => ExitCode::from(BAD_CONFIGURATION),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Every line, and whether the configuration itself is bad.
async fn look(typed: Typed) -> anyhow::Result<(Vec<Line>, bool)> {
    // Files are read: one that never ends, or lies on a server that is away, must not hold this up.
    let reading = tokio::task::spawn_blocking(move || Settings::look(&typed, &Environment::of_process()));
    let Ok(read) = timeout(LOOK_TIME_MAX, reading).await else {
        // Nothing else is known to look at.
        let fix =
            "look at what ROLLCALL_CONFIG and every variable that ends in _FILE name: nobody writes it, or its disk is away";
        return Ok((vec![Line::fail("configuration", "its files cannot be read in time", fix)], true));
    };
    let (settings, unread) = read.context("the configuration was not read")?;
    let mut lines = configuration::lines(&settings, &unread);
    let is_bad = lines.iter().any(|line| line.status == Status::Fail);

    let (clerk, redis, database) = tokio::join!(clerk::look(&settings), redis::look(&settings), database::look(&settings));
    let (instance, journal) = (clerk.instance.as_deref(), &database.journal);
    lines.extend(clerk.lines);
    lines.extend(database.lines);
    lines.extend(database.last_instance.and_then(|of_webhooks| clerk::compare(&of_webhooks, instance)));
    lines.extend(redis.lines(instance, journal));
    Ok((lines, is_bad))
}

/// What was not looked at, for the setting that says where it is cannot be used.
fn not_looked_at(name: &'static str, setting: &str) -> Line {
    Line::warn(name, "not looked at", format!("correct {setting} first"))
}
