//! One database behind two dialects: connections, the writer, and the few words in which SQLite and Postgres differ.
//!
//! SQLite has one writer that groups commits; Postgres groups them itself, so each write there is a transaction of its own.
//! Every call has a deadline. Upholds I12.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Row};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::Settings;
use super::counts::Counts;
use super::open_error::OpenError;
use super::writer::Writer;
use crate::ports::JournalError;

/// The intake waits no longer for a record: the sender gives up after 15 s, and applying needs its time.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a start waits for a Postgres that is starting too.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two tries.
const CONNECT_AGAIN: Duration = Duration::from_millis(250);
/// How long a connection to Postgres may take to come back from what was given up.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(1);
/// After a write failed, the journal counts as away for so long.
const FAILING_FOR: Duration = Duration::from_secs(5);
/// How long SQLite waits for another process's lock.
const BUSY_TIME_MAX_MS: u32 = 1_000;
/// Readers of SQLite: an operator's list beside statistics.
const SQLITE_READERS_MAX: u32 = 4;
/// Enough for the deliveries taken at once to overlap their round trips.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;

/// The SQLite file that a URL names; none where it names a server.
pub fn file_of(url: &SecretString) -> Option<&str> {
    let path = url.expose_secret().strip_prefix("sqlite:")?.trim_start_matches("//");
    Some(path.split('?').next().unwrap_or(path))
}

/// SQLite or Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    fn of(url: &str) -> Self {
        if url.starts_with("sqlite:") { Self::Sqlite } else { Self::Postgres }
    }

    pub(super) fn is_shareable(self) -> bool {
        self == Self::Postgres
    }

    /// Whether writers wait for each other row by row.
    pub(super) fn locks_rows(self) -> bool {
        self == Self::Postgres
    }

    /// A statement in this dialect: `{now}` is the database's time in milliseconds, `{ids}` the texts in the JSON array `$1`,
    /// `{delays}` the rows (id, delay_ms) of the JSON object `$1`, `{for_update}` takes rows, `{skip_locked}` those that nobody
    /// else has. `{is_open}` and `{is_done}` are for rows chosen by id: without a word SQLite would look through all of a state
    /// instead; `{by_open_ids}` names it the index for a walk. Values only ever come as parameters.
    pub(super) fn sql(self, text: &'static str) -> AssertSqlSafe<String> {
        let words = match self {
            Self::Sqlite => [
                ("{now}", "cast(unixepoch('subsec') * 1000 as integer)"),
                ("{ids}", "(select value from json_each($1))"),
                ("{delays}", "(select key as id, value as delay_ms from json_each($1))"),
                ("{is_open}", "+state = 'pending'"),
                ("{is_done}", "+state in ('applied', 'buried')"),
                ("{by_open_ids}", "indexed by webhook_messages_open_ids"),
                ("{for_update}", ""),
                ("{skip_locked}", ""),
            ],
            Self::Postgres => [
                ("{now}", "cast(extract(epoch from statement_timestamp()) * 1000 as bigint)"),
                ("{ids}", "(select json_array_elements_text(cast($1 as json)))"),
                ("{delays}", "(select key as id, cast(value as bigint) as delay_ms from json_each_text(cast($1 as json)))"),
                ("{is_open}", "state = 'pending'"),
                ("{is_done}", "state in ('applied', 'buried')"),
                ("{by_open_ids}", ""),
                ("{for_update}", "for update"),
                ("{skip_locked}", "for update skip locked"),
            ],
        };
        AssertSqlSafe(words.into_iter().fold(text.to_owned(), |text, (word, sql)| text.replace(word, sql)))
    }
}

/// The database, connected.
pub(super) struct Database {
    dialect: Dialect,
    url: SecretString,
    pool: AnyPool,
    writer: Option<Writer>,
    counts: Counts,
    /// When a write failed last. Guards itself only.
    failed_at: Mutex<Option<Instant>>,
}

