//! Who may run on this journal. A SQLite journal is one process's: a lock on a file beside it says whose, so that everybody
//! may still read the journal itself. A Postgres journal without Redis is one process's too, by a lock in the database.
//!
//! A process that is draining still holds its lock; whoever starts waits for it.

use std::fs::{File, TryLockError};
use std::sync::Mutex;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Any, Row};
use tokio::time::{Instant, sleep};
use tracing::info;

use super::Sharing;
use super::database::{Database, OpenError};

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// "rollcall", as the number that names the lock in Postgres.
const POSTGRES_LOCK: i64 = 0x726f_6c6c_6361_6c6c;

/// A lock, held until dropped.
pub(super) enum Lock {
    /// On a file beside the SQLite file.
    File(#[allow(dead_code, reason = "held for its drop")] File),
    /// In Postgres, as long as this connection lives.
    Connection(#[allow(dead_code, reason = "held for its drop; nobody takes the mutex")] Mutex<PoolConnection<Any>>),
}

/// Takes what this sharing needs; none where several processes may run.
pub(super) async fn take(database: &Database, sharing: Sharing, wait_max: Duration) -> Result<Option<Lock>, OpenError> {
    match (database.file(), sharing) {
        (_, Sharing::Operator) | (None, Sharing::Nodes) => Ok(None),
        (Some(path), _) => file(&format!("{path}.lock"), wait_max).await.map(Some),
        (None, Sharing::Alone) => advisory(database, wait_max).await.map(Some),
    }
}

async fn file(path: &str, wait_max: Duration) -> Result<Lock, OpenError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(OpenError::Lock)?;
    let mut patience = Patience::new(wait_max);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock::File(file)),
            Err(TryLockError::WouldBlock) => patience.wait(path).await?,
            Err(TryLockError::Error(error)) => return Err(OpenError::Lock(error)),
        }
    }
}

async fn advisory(database: &Database, wait_max: Duration) -> Result<Lock, OpenError> {
    let mut connection = database.pool().acquire().await.map_err(OpenError::Unreachable)?;
    let mut patience = Patience::new(wait_max);
    loop {
        let question = sqlx::query("select pg_try_advisory_lock($1)").bind(POSTGRES_LOCK);
        let row = question.fetch_one(&mut *connection).await.map_err(OpenError::Unreachable)?;
        if row.try_get(0).map_err(OpenError::Unreachable)? {
            return Ok(Lock::Connection(Mutex::new(connection)));
        }
        patience.wait("a lock in Postgres").await?;
    }
}

struct Patience {
    until: Instant,
    is_told: bool,
}

impl Patience {
    fn new(wait_max: Duration) -> Self {
        Self { until: Instant::now() + wait_max, is_told: false }
    }

    async fn wait(&mut self, what: &str) -> Result<(), OpenError> {
        if Instant::now() >= self.until {
            return Err(OpenError::InUse { what: what.to_owned() });
        }
        if !std::mem::replace(&mut self.is_told, true) {
            info!(lock = what, "another process is running on this journal: waiting for it to stop");
        }
        sleep(LOOK_AGAIN).await;
        Ok(())
    }
}
