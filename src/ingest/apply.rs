//! Applies one change: to this process, to the shared tier, to the stream. Upholds I2 and I3.
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

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::clock;
use crate::domain::Change;
use crate::ports::{ChangeStream, SharedError, SharedTier};

/// The whole of applying; the sender of webhooks gives up after 15 s.
const APPLY_TIME_MAX: Duration = Duration::from_secs(8);

/// Applies changes. Shared by the intake and the eviction route.
pub struct Applier {
    cache: Cache,
    shared: Option<Arc<dyn SharedTier>>,
    stream: Arc<dyn ChangeStream>,
}

/// A change holds on this node and is not confirmed for the others.
#[derive(Debug, thiserror::Error)]
#[error("the change is not confirmed")]
pub struct ApplyError(#[source] pub SharedError);

impl Applier {
    /// Connects it.
    pub fn new(cache: Cache, shared: Option<Arc<dyn SharedTier>>, stream: Arc<dyn ChangeStream>) -> Self {
        Self { cache, shared, stream }
    }

    /// Applies a change; Ok means confirmed. A drop at any await leaves it applied here and maybe elsewhere: do it again.
    pub async fn apply(&self, change: &Change) -> Result<(), ApplyError> {
        self.cache.apply_early(change, clock::now());
        let confirmed = tokio::time::timeout(APPLY_TIME_MAX, self.confirm(change));
        confirmed.await.unwrap_or(Err(SharedError::TimedOut)).map_err(ApplyError)
    }

    async fn confirm(&self, change: &Change) -> Result<(), SharedError> {
        if let Some(shared) = self.shared.as_ref().filter(|_| !change.users().is_empty()) {
            shared.invalidate(change.users()).await?;
        }
        self.stream.append(change).await
    }
}