impl Database {
    pub(super) async fn connect(settings: &Settings, may_create: bool) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let (url, counts) = (settings.url.expose_secret(), Counts::default());
        let dialect = Dialect::of(url);
        let (pool, writer) = match dialect {
            Dialect::Postgres => (postgres(url, if may_create { CONNECT_TIME_MAX } else { ANSWER_TIME_MAX }).await?, None),
            Dialect::Sqlite => {
                let url = with_mode(url, may_create);
                // The writer first: it creates the file.
                let writing = sqlite(&url, 1, may_create).await?;
                (sqlite(&url, SQLITE_READERS_MAX, may_create).await?, Some(Writer::spawn(writing, counts.clone())))
            }
        };
        Ok(Self { dialect, url: settings.url.clone(), pool, writer, counts, failed_at: Mutex::default() })
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// For what is not grouped: reads, migrations, locks.
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    pub(super) fn url(&self) -> &SecretString {
        &self.url
    }

    /// The SQLite file.
    pub(super) fn file(&self) -> Option<&str> {
        file_of(&self.url)
    }

    /// Writes: Ok means that it is durable. Work that fails leaves nothing behind. A drop leaves it to happen or not.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, JournalError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        let written = match &self.writer {
            Some(writer) => timeout(ANSWER_TIME_MAX, writer.write(work)).await,
            None => timeout(ANSWER_TIME_MAX, self.transact(work)).await,
        };
        let written = written.unwrap_or(Err(JournalError::TimedOut));
        if written.is_err() {
            self.counts.writes_failed.inc();
            *self.failed_at() = Some(Instant::now());
        }
        written
    }

    /// Fails while writes do, though reads may go well: a locked file and a full disk can be read.
    pub(super) fn check_writes(&self) -> Result<(), JournalError> {
        let is_failing = self.failed_at().is_some_and(|at| at.elapsed() < FAILING_FOR);
        let failing = || JournalError::Unavailable { what: "writes failed a moment ago".to_owned() };
        if is_failing { Err(failing()) } else { Ok(()) }
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn transact<T, W>(&self, work: W) -> Result<T, JournalError>
    where
        W: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        let began = Instant::now();
        let mut transaction = self.pool.begin().await.map_err(unavailable)?;
        let done = work(&mut transaction).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        self.counts.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.counts.commit_writes.observe(1.0);
        Ok(done)
    }

    /// Reads, within the same time.
    pub(super) async fn read<T>(&self, work: impl Future<Output = sqlx::Result<T>>) -> Result<T, JournalError> {
        self.read_within(ANSWER_TIME_MAX, work).await
    }

    /// Reads what nobody waits for.
    pub(super) async fn read_within<T>(
        &self,
        time_max: Duration,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, JournalError> {
        timeout(time_max, work).await.map_err(|_| JournalError::TimedOut)?.map_err(unavailable)
    }

    pub(super) async fn id(&self) -> Result<String, OpenError> {
        let asking = sqlx::query("select journal_id from journal_identity").fetch_one(&self.pool);
        let row = timeout(CONNECT_TIME_MAX, asking).await.unwrap_or_else(|_| Err(silent()));
        row.and_then(|row| row.try_get(0)).map_err(OpenError::Unreachable)
    }

    pub(super) async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        self.pool.close().await;
    }
}

/// A commit means the disk, whatever is the default there; and a node that stops in the middle of a transaction does not keep
/// its rows from the others. A connection that went silent is not waited for when it is given back.
async fn postgres(url: &str, wait_max: Duration) -> Result<AnyPool, OpenError> {
    let options = AnyPoolOptions::new().max_connections(POSTGRES_CONNECTIONS_MAX).acquire_timeout(ANSWER_TIME_MAX);
    let options = options.after_connect(|connection, _| {
        Box::pin(async move {
            let settings = "select set_config('synchronous_commit', 'on', false)
                    where current_setting('synchronous_commit') in ('off', 'local');
                set idle_in_transaction_session_timeout = '5s'";
            sqlx::raw_sql(settings).execute(connection).await.map(|_| ())
        })
    });
    let options = options.after_release(|connection, _| {
        Box::pin(async move { timeout(RELEASE_TIME_MAX, connection.ping()).await.map_err(|_| silent())?.map(|()| true) })
    });
    wait_for(url, wait_max).await?;
    options.connect(url).await.map_err(OpenError::Unreachable)
}

