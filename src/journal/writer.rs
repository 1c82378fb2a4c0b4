//! The one writer of SQLite: a task that takes what waits, runs it in one transaction and commits once for all of it.
//!
//! A commit costs a flush of the disk, whatever is in it; so what arrives while one is under way shares the next. Whoever
//! waits hears only after the commit. If anything of a batch fails, all of it is rolled back and all hear of it: what fails
//! is the disk or a lock, and spares nobody. Upholds I2 and I12.

use std::time::Instant;

use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, AnyPool, Connection};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::counts::Counts;
use super::database::unavailable;
use crate::ports::JournalError;

/// Writes that share a commit at most: the first of them waits for all.
const BATCH_MAX: usize = 256;
/// Writes that wait at most.
const WAITING_MAX: usize = 4_096;

/// The way to the writer.
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Write>>,
    /// Guards the handle for whoever closes; held while waiting for the task to end, which takes nobody else.
    task: Mutex<Option<JoinHandle<()>>>,
    counts: Counts,
    stop: tokio::sync::watch::Sender<bool>,
}

/// A write with somebody waiting for it.
trait Write: Send {
    /// Does it inside the transaction of its batch.
    fn run<'c>(&'c mut self, connection: &'c mut AnyConnection) -> BoxFuture<'c, sqlx::Result<()>>;
    /// Tells who waits.
    fn tell(self: Box<Self>, outcome: Result<(), JournalError>);
}

struct Waiting<T, W> {
    work: Option<W>,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, JournalError>>,
}

impl<T, W> Write for Waiting<T, W>
where
    T: Send,
    W: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send,
{
    fn run<'c>(&'c mut self, connection: &'c mut AnyConnection) -> BoxFuture<'c, sqlx::Result<()>> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.done = Some(work(connection).await?);
            }
            Ok(())
        })
    }

    fn tell(self: Box<Self>, outcome: Result<(), JournalError>) {
        let Self { done, reply, .. } = *self;
        // Whoever gave up waiting needs no answer.
        let _ = reply.send(outcome.and_then(|()| done.ok_or(JournalError::TimedOut)));
    }
}

impl Writer {
    /// Starts the task on the present runtime.
    pub(super) fn spawn(pool: AnyPool, counts: Counts) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(run(pool, waiting, stopped, counts.clone()));
        Self { queue, task: Mutex::new(Some(task)), counts, stop }
    }

    /// Queues a write and waits for its commit.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, JournalError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        let (reply, told) = oneshot::channel();
        let waiting = Waiting { work: Some(work), done: None, reply };
        let unavailable = |what: &str| JournalError::Unavailable { what: what.to_owned() };
        match self.queue.try_send(Box::new(waiting)) {
            Ok(()) => told.await.unwrap_or_else(|_| Err(unavailable("it is closed"))),
            Err(TrySendError::Closed(_)) => Err(unavailable("it is closed")),
            Err(TrySendError::Full(_)) => {
                self.counts.writes_refused.inc();
                Err(unavailable("too many writes wait"))
            }
        }
    }

    /// Writes what waits, and ends.
    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.lock().await.take() {
            // A task that panicked has ended too, and was logged.
            let _ = task.await;
        }
    }
}

async fn run(
    pool: AnyPool,
    mut waiting: mpsc::Receiver<Box<dyn Write>>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
    counts: Counts,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let taken = tokio::select! {
            biased;
            taken = waiting.recv_many(&mut batch, BATCH_MAX) => taken,
            // Only reached when nothing waits.
            _ = stopped.wait_for(|is_stopped| *is_stopped) => 0,
        };
        if taken == 0 {
            break;
        }
        let began = Instant::now();
        let outcome = commit(&pool, &mut batch).await.map_err(unavailable);
        counts.commit_seconds.observe(began.elapsed().as_secs_f64());
        counts.commit_writes.observe(taken as f64);
        for write in batch.drain(..) {
            write.tell(outcome.clone());
        }
    }
    pool.close().await;
}

/// A connection on which anything failed is not used again: after some failures, a full disk among them, SQLite has rolled
/// back by itself, and the connection would take itself to be in a transaction for ever.
async fn commit(pool: &AnyPool, batch: &mut [Box<dyn Write>]) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let written = write(&mut connection, batch).await;
    if written.is_err() {
        // Whatever is wrong with closing it, it is gone.
        let _ = connection.close().await;
    }
    written
}

/// `immediate`: a lock that another process holds is waited for here, not found half-way.
async fn write(connection: &mut AnyConnection, batch: &mut [Box<dyn Write>]) -> sqlx::Result<()> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    for write in batch {
        write.run(&mut transaction).await?;
    }
    transaction.commit().await
}
