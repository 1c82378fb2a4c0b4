//! The advisory lock in Postgres: shared by the nodes of one Redis, exclusive to a process without one. `lock` takes it.
//!
//! It lives as long as its connection, so that belongs to no pool. When it breaks another one takes the lock; should another
//! process have it by then, this one has to end: neither would hear of the other's changes.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{AnyConnection, Connection, Row};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::database::ANSWER_TIME_MAX;

/// "rollcall", as the number that names the lock.
const NUMBER: i64 = 0x726f_6c6c_6361_6c6c;
/// How often its connection is looked at, and how long that may take.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How it is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hold {
    /// With other nodes of the same Redis.
    Shared,
    /// By nobody else.
    Exclusive,
}

/// The lock, held until dropped.
pub(super) struct Advisory {
    /// Has the connection.
    keeping: AbortHandle,
    is_lost: watch::Receiver<bool>,
}

impl Drop for Advisory {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Advisory {
    /// Takes it; none while somebody else has it.
    pub(super) async fn try_take(url: &SecretString, hold: Hold) -> sqlx::Result<Option<Self>> {
        let attempt = Attempt::make(url, hold).await?;
        if !attempt.is_taken {
            attempt.connection.close().await?;
            return Ok(None);
        }
        let (losing, is_lost) = watch::channel(false);
        let keeping = tokio::spawn(keep(attempt, url.clone(), hold, losing)).abort_handle();
        Ok(Some(Self { keeping, is_lost }))
    }

    /// Turns true when another process has it.
    pub(super) fn is_lost(&self) -> watch::Receiver<bool> {
        self.is_lost.clone()
    }
}

/// A connection that has the lock, or not.
struct Attempt {
    connection: AnyConnection,
    /// The server's process behind it.
    backend: i32,
    is_taken: bool,
}

impl Attempt {
    async fn make(url: &SecretString, hold: Hold) -> sqlx::Result<Self> {
        let trying = async {
            let mut connection = AnyConnection::connect(url.expose_secret()).await?;
            let sql = match hold {
                Hold::Shared => "select pg_backend_pid() as backend, pg_try_advisory_lock_shared($1) as is_taken",
                Hold::Exclusive => "select pg_backend_pid() as backend, pg_try_advisory_lock($1) as is_taken",
            };
            let row = sqlx::query(sql).bind(NUMBER).fetch_one(&mut connection).await?;
            Ok(Self { connection, backend: row.try_get("backend")?, is_taken: row.try_get("is_taken")? })
        };
        timeout(ANSWER_TIME_MAX, trying).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }

    /// Ends the server's process behind a broken connection of ours, if that still has the lock: Postgres may take long to
    /// notice the break. Whether it had it, or that cannot be told.
    async fn end(&mut self, backend: i32) -> bool {
        let sql = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and pid = $1
            and (cast(classid as bigint) << 32) | cast(objid as bigint) = $2";
        let ending = sqlx::query(sql).bind(backend).bind(NUMBER).fetch_optional(&mut self.connection);
        !matches!(timeout(ANSWER_TIME_MAX, ending).await, Ok(Ok(None)))
    }
}

async fn keep(mut held: Attempt, url: SecretString, hold: Hold, losing: watch::Sender<bool>) {
    loop {
        sleep(KEEP_EVERY).await;
        if timeout(KEEP_EVERY, held.connection.ping()).await.is_ok_and(|alive| alive.is_ok()) {
            continue;
        }
        warn!("the lock in Postgres is lost: taken again when the database answers");
        held = loop {
            match Attempt::make(&url, hold).await {
                Ok(attempt) if attempt.is_taken => break attempt,
                Ok(mut attempt) => {
                    if !attempt.end(held.backend).await {
                        error!(
                            "a process that shares no Redis with this one has taken the journal: stopping, for neither hears of the other"
                        );
                        losing.send_replace(true);
                        return;
                    }
                }
                // Away; everybody else says so too.
                Err(_) => {}
            }
            sleep(KEEP_EVERY).await;
        };
    }
}