/// A start that comes before its database waits a while; a pool would not say what it waited for.
async fn wait_for(url: &str, wait_max: Duration) -> Result<(), OpenError> {
    let until = Instant::now() + wait_max;
    let mut is_told = false;
    loop {
        let tried = timeout(until.saturating_duration_since(Instant::now()), AnyConnection::connect(url)).await;
        match tried.unwrap_or_else(|_| Err(silent())) {
            Ok(connection) => {
                // It answered, and that was all that was asked.
                let _ = timeout(RELEASE_TIME_MAX, connection.close()).await;
                return Ok(());
            }
            Err(error) if !is_away(&error) || Instant::now() + CONNECT_AGAIN >= until => {
                return Err(OpenError::Unreachable(error));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    info!(error = unavailable(error).to_string(), "Postgres does not answer yet: waiting for it");
                }
                sleep(CONNECT_AGAIN).await;
            }
        }
    }
}

/// The error of a connection that carries nothing any more.
pub(super) fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Whether waiting may help: nobody listens, the server is starting or stopping, or all its connections are taken.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

/// WAL lets others read beside the writer; FULL makes a commit mean the disk. What is sorted stays in memory: a container's
/// root may be read-only. WAL stays in the file for good, and whoever may not create may have been sent to a file of somebody
/// else's: he takes it as it is.
async fn sqlite(url: &str, connections: u32, may_create: bool) -> Result<AnyPool, OpenError> {
    let mode = if may_create { "pragma journal_mode = wal;" } else { "" };
    let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(ANSWER_TIME_MAX);
    let options = options.after_connect(move |connection, _| {
        Box::pin(async move {
            let pragmas = format!(
                "pragma busy_timeout = {BUSY_TIME_MAX_MS}; {mode} pragma synchronous = full; pragma temp_store = memory;"
            );
            sqlx::raw_sql(AssertSqlSafe(pragmas)).execute(connection).await.map(|_| ())
        })
    });
    options.connect(url).await.map_err(OpenError::Unreachable)
}

/// Whoever may not create does not, whatever the URL says.
fn with_mode(url: &str, may_create: bool) -> String {
    match (url.contains("mode="), may_create) {
        (true, true) => url.to_owned(),
        (true, false) => url.replace("mode=rwc", "mode=rw"),
        (false, _) => {
            let mode = if may_create { "rwc" } else { "rw" };
            format!("{url}{}mode={mode}", if url.contains('?') { '&' } else { '?' })
        }
    }
}

/// A phrase without a value of any row: a database's own message may repeat one.
pub(super) fn unavailable(error: sqlx::Error) -> JournalError {
    let what = match &error {
        sqlx::Error::PoolTimedOut => return JournalError::TimedOut,
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("the database refuses ({})", meaning(&code)),
            None => "the database refuses".to_owned(),
        },
        sqlx::Error::Io(error) => format!("the connection failed: {}", error.kind()),
        sqlx::Error::PoolClosed => "it is closed".to_owned(),
        sqlx::Error::WorkerCrashed => "its thread ended".to_owned(),
        _ => "an answer that cannot be read".to_owned(),
    };
    JournalError::Unavailable { what }
}

/// SQLite's primary codes in words; others as they are.
fn meaning(code: &str) -> String {
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) if code.len() <= 4 => "locked by another process".to_owned(),
        Ok(13) if code.len() <= 4 => "the disk is full".to_owned(),
        Ok(10) if code.len() <= 4 => "the disk fails".to_owned(),
        Ok(8) if code.len() <= 4 => "it is read-only".to_owned(),
        _ => format!("code {code}"),
    }
}
