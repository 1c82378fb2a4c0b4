//! The history beside the change stream: what is in doubt, as the reader of the stream sees it; and the right to put it back.
//! The repair calls it. Upholds I5: only who held the right to the end may declare the history whole.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::ports::{Doubt, History, SharedError};

use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read};
use super::nodes::Alive;
use super::scripts;
use super::shared::{millis, one};

/// How long the right lasts without being renewed.
const RIGHT_TIME: Duration = Duration::from_secs(10);

/// The history in Redis.
pub struct RedisHistory {
    pub(super) link: Link,
    pub(super) keys: Arc<Keys>,
    /// This process, in the right.
    pub(super) holder: String,
    pub(super) doubts: watch::Sender<Option<Doubt>>,
    pub(super) alive: Alive,
}

impl RedisHistory {
    async fn hold(&self) -> Result<bool, SharedError> {
        if self.alive.has_stranger() {
            // What that node acknowledged is in no journal of ours.
            return Ok(false);
        }
        let mut call = scripts::HOLD.on(&[self.keys.repair()]);
        call.arg(&self.holder).arg(millis(RIGHT_TIME));
        one(&self.link, call, ANSWER_TIME_MAX).await.and_then(read::<u64>).map(|held| held == 1)
    }

    async fn let_go(&self) {
        let mut call = scripts::LET_GO.on(&[self.keys.repair()]);
        call.arg(&self.holder);
        // Not heard: the right ends by itself.
        let _ = one(&self.link, call, ANSWER_TIME_MAX).await;
    }

    async fn make_whole(&self, doubt: &Doubt) -> Result<bool, SharedError> {
        let mut call = scripts::WHOLE.on(&[self.keys.history(), self.keys.repair()]);
        call.arg(&self.holder).arg(&doubt.replid).arg(doubt.since.to_string());
        one(&self.link, call, ANSWER_TIME_MAX).await.and_then(read::<u64>).map(|whole| whole == 1)
    }
}

impl History for RedisHistory {
    fn doubts(&self) -> watch::Receiver<Option<Doubt>> {
        self.doubts.subscribe()
    }

    fn hold(&self) -> BoxFuture<'_, Result<bool, SharedError>> {
        self.hold().boxed()
    }

    fn let_go(&self) -> BoxFuture<'_, ()> {
        self.let_go().boxed()
    }

    fn make_whole<'a>(&'a self, doubt: &'a Doubt) -> BoxFuture<'a, Result<bool, SharedError>> {
        self.make_whole(doubt).boxed()
    }
}
