//! The doors of the house as small traits, and the fence. Adapters implement the doors; the rooms above know only these.
//!
//! Every call may be dropped at any await without harm, may be repeated, and has a deadline of its own inside the adapter.
//! A hit in the local tier reaches none of them, so `dyn` costs nothing that matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

mod journal;

pub use journal::{
    AppliedBy, Backlog, Claimed, Deferred, Journal, JournalError, JournalStats, Message, Recorded, Retention, Settled, Which,
    Window,
};

use crate::domain::{Change, List, Membership, Moment, UserId};
pub use crate::protocol::continuity::Break;
pub use crate::protocol::lease::Landed;
use crate::token::KeySet;

/// The origin: Clerk.
pub trait Origin: Send + Sync {
    /// Reads all memberships of a user, every page (I9), within 4 s. Newest first, as the origin sorts them.
    fn read<'a>(&'a self, user: &'a UserId, priority: Priority) -> BoxFuture<'a, Result<OriginAnswer, OriginError>>;
    /// How it stands; for readiness.
    fn standing(&self) -> OriginStanding;
}

/// How the origin stands.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginStanding {
    /// It failed so often that only one request a second is sent.
    pub is_breaker_open: bool,
    /// The part of the budget in use: 1, or less for a while after a 429.
    pub budget_factor: f64,
    /// The next read would have to wait for the budget.
    pub is_budget_spent: bool,
    /// The origin's `Retry-After` is being obeyed: nothing is sent.
    pub is_paused: bool,
    /// Reads that wait for the budget.
    pub waiting: usize,
    /// The time between two requests that this node's budget sustains now.
    pub request_interval: Duration,
}

impl OriginStanding {
    /// Whether asking has a chance.
    pub fn is_reachable(&self) -> bool {
        !self.is_breaker_open
    }
}

/// What the origin said. Everything that is neither of these is an error, never an absence (I8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginAnswer {
    /// The user's memberships; none is a normal answer.
    Memberships(Vec<Membership>),
    /// The origin knows no such user.
    UserUnknown,
}

/// Who goes first when the budget is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Nothing is known of the user: a caller waits.
    Cold,
    /// A first "no" is to be checked: a caller waits.
    FirstDenial,
    /// A "no" that was given before is to be checked again.
    RepeatedDenial,
    /// The caller asked for the origin although something is known.
    NoCache,
    /// Nobody waits: the background refresh.
    Refresh,
}

/// Why the origin could not be asked. The reader can retry; none of these says anything about the user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OriginError {
    /// The origin's 429, or our own budget is spent.
    #[error("the origin's rate limit is reached")]
    RateLimited {
        /// When asking again has a chance.
        retry_after: Duration,
    },
    /// It did not answer in time.
    #[error("the origin did not answer in time")]
    TimedOut,
    /// It cannot be reached, fails, or its breaker is open.
    #[error("the origin is unavailable: {what}")]
    Unavailable {
        /// A phrase for the log: no body, no id.
        what: String,
    },
    /// It refuses our key: for the operator.
    #[error("the origin refuses the key")]
    Unauthorized,
    /// It answered what we cannot read, or pages that do not add up.
    #[error("the origin's answer is malformed: {what}")]
    Malformed {
        /// A phrase for the log: no body, no id.
        what: String,
    },
}

/// Where the public keys of the instance are published.
pub trait KeySource: Send + Sync {
    /// Asks for the set. Whoever calls bounds how often, and how long it may take.
    fn key_set(&self) -> BoxFuture<'_, Result<KeySet, OriginError>>;
}

/// The shared tier: values and guards in Redis.
pub trait SharedTier: Send + Sync {
    /// The value of a user, if there is one that its guard vouches for. A foreign or torn value is none.
    fn get<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<SharedValue>, SharedError>>;
    /// Takes the lease of a user, making one if there is none; before the origin is asked (I5).
    fn begin<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Lease, SharedError>>;
    /// Lands a reading under its lease. `keep` bounds its life beyond what the TTL does.
    fn land<'a>(&'a self, lease: Lease, list: &'a List, keep: Option<Duration>) -> BoxFuture<'a, Result<Landed, SharedError>>;
    /// Gives a lease back under which nothing will be landed. Not heard: it expires by itself.
    fn release<'a>(&'a self, lease: Lease) -> BoxFuture<'a, ()>;
    /// Voids values and leases of users, unconditionally. Done again on any doubt.
    fn invalidate<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, Result<(), SharedError>>;
    /// Whether the last exchanges worked; for readiness.
    fn is_reachable(&self) -> bool;
}

/// A value of the shared tier.
#[derive(Debug, Clone)]
pub struct SharedValue {
    /// The list.
    pub list: List,
    /// When its reading began, on this machine's clock: never later than it was.
    pub as_of: Moment,
    /// The same on the stream's clock, in microseconds.
    pub stamp: u64,
    /// The lease it was landed under: to land a corrected value with the same as-of.
    pub token: Arc<str>,
}

/// The right to land one reading. Not `Clone`: landing consumes it.
#[derive(Debug)]
pub struct Lease {
    /// Whose.
    pub user: UserId,
    /// The guard's token.
    pub token: Arc<str>,
    /// When the reading began, Redis time in microseconds.
    pub stamp: u64,
}

/// Why the shared tier could not be used. Costs the shared copy, never an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SharedError {
    /// No answer within 250 ms.
    #[error("the shared tier did not answer in time")]
    TimedOut,
    /// The primary has it, and too few of the replicas that are awaited.
    #[error("{confirmed} of {awaited} awaited replicas have it")]
    Unconfirmed {
        /// Who said so in time.
        confirmed: u32,
        /// Who had to.
        awaited: u32,
    },
    /// No connection, or it failed.
    #[error("the shared tier is unavailable: {what}")]
    Unavailable {
        /// A phrase for the log.
        what: String,
    },
}

