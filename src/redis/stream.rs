//! The change stream, to append to. Called by whoever applies a message, before it is acknowledged. Upholds I2 and I3.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool_redis::redis::Pipeline;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::debug;

use crate::clock;
use crate::domain::Change;
use crate::ports::{ChangeStream, SharedError, StreamStanding};
use crate::protocol::facts::FACTS_WINDOW;

use super::keys::Keys;
use super::link::{Link, read, unavailable};
use super::nodes::Alive;
use super::replicas::Following;
use super::scripts;
use super::shared::millis;

/// How long one try may take; there are two.
const TRY_TIME_MAX: Duration = Duration::from_secs(1);
/// Entries kept, whatever the window.
const ENTRIES_KEPT_MAX: u64 = 1_000_000;

/// The change stream in Redis.
pub struct RedisStream {
    pub(super) changes: Link,
    pub(super) keys: Arc<Keys>,
    pub(super) standing: Arc<Standing>,
    pub(super) alive: Alive,
}

/// How the tail stands, as it sees it.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub is_continuous: AtomicBool,
    pub breaks: AtomicU64,
    pub following: Following,
    /// When this node last began to append anything, in microseconds of its own clock; 0: never.
    pub appended_at: AtomicU64,
}

impl RedisStream {
    async fn try_append(&self, change: &str) -> Result<(), SharedError> {
        let mut call = scripts::APPEND.on(&[self.keys.changes()]);
        call.arg(change).arg(millis(FACTS_WINDOW)).arg(ENTRIES_KEPT_MAX);
        // Before it is sent: what was begun before a doubt was in the journal by then, and is put back with it.
        self.standing.appended_at.fetch_max(clock::now().as_micros(), Ordering::Relaxed);
        // The id of the entry is the confirmation.
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(call);
        let replies = self.changes.confirm(&pipeline, TRY_TIME_MAX).await?;
        replies.into_iter().next().map_or(Err(unavailable("no reply")), read::<String>).map(|_| ())
    }

    /// Whether a try that failed left an entry cannot be told, and does not matter: applying twice is applying once (I3).
    async fn append(&self, change: &Change) -> Result<(), SharedError> {
        let text = serde_json::to_string(change).expect("strings and integers always serialise");
        match self.try_append(&text).await {
            Ok(()) => Ok(()),
            Err(error) => {
                debug!(%error, kind = change.kind(), "an append is done again");
                self.try_append(&text).await
            }
        }
    }
}

impl ChangeStream for RedisStream {
    fn append<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<(), SharedError>> {
        self.append(change).boxed()
    }

    fn standing(&self) -> StreamStanding {
        StreamStanding {
            is_continuous: self.standing.is_continuous.load(Ordering::Relaxed),
            breaks: self.standing.breaks.load(Ordering::Relaxed),
            has_stranger: self.alive.has_stranger(),
            replicas: self.standing.following.standing(),
        }
    }
}
