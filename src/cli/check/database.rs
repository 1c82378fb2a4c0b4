//! The lines about the journal: whether it is there and of this release's form, what is open or buried, and when the last webhook
//! came. As for every operator it takes no lock, and creates and migrates nothing.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{LOOK_TIME_MAX, Line, NO_ANSWER, not_looked_at};
use crate::cli::journal::age;
use crate::config::Settings;
use crate::journal::{self, Filter, OpenError, Sharing, SqlJournal};
use crate::ports::{Journal, JournalError, JournalStats};
use crate::telemetry::ErrorChain;

const JOURNAL: &str = "journal";
const WEBHOOKS: &str = "webhooks";
const REACH: &str = "check DATABASE_URL, and that the database answers";

/// What was found; which journal it is, and the Clerk instance of its last message.
#[derive(Default)]
pub(super) struct Found {
    pub lines: Vec<Line>,
    pub journal: OurJournal,
    pub last_instance: Option<String>,
}

/// Which journal a service that starts here would have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum OurJournal {
    #[default]
    Unknown,
    /// A new one.
    NotMadeYet,
    Id(String),
}

impl Found {
    fn only(line: Line) -> Self {
        Self { lines: vec![line], ..Self::default() }
    }
}

pub(super) async fn look(settings: &Settings) -> Found {
    let Ok(url) = settings.database_url() else { return Found::only(not_looked_at(JOURNAL, "DATABASE_URL")) };
    if let Some(line) = journal::file_of(&url).and_then(|file| not_usable_yet(Path::new(file))) {
        return Found { journal: OurJournal::NotMadeYet, ..Found::only(line) };
    }
    timeout(LOOK_TIME_MAX, look_into(url)).await.unwrap_or_else(|_| Found::only(Line::fail(JOURNAL, NO_ANSWER, REACH)))
}

/// A SQLite file that the first start makes, or that it could not write.
fn not_usable_yet(file: &Path) -> Option<Line> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file_name = file.display();
    let may_write = access(folder, Access::WRITE_OK).is_ok();
    match (file.exists(), folder.is_dir(), may_write) {
        (true, ..) if may_write && access(file, Access::WRITE_OK).is_ok() => None,
        (true, ..) => {
            let fix = "let whoever runs this write the file and its folder (chown), or correct DATABASE_URL";
            Some(Line::fail(JOURNAL, format!("{file_name} or its folder cannot be written"), fix))
        }
        (false, true, true) => Some(Line::ok(JOURNAL, format!("{file_name} is not there yet: the first start makes it"))),
        (false, true, false) => {
            let fix = "let whoever runs this write there, or correct DATABASE_URL";
            Some(Line::fail(JOURNAL, format!("the folder of {file_name} cannot be written"), fix))
        }
        (false, false, _) => {
            let fix = "make the folder, on a disk that stays, or correct DATABASE_URL";
            Some(Line::fail(JOURNAL, format!("the folder of {file_name} is not there"), fix))
        }
    }
}

async fn look_into(url: SecretString) -> Found {
    let journal = match SqlJournal::open(journal::Settings { url, io: Handle::current() }, Sharing::Operator).await {
        Ok(journal) => journal,
        Err(error) => return not_opened(&error),
    };
    let (id, found) = (journal.id().to_owned(), read(&journal).await);
    let line = match &found {
        Ok(seen) => stand(&seen.stats, journal.is_shareable()),
        Err(error) => Line::fail(JOURNAL, error.to_string(), REACH),
    };
    journal.close().await;
    let journal = OurJournal::Id(id);
    match found {
        Ok(seen) => Found { lines: vec![line, webhooks(&seen)], journal, last_instance: seen.last_instance },
        Err(_) => Found { journal, ..Found::only(line) },
    }
}

/// What is not made, or not of this form, the next start sets right.
fn not_opened(error: &OpenError) -> Found {
    let found = match error.source() {
        Some(cause) => format!("{}: {}", error.what(), ErrorChain(cause)),
        None => error.what(),
    };
    let fix = error.fix().unwrap_or(REACH);
    match error {
        OpenError::Missing => Found { journal: OurJournal::NotMadeYet, ..Found::only(Line::warn(JOURNAL, found, fix)) },
        OpenError::Outdated => Found::only(Line::warn(JOURNAL, found, fix)),
        OpenError::Unreachable(_) | OpenError::Migration(_) | OpenError::InUse { .. } | OpenError::Lock(_) | OpenError::Ended => {
            Found::only(Line::fail(JOURNAL, found, fix))
        }
    }
}

struct Seen {
    stats: JournalStats,
    /// By the database's own clock, as `now` is.
    last_seen_at_ms: Option<i64>,
    now: Duration,
    last_instance: Option<String>,
}

async fn read(journal: &SqlJournal) -> Result<Seen, JournalError> {
    let stats = journal.stats().await?;
    let last_seen_at_ms = journal.last_seen_ms().await?;
    let (last, now) = (journal.list(&Filter::default(), 1).await?.pop(), journal.now().await?);
    Ok(Seen { stats, last_seen_at_ms, now, last_instance: last.and_then(|row| row.instance_id) })
}

fn stand(stats: &JournalStats, is_shareable: bool) -> Line {
    let kind = if is_shareable { "Postgres" } else { "SQLite" };
    let found = format!("{kind}, of this release's form; open: {}, buried: {}", stats.pending, stats.buried);
    match stats.buried {
        0 => Line::ok(JOURNAL, found),
        _ => Line::warn(JOURNAL, found, "look at what could not be read: `rollcall journal list --state buried`"),
    }
}

fn webhooks(seen: &Seen) -> Line {
    match seen.last_seen_at_ms {
        Some(at_ms) => Line::ok(WEBHOOKS, format!("the last one came {}", age(at_ms, seen.now))),
        None => {
            let fix = "register the endpoint in Clerk's dashboard, Configure, Webhooks, and send an example from its Testing tab";
            Line::warn(WEBHOOKS, "none ever came", fix)
        }
    }
}