/// The change stream, to append to. Its reader feeds a [`StreamSink`].
pub trait ChangeStream: Send + Sync {
    /// Appends one change. Ok means confirmed: every node will apply it.
    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<(), SharedError>>;
    /// How the reader of the stream stands; for readiness.
    fn standing(&self) -> StreamStanding;
}

/// The history beside the change stream: whether acknowledged changes may be missing from it, and who puts them back.
pub trait History: Send + Sync {
    /// What is in doubt, whenever that changes; none while the history is whole.
    fn doubts(&self) -> watch::Receiver<Option<Doubt>>;
    /// Takes the right to repair, or renews it, for 10 s. True: it is this node's. Never while a node with another journal is
    /// alive: no journal holds everything then.
    fn hold(&self) -> BoxFuture<'_, Result<bool, SharedError>>;
    /// Gives the right back unused, so that another node may try.
    fn let_go(&self) -> BoxFuture<'_, ()>;
    /// Declares the history whole, if the doubt is still the same, and gives the right back. False: it is another one.
    fn make_whole<'a>(&'a self, doubt: &'a Doubt) -> BoxFuture<'a, Result<bool, SharedError>>;
}

/// Acknowledged changes from before `since` may be missing from the stream of this replication id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Whose stream.
    pub replid: String,
    /// When it was found, in microseconds of the stream's clock.
    pub since: u64,
}

/// How the reader of the stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStanding {
    /// Whether the last question was answered without a break.
    pub is_continuous: bool,
    /// Breaks since start.
    pub breaks: u64,
    /// A node with another journal reads and writes it too: a lost history could not be put back.
    pub has_stranger: bool,
    /// The replicas, where some are awaited and anything was heard of them.
    pub replicas: Option<Replicas>,
}

/// How many replicas follow the primary, where some are awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// How many must confirm each change, and each question that moves the fence.
    pub awaited: u32,
    /// How many did, the last time.
    pub confirming: u32,
    /// How many the primary last said it has.
    pub connected: u32,
}

impl Replicas {
    /// Nothing is confirmed and nothing vouched for.
    pub fn is_one_missing(&self) -> bool {
        self.confirming < self.awaited
    }

    /// One that may be promoted without what was acknowledged: the promise is that of a deployment that awaits none.
    pub fn is_one_unawaited(&self) -> bool {
        self.connected > self.awaited
    }
}

/// Who is fed by the stream's reader: the cache. Calls come from one task, in order; none may block.
pub trait StreamSink: Send + Sync {
    /// Applies one change that passed at `at`, on this machine's clock: never earlier than it did.
    fn apply(&self, change: &Change, at: Moment);
    /// Applies an entry that this release cannot read.
    fn apply_unreadable(&self);
    /// Continuity was lost: local entries must pass the shared tier once more.
    fn broke(&self, cause: Break);
    /// Readings that began before `since` may be from before a lost history: they are no answers, from any tier. Zero
    /// lifts it.
    fn doubt_before(&self, since: Moment);
    /// Changes that passed before `at` may be gone from the stream unread: readings begun before it are no answers, for good.
    fn missed_before(&self, at: Moment);
}

/// The latest moment up to which this node is known to have applied the change stream. Moved by the stream's owner, read by
/// the hot path.
#[derive(Debug, Clone)]
pub struct Fence(FenceKind);

#[derive(Debug, Clone)]
enum FenceKind {
    /// One process: every change is applied as it is appended, so the fence is now.
    Always,
    /// Several nodes: the moment the last complete question was sent.
    Asked(Arc<AtomicU64>),
    /// Nobody can say how far; only whether the stream was heard at all.
    Unknown(Arc<AtomicU64>),
}

impl Fence {
    /// The fence of a single process.
    pub fn always() -> Self {
        Self(FenceKind::Always)
    }

    /// A fence that was never reached yet.
    pub fn asked() -> Self {
        Self(FenceKind::Asked(Arc::new(AtomicU64::new(0))))
    }

    /// The fence of a node that cannot know how far it has applied the stream: it vouches for nothing.
    pub fn unknown() -> Self {
        Self::asked().unvouched()
    }

    /// The same stream, of which nobody can say how far it was applied.
    pub fn unvouched(&self) -> Self {
        match &self.0 {
            FenceKind::Always => Self::always(),
            FenceKind::Asked(heard) | FenceKind::Unknown(heard) => Self(FenceKind::Unknown(heard.clone())),
        }
    }

    /// Whether it says anything.
    pub fn is_known(&self) -> bool {
        !matches!(self.0, FenceKind::Unknown(_))
    }

    /// Whether the stream was never heard to its end yet. Acquire: ask before the facts are looked at, or a fact that was
    /// applied before the end was heard is missed and counted as heard.
    pub fn is_unreached(&self) -> bool {
        match &self.0 {
            FenceKind::Always => false,
            FenceKind::Asked(heard) | FenceKind::Unknown(heard) => heard.load(Ordering::Acquire) == 0,
        }
    }

    /// Moves the fence. Release: whoever sees the new fence sees what was applied before it.
    pub fn advance(&self, to: Moment) {
        if let FenceKind::Asked(fence) = &self.0 {
            fence.fetch_max(to.as_micros(), Ordering::Release);
        }
    }

    /// The fence. Acquire: load it before the entry is looked for (I6).
    pub fn load(&self, now: Moment) -> Moment {
        match &self.0 {
            FenceKind::Always => now,
            FenceKind::Asked(fence) => Moment::from_micros(fence.load(Ordering::Acquire)),
            FenceKind::Unknown(_) => Moment::ZERO,
        }
    }
}
