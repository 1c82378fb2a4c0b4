//! The door to the journal: what was received, and what became of it. The intake, the worker and the repair come here.
//!
//! Every call may be repeated and may be dropped at any await: what was begun is then finished or never happened, as a whole.
//! Outcomes are written by compare-and-set on the open state. Times are the database's own.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::{MessageId, Subject};

/// The journal of webhook messages. Upholds I2: what it has recorded is on disk.
pub trait Journal: Send + Sync {
    /// Records a delivery; Ok means that it is durable.
    fn record<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<Recorded, JournalError>>;
    /// Writes the outcome of open messages. Only who observed the effect may call it; a message that is not open is left
    /// alone.
    fn settle<'a>(&'a self, settled: &'a [Settled], by: AppliedBy) -> BoxFuture<'a, Result<(), JournalError>>;
    /// Puts open messages off, for one reason, a phrase without anything of a body: each is due again after its own delay.
    fn defer<'a>(&'a self, deferred: &'a [Deferred], reason: &'a str) -> BoxFuture<'a, Result<(), JournalError>>;
    /// Takes open messages that are due, at most `rows_max`, soonest first, and keeps others from them for `lease`.
    fn claim(&self, which: Which, rows_max: u32, lease: Duration) -> BoxFuture<'_, Result<Vec<Claimed>, JournalError>>;
    /// Makes every open message due at once; how many there are. Outcomes that were being written are written then. In steps:
    /// a failure leaves some as they were.
    fn make_all_due(&self) -> BoxFuture<'_, Result<u64, JournalError>>;
    /// The window of what was applied in the last `age`, from its beginning.
    fn window(&self, age: Duration) -> BoxFuture<'_, Result<Window, JournalError>>;
    /// The next messages of a window, at most `rows_max`, in the order in which they were applied; the window moves on. None:
    /// it is at its end.
    fn applied<'a>(&'a self, window: &'a mut Window, rows_max: u32) -> BoxFuture<'a, Result<Vec<Claimed>, JournalError>>;
    /// Notes that messages were applied once more after a lost history, whatever their state.
    fn reaffirm<'a>(&'a self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), JournalError>>;
    /// Deletes settled messages that were last seen and applied longer ago than this, at most `rows_max`; how many.
    fn prune(&self, keep: Retention, rows_max: u32) -> BoxFuture<'_, Result<u64, JournalError>>;
    /// What is open or buried; the cost does not grow with what is settled. Fails while nothing can be written.
    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, JournalError>>;
    /// When the latest delivery was recorded; milliseconds since the Unix epoch.
    fn last_seen_ms(&self) -> BoxFuture<'_, Result<Option<i64>, JournalError>>;
    /// How many messages there are in each state, by looking at all of them. Fails while nothing can be written.
    fn stats(&self) -> BoxFuture<'_, Result<JournalStats, JournalError>>;
}

/// A message as it is recorded: nothing of a person but the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The verified id, the same through all deliveries.
    pub id: MessageId,
    /// Clerk's type.
    pub event_type: String,
    /// The instance the body names.
    pub instance_id: Option<String>,
    /// Whom and what it is about.
    pub subject: Subject,
    /// When it happened, in Clerk's milliseconds.
    pub occurred_at_ms: Option<i64>,
    /// It makes something true, and is open until that is confirmed; else it is ignored.
    pub is_open: bool,
    /// What it makes true, as JSON.
    pub payload: Option<String>,
}

/// What recording found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is open: to be applied now, for the first time or again.
    Open {
        /// It was delivered before.
        is_repeated: bool,
    },
    /// Nothing is to be done: it was settled a short while ago, or changes no answer.
    Settled {
        /// It was delivered before.
        is_repeated: bool,
    },
}

/// A message whose effect was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub id: MessageId,
    /// None: applied. Else it is buried, and this is why.
    pub buried_because: Option<String>,
}

/// A message that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred {
    /// Which.
    pub id: MessageId,
    /// When it is due again, from now.
    pub retry_in: Duration,
}

/// Which open messages are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are due.
    Due,
    /// The oldest, due or not: to find out whether applying works again.
    Probe,
}

/// A message taken from the journal to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub id: MessageId,
    /// Clerk's type.
    pub event_type: String,
    /// How often it was begun, this time included.
    pub attempts: u32,
    /// It is open.
    pub is_open: bool,
    /// An operator's replay asked for it.
    pub is_replayed: bool,
    /// What it makes true, as JSON.
    pub payload: Option<String>,
    /// Why it is buried, or was to be.
    pub reason: Option<String>,
    /// How long it has been open.
    pub open_for: Duration,
}

/// A walk over what was applied between two moments, by the database's clock. What is applied while it lasts is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Milliseconds since the Unix epoch; moves.
    pub from_ms: i64,
    /// The other end.
    pub until_ms: i64,
    /// Of the messages applied at `from_ms`, those with greater ids are left.
    pub after: String,
}

/// Who saw the effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppliedBy {
    /// The delivery itself.
    Inline,
    /// The worker.
    Worker,
    /// The worker, of what was open at start.
    Boot,
    /// The worker, for an operator's replay.
    Replay,
    /// The repair after a lost history.
    Failover,
}

/// How long settled messages are kept after they were last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Applied and ignored ones.
    pub settled: Duration,
    /// Buried ones.
    pub buried: Duration,
}

/// What somebody has yet to see to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Open.
    pub pending: u64,
    /// Unreadable: somebody should look.
    pub buried: u64,
    /// How long the oldest open message has been open.
    pub oldest_open: Option<Duration>,
}

/// How the journal stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Open.
    pub pending: u64,
    /// Confirmed.
    pub applied: u64,
    /// Of no effect.
    pub ignored: u64,
    /// Unreadable: somebody should look.
    pub buried: u64,
    /// How long the oldest open message has been open.
    pub oldest_open: Option<Duration>,
}

/// Why the journal could not be used. Nothing may be acknowledged then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// No answer in time; what was asked for may still happen.
    #[error("the journal did not answer in time")]
    TimedOut,
    /// Away, full, locked or broken.
    #[error("the journal is unavailable: {what}")]
    Unavailable {
        /// A phrase for the log: no value of any row.
        what: String,
    },
}

impl AppliedBy {
    /// Its word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Worker => "worker",
            Self::Boot => "boot",
            Self::Replay => "replay",
            Self::Failover => "failover",
        }
    }
}
