//! Who may run on this journal. A SQLite journal is one process's: a lock on a file beside it says whose, so that everybody
//! may still read the journal itself. A Postgres journal without Redis is one process's too, by a lock in the database; nodes
//! with a Redis share that lock, and so keep one without it out.
//!
//! A process that is draining still holds its lock; whoever starts waits for it.

use std::fs::{File, TryLockError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::Sharing;
use super::advisory::{Advisory, Hold};
use super::database::Database;
use super::open_error::OpenError;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A lock, held until dropped.
pub(super) enum Lock {
    /// On a file beside the SQLite file.
    File(#[allow(dead_code, reason = "held for its drop")] File),
    /// In Postgres.
    Advisory(Advisory),
}

impl Lock {
    /// Turns true when another process has taken the lock; none for a lock that cannot be lost.
    pub(super) fn is_lost(&self) -> Option<watch::Receiver<bool>> {
        match self {
            Self::File(_) => None,
            Self::Advisory(advisory) => Some(advisory.is_lost()),
        }
    }
}

/// Takes what this sharing needs; none where several processes may run.
pub(super) async fn take(database: &Database, sharing: Sharing, wait_max: Duration) -> Result<Option<Lock>, OpenError> {
    match (database.file(), sharing) {
        (_, Sharing::Operator) => Ok(None),
        (Some(path), _) => file(&format!("{path}.lock"), Patience::of(wait_max)).await.map(Some),
        (None, Sharing::Nodes) => advisory(database, Hold::Shared, Patience::of(wait_max)).await.map(Some),
        (None, Sharing::Alone) => advisory(database, Hold::Exclusive, Patience::of(wait_max)).await.map(Some),
    }
}

async fn file(path: &str, mut patience: Patience) -> Result<Lock, OpenError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(OpenError::Lock)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock::File(file)),
            Err(TryLockError::WouldBlock) => patience.wait(path).await?,
            Err(TryLockError::Error(error)) => return Err(OpenError::Lock(error)),
        }
    }
}

async fn advisory(database: &Database, hold: Hold, mut patience: Patience) -> Result<Lock, OpenError> {
    loop {
        if let Some(taken) = Advisory::try_take(database.url(), hold).await.map_err(OpenError::Unreachable)? {
            return Ok(Lock::Advisory(taken));
        }
        patience.wait("a lock in Postgres").await?;
    }
}

struct Patience {
    until: Instant,
    is_told: bool,
}

impl Patience {
    fn of(time: Duration) -> Self {
        Self { until: Instant::now() + time, is_told: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_in_use_is_waited_for_and_refused_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollcall.db.lock").display().to_string();
        let patience = || Patience::of(Duration::from_millis(250));
        let held = file(&path, patience()).await.unwrap();
        let began = Instant::now();
        assert!(matches!(file(&path, patience()).await, Err(OpenError::InUse { .. })));
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
        drop(held);
        file(&path, patience()).await.unwrap();
    }
}
