//! Who may run on this journal. A SQLite journal is one process's: a lock on a file beside it says whose, so that everybody
//! may still read the journal itself. A Postgres journal without Redis is one process's too, by a lock in the database; nodes
//! with a Redis share that lock, and so keep one without it out.
//!
//! A process that is draining still holds its lock; whoever starts waits for it. A lock in Postgres lives as long as its
//! connection, so that connection belongs to no pool, and is made anew when it breaks. Should another process have taken the
//! lock by then, this one has to end: neither would hear of the other's changes.

use std::fs::{File, TryLockError};
use std::time::Duration;

use sqlx::{AnyConnection, AnyPool, Connection, Row};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::Sharing;
use super::database::{Database, OpenError};

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// "rollcall", as the number that names the lock in Postgres.
const POSTGRES_LOCK: i64 = 0x726f_6c6c_6361_6c6c;

/// How often the connection of a lock in Postgres is looked at.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// A lock, held until dropped.
pub(super) enum Lock {
    /// On a file beside the SQLite file.
    File(#[allow(dead_code, reason = "held for its drop")] File),
    /// In Postgres, as long as this task holds its connection.
    Kept(Keeper),
}

/// Ends the task that keeps a lock when dropped, and with it the lock.
pub(super) struct Keeper {
    task: AbortHandle,
    is_lost: watch::Receiver<bool>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lock {
    /// Turns true when another process has taken the lock; none for a lock that cannot be lost.
    pub(super) fn is_lost(&self) -> Option<watch::Receiver<bool>> {
        match self {
            Self::File(_) => None,
            Self::Kept(keeper) => Some(keeper.is_lost.clone()),
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

/// How a lock in Postgres is held.
#[derive(Debug, Clone, Copy)]
enum Hold {
    /// With other nodes of the same Redis.
    Shared,
    /// By nobody else.
    Exclusive,
}

async fn advisory(database: &Database, hold: Hold, mut patience: Patience) -> Result<Lock, OpenError> {
    loop {
        let locked = try_advisory(database.pool(), hold).await.map_err(OpenError::Unreachable)?;
        if let Some(connection) = locked {
            let (losing, is_lost) = watch::channel(false);
            let keeping = tokio::spawn(keep(connection, hold, database.pool().clone(), losing));
            return Ok(Lock::Kept(Keeper { task: keeping.abort_handle(), is_lost }));
        }
        patience.wait("a lock in Postgres").await?;
    }
}

/// A connection that holds the lock; none while another process has it.
async fn try_advisory(pool: &AnyPool, hold: Hold) -> sqlx::Result<Option<AnyConnection>> {
    let mut connection = pool.acquire().await?.detach();
    let sql = match hold {
        Hold::Shared => "select pg_try_advisory_lock_shared($1)",
        Hold::Exclusive => "select pg_try_advisory_lock($1)",
    };
    let is_ours = sqlx::query(sql).bind(POSTGRES_LOCK).fetch_one(&mut connection).await?.try_get(0)?;
    Ok(Some(connection).filter(|_| is_ours))
}

/// Notices when the connection breaks, and takes the lock again; ends when another process has it.
async fn keep(connection: AnyConnection, hold: Hold, pool: AnyPool, losing: watch::Sender<bool>) {
    let mut held = Some(connection);
    while !pool.is_closed() {
        sleep(KEEP_EVERY).await;
        if let Some(connection) = &mut held {
            if timeout(KEEP_EVERY, connection.ping()).await.is_ok_and(|alive| alive.is_ok()) {
                continue;
            }
            warn!("the lock in Postgres is lost: taken again when the database answers");
            held = None;
        }
        match try_advisory(&pool, hold).await {
            Ok(None) => {
                error!(
                    "a process that shares no Redis with this one has taken the journal: stopping, for neither hears of the other"
                );
                losing.send_replace(true);
                return;
            }
            Ok(taken) => held = taken,
            // Away; everybody else says so too.
            Err(_) => {}
        }
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
