//! Why a journal cannot be opened, and what to do about it. Whoever opens one hears it; `check` tells the two apart.

use std::error::Error;
use std::fmt;

/// Why the journal cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// It cannot be reached or opened.
    Unreachable(sqlx::Error),
    /// An operator's command found no journal there.
    Missing,
    /// An operator's command found the journal of an earlier release.
    Outdated,
    /// Its form cannot be brought up to date.
    Migration(sqlx::migrate::MigrateError),
    /// Another process has it.
    InUse {
        /// Where the lock is.
        what: String,
    },
    /// The lock cannot be taken.
    Lock(std::io::Error),
    /// The runtime ended meanwhile.
    Ended,
}

impl OpenError {
    /// What is wrong; the cause is its source.
    pub fn what(&self) -> String {
        match self {
            Self::Unreachable(_) => "the journal cannot be opened".to_owned(),
            Self::Missing => "there is no journal here yet".to_owned(),
            Self::Outdated => "the journal is of an earlier release".to_owned(),
            Self::Migration(_) => "the journal cannot be migrated".to_owned(),
            Self::InUse { what } => format!("another process is running on this journal ({what})"),
            Self::Lock(_) => "the journal cannot be locked".to_owned(),
            Self::Ended => "the process is ending".to_owned(),
        }
    }

    /// What to do, where that can be told without the cause.
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) => Some("check DATABASE_URL, and that its folder can be written"),
            Self::Missing | Self::Outdated => Some("run `rollcall migrate`, or start the service once"),
            Self::InUse { .. } => Some("stop it, or give several nodes one Postgres and one Redis"),
            Self::Migration(_) | Self::Lock(_) | Self::Ended => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        self.fix().map_or(Ok(()), |fix| write!(f, "; {fix}"))
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Migration(error) => Some(error),
            Self::Lock(error) => Some(error),
            Self::Missing | Self::Outdated | Self::InUse { .. } | Self::Ended => None,
        }
    }
}
