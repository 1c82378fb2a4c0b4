//! The write lock of a SQLite file, held as another process holds it: whoever wants to write waits, whoever reads does not.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

/// The lock. Let it go by `release`.
pub struct SqliteLock(SqliteConnection);

impl SqliteLock {
    /// Takes it; nothing is written under it.
    pub async fn take(file: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(10));
        let mut connection = options.connect().await.expect("the file opens");
        sqlx::query("begin immediate").execute(&mut connection).await.expect("the lock is free in time");
        Self(connection)
    }

    /// Lets it go.
    pub async fn release(mut self) {
        sqlx::query("rollback").execute(&mut self.0).await.expect("nothing was written");
        self.0.close().await.expect("it closes");
    }
}
