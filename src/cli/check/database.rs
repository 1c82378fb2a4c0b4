//! The lines about the journal: whether it is there and of this release's form, what is open or buried, and when the last webhook
//! came. As for every operator it takes no lock, and creates and migrates nothing.

use std::path::Path;

use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{LOOK_TIME_MAX, Line, NO_ANSWER, not_looked_at};
use crate::cli::journal::age;
use crate::config::Settings;
use crate::journal::{self, Filter, OpenError, Row, Sharing, SqlJournal};
use crate::ports::{Journal, JournalError, JournalStats};
use crate::telemetry::ErrorChain;

const JOURNAL: &str = "journal";
const WEBHOOKS: &str = "webhooks";
const REACH: &str = "check DATABASE_URL, and that the database answers";

/// What was found; which journal it is, and the Clerk instance of its last message.
#[derive(Default)]
pub(super) struct Found {
    pub lines: Vec<Line>,
    pub journal: Option<String>,
    pub last_instance: Option<String>,
}

impl Found {
    fn only(line: Line) -> Self {
        Self { lines: vec![line], ..Self::default() }
    }
}

pub(super) async fn look(settings: &Settings) -> Found {
    let Ok(url) = settings.database_url() else { return Found::only(not_looked_at(JOURNAL, "DATABASE_URL")) };
    if let Some(line) = journal::file_of(&url).and_then(|file| not_made_yet(Path::new(file))) {
        return Found::only(line);
    }
    timeout(LOOK_TIME_MAX, look_into(url)).await.unwrap_or_else(|_| Found::only(Line::fail(JOURNAL, NO_ANSWER, REACH)))
}

/// A SQLite file that the first start makes.
fn not_made_yet(file: &Path) -> Option<Line> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (file.exists(), folder.is_dir()) {
        (true, _) => None,
        (false, true) => Some(Line::ok(JOURNAL, format!("{} is not there yet: the first start makes it", file.display()))),
        (false, false) => {
            let fix = "make the folder, on a disk that stays, or correct DATABASE_URL";
            Some(Line::fail(JOURNAL, format!("the folder of {} is not there", file.display()), fix))
        }
    }
}

async fn look_into(url: SecretString) -> Found {
    let journal = match SqlJournal::open(journal::Settings { url, io: Handle::current() }, Sharing::Operator).await {
        Ok(journal) => journal,
        Err(error @ OpenError::Missing) => {
            let fix = "run `rollcall migrate`, or start the service once";
            return Found::only(Line::warn(JOURNAL, told(&error), fix));
        }
        Err(error) => return Found::only(Line::fail(JOURNAL, ErrorChain(&error).to_string(), REACH)),
    };
    let (id, found) = (journal.id().to_owned(), read(&journal).await);
    let line = match &found {
        Ok((stats, _)) => stand(stats, journal.is_shareable()),
        Err(error) => Line::fail(JOURNAL, error.to_string(), REACH),
    };
    journal.close().await;
    let last = found.ok().and_then(|(_, last)| last);
    let webhooks = last.as_ref().map_or_else(never, |(row, now)| heard(row, *now));
    Found { lines: vec![line, webhooks], journal: Some(id), last_instance: last.and_then(|(row, _)| row.instance_id) }
}

type Last = Option<(Row, std::time::Duration)>;

async fn read(journal: &SqlJournal) -> Result<(JournalStats, Last), JournalError> {
    let stats = journal.stats().await?;
    let (last, now) = (journal.list(&Filter::default(), 1).await?.pop(), journal.now().await?);
    Ok((stats, last.map(|last| (last, now))))
}

fn stand(stats: &JournalStats, is_shareable: bool) -> Line {
    let kind = if is_shareable { "Postgres" } else { "SQLite" };
    let found = format!("{kind}, of this release's form; open: {}, buried: {}", stats.pending, stats.buried);
    match stats.buried {
        0 => Line::ok(JOURNAL, found),
        _ => Line::warn(JOURNAL, found, "look at what could not be read: `rollcall journal list --state buried`"),
    }
}

fn heard(row: &Row, now: std::time::Duration) -> Line {
    Line::ok(WEBHOOKS, format!("the last one came {}", age(row.last_seen_at_ms, now)))
}

fn never() -> Line {
    let fix = "register the endpoint in Clerk's dashboard, Configure, Webhooks, and send an example from its Testing tab";
    Line::warn(WEBHOOKS, "none ever came", fix)
}

/// What an error is, without what it says is to be done.
fn told(error: &OpenError) -> String {
    let text = error.to_string();
    text.split_once("; ").map_or(text.clone(), |(what, _)| what.to_owned())
}
