//! The journal: every webhook message on disk, what became of it, and what an operator may ask of it. SQLite in a file of its
//! own, or Postgres for several nodes; one text of SQL for both.
//!
//! [`SqlJournal::open`] is the door. The intake, the worker and the repair use it through the port; the command line reads it
//! and asks for messages again. It knows nothing of what a payload means. Upholds I2 (what is recorded is durable) and I12.

mod advisory;
mod counts;
mod database;
mod filter;
mod lock;
mod migrations;
mod open_error;
mod outcomes;
mod replays;
mod rows;
mod store;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::runtime::Handle;

pub use counts::Counts;
pub use database::file_of;
pub use filter::{Filter, State};
pub use open_error::OpenError;
pub use replays::{Replay, ReplayStanding, Selection};
pub use rows::Row;

use database::Database;
use lock::Lock;

/// Requests under way have 8 s to end, then the process goes.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Which database, and on which runtime its connections live.
#[derive(Clone)]
pub struct Settings {
    /// `sqlite://path` or `postgres://…`.
    pub url: SecretString,
    /// The runtime that owns connections and the writer.
    pub io: Handle,
}

/// The journal in a database.
pub struct SqlJournal {
    database: Arc<Database>,
    /// Random, made with the database: nodes that share a Redis must share it.
    id: String,
    /// Keeps other processes out of a journal that is one process's own; freed when closed or dropped. Never held over an
    /// await.
    lock: Mutex<Option<Lock>>,
}

/// How many processes may run on one journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Several, if the database can bear it: they share their changes through Redis.
    Nodes,
    /// One: nobody else would hear of a change.
    Alone,
    /// Whoever only looks, or asks for messages again.
    Operator,
}

impl SqlJournal {
    /// Opens the journal, migrated. Waits for another process that is still draining, as long as a drain without a shutdown
    /// delay may take; an operator's access waits for nobody, and creates and migrates nothing.
    pub async fn open(settings: Settings, sharing: Sharing) -> Result<Self, OpenError> {
        Self::open_within(settings, sharing, DRAIN_TIME_MAX).await
    }

    /// The same, for a service that is given this much more time to stop.
    pub async fn open_delayed(settings: Settings, sharing: Sharing, delay: Duration) -> Result<Self, OpenError> {
        Self::open_within(settings, sharing, DRAIN_TIME_MAX + delay).await
    }

    async fn open_within(settings: Settings, sharing: Sharing, wait_max: Duration) -> Result<Self, OpenError> {
        let io = settings.io.clone();
        // Connections live on the runtime they were made on.
        io.spawn(Self::open_here(settings, sharing, wait_max)).await.map_err(|_| OpenError::Ended)?
    }

    async fn open_here(settings: Settings, sharing: Sharing, wait_max: Duration) -> Result<Self, OpenError> {
        let is_operator = sharing == Sharing::Operator;
        let database = Database::connect(&settings, !is_operator).await?;
        let lock = if is_operator { None } else { lock::take(&database, sharing, wait_max).await? };
        match is_operator {
            true => migrations::check(&database).await?,
            false => migrations::run(&database).await?,
        }
        let id = database.id().await?;
        Ok(Self { database: Arc::new(database), id, lock: Mutex::new(lock) })
    }

    /// Brings a database to the present form; answers the names of what was done.
    pub async fn migrate(settings: Settings) -> Result<Vec<String>, OpenError> {
        let io = settings.io.clone();
        let migrating = io.spawn(async move {
            let database = Database::connect(&settings, true).await?;
            let taken = migrations::run_and_tell(&database).await;
            database.close().await;
            taken
        });
        migrating.await.map_err(|_| OpenError::Ended)?
    }

    /// Which journal this is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether several nodes may run on it.
    pub fn is_shareable(&self) -> bool {
        self.database.dialect().is_shareable()
    }

    /// What this room counts.
    pub fn counts(&self) -> &Counts {
        self.database.counts()
    }

    /// Resolves when another process has taken this journal's lock, which was lost in an outage of the database; else never.
    pub async fn taken_over(&self) {
        let is_lost = self.lock.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Lock::is_lost);
        if let Some(mut is_lost) = is_lost
            && is_lost.wait_for(|is_lost| *is_lost).await.is_ok()
        {
            return;
        }
        // No lock that could be lost, or it was given back.
        std::future::pending().await
    }

    /// Closes the connections; what was accepted is written first. Then others may have the journal.
    pub async fn close(&self) {
        self.database.close().await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
