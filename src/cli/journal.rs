//! `rollcall journal …`: what was received and what became of it, for operators. Runs beside the service: it takes no lock,
//! and creates and migrates nothing. It applies nothing either: what it makes due, the worker of a running service applies.

use std::process::ExitCode;

use clap::Subcommand;
use secrecy::SecretString;
use tokio::runtime::Handle;

use crate::config::{ConfigError, Environment, Name, Settings, Typed};
use crate::journal::{self, Sharing, SqlJournal};

mod chosen;
mod list;
mod retry;
mod show;
mod stats;
mod words;

pub(super) use chosen::Chosen;
pub(super) use words::{age, span};

/// What can be done with the journal.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Lists messages, the latest first
    List(list::Args),
    /// Shows one message with its payload
    Show(show::Args),
    /// Makes messages due now; the running service applies them
    Retry(retry::Args),
    /// Counts the messages in each state
    Stats(stats::Args),
}

pub(super) fn run(verb: Verb, io: &Handle) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List(args) => io.block_on(list::run(args)),
        Verb::Show(args) => io.block_on(show::run(args)),
        Verb::Retry(args) => io.block_on(retry::run(args)),
        Verb::Stats(args) => io.block_on(stats::run(args)),
    }
}

/// Where the journal is. No `Debug`: the URL may hold a password.
#[derive(clap::Args)]
pub(super) struct Place {
    /// The journal [env: DATABASE_URL] [default: sqlite://rollcall.db]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Place {
    /// Whether it was typed.
    pub(super) fn is_typed(&self) -> bool {
        self.database_url.is_some()
    }

    /// The URL: flag, environment, file or default.
    pub(super) fn url(&self) -> Result<SecretString, ConfigError> {
        let typed = Typed::only(Name::DatabaseUrl, self.database_url.clone());
        Settings::gather(&typed, &Environment::of_process())?.database_url()
    }

    /// The journal that is there.
    pub(super) async fn open(&self) -> anyhow::Result<SqlJournal> {
        let settings = journal::Settings { url: self.url()?, io: Handle::current() };
        Ok(SqlJournal::open(settings, Sharing::Operator).await?)
    }
}
