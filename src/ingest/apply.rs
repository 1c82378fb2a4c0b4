//! Applies changes: to this process, to the shared tier, to the stream. Upholds I2 and I3.
//!
//! The order, each step needed by the next:
//!
//! ```text
//! 1: this process's memory: it holds here even if Redis is away
//! 2: values and leases in Redis, by user: from here on no reading begun before lands there
//! 3: the append to the stream: every node applies it. Only now is it confirmed.
//! ```
//!
//! Repeating any of it is harmless; on doubt it is done again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::clock;
use crate::domain::{Change, UserId};
use crate::ports::{ChangeStream, SharedError, SharedTier};
use crate::protocol::rules::{self, Rule};

/// The whole of applying; the sender of webhooks gives up after 15 s.
const APPLY_TIME_MAX: Duration = Duration::from_secs(8);
/// Appends under way at once: enough to fill a round trip, and order does not matter.
const APPENDS_MAX: usize = 16;

/// Applies changes. Shared by the intake, the worker, the repair and the eviction route.
pub struct Applier {
    cache: Cache,
    shared: Option<Arc<dyn SharedTier>>,
    stream: Arc<dyn ChangeStream>,
    /// The last try was not confirmed.
    has_failed: AtomicBool,
    /// Told at the first success after a failure.
    recovered: Notify,
    pub(super) seconds: Histogram,
}

/// A change holds on this node and is not confirmed for the others.
#[derive(Debug, thiserror::Error)]
#[error("the change is not confirmed")]
pub struct ApplyError(#[source] pub SharedError);

impl Applier {
    /// Connects it.
    pub fn new(cache: Cache, shared: Option<Arc<dyn SharedTier>>, stream: Arc<dyn ChangeStream>) -> Self {
        let seconds = Histogram::new([0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 8.0]);
        Self { cache, shared, stream, has_failed: AtomicBool::new(false), recovered: Notify::new(), seconds }
    }

    /// Applies a change; Ok means confirmed. A drop at any await leaves it applied here and maybe elsewhere: do it again.
    pub async fn apply(&self, change: &Change) -> Result<(), ApplyError> {
        self.apply_all(std::slice::from_ref(change)).await
    }

    /// Applies several, each user's values voided once. Ok means that all are confirmed; else some may be.
    pub async fn apply_all(&self, changes: &[Change]) -> Result<(), ApplyError> {
        if changes.is_empty() {
            // Nothing was asked, so nothing was found out about Redis either.
            return Ok(());
        }
        let began = clock::now();
        for change in changes {
            self.cache.apply_early(change, began);
        }
        let confirmed = tokio::time::timeout(APPLY_TIME_MAX, self.confirm(changes));
        let confirmed = confirmed.await.unwrap_or(Err(SharedError::TimedOut)).map_err(ApplyError);
        self.seconds.observe(clock::now().since(began).as_secs_f64());
        let had_failed = self.has_failed.swap(confirmed.is_err(), Ordering::AcqRel);
        if had_failed && confirmed.is_ok() {
            self.recovered.notify_one();
        }
        confirmed
    }

    /// Makes a change hold on this node alone, where nothing can be confirmed: what is known here must not be answered
    /// against it.
    pub fn apply_here(&self, change: &Change) {
        self.cache.apply_early(change, clock::now());
    }

    /// Whether trying has no chance now: the last try failed, and Redis has not been heard of since.
    pub fn is_down(&self) -> bool {
        self.has_failed.load(Ordering::Acquire) && self.shared.as_ref().is_some_and(|shared| !shared.is_reachable())
    }

    /// Resolves at the first success after a failure.
    pub(super) async fn recovered(&self) {
        self.recovered.notified().await;
    }

    async fn confirm(&self, changes: &[Change]) -> Result<(), SharedError> {
        let users: BTreeSet<&UserId> = changes.iter().flat_map(Change::users).collect();
        if let Some(shared) = self.shared.as_ref().filter(|_| !users.is_empty()) {
            let users: Vec<UserId> = users.into_iter().cloned().collect();
            shared.invalidate(&users).await?;
        }
        if !rules::is_on(Rule::AppendBeforeAcknowledgement) {
            return Ok(());
        }
        let appends: Vec<_> = changes.iter().map(|change| self.stream.append(change)).collect();
        stream::iter(appends).buffer_unordered(APPENDS_MAX).try_collect::<()>().await
    }
}
