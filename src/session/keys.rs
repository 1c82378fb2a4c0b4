//! The instance's keys at hand, and who waits for them. What is to be done is [`KeyRing`]'s to decide.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::Refusal;
use crate::clock;
use crate::ports::KeySource;
use crate::token::{FETCH_TIME_MAX, Key, KeyRing, Next, TokenError};

/// An outage fails a fetch every ten seconds; once a minute says it.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// Where keys come from.
pub enum Keys {
    /// One that was configured: nobody is asked.
    Pinned(Arc<Key>),
    /// The instance's set.
    Fetched(Arc<dyn KeySource>),
}

/// The keys at hand. A fetch runs on the I/O runtime and outlives whoever began it.
pub(super) struct KeysAtHand {
    source: Option<Arc<dyn KeySource>>,
    shared: Arc<Shared>,
    io: Handle,
}

struct Shared {
    /// Guards itself only: held for one decision, never over an await.
    ring: Mutex<KeyRing>,
    /// Moves whenever a fetch has ended.
    landed: watch::Sender<()>,
    fetches: Counter,
    complaints: clock::Pace,
}

impl KeysAtHand {
    pub(super) fn new(keys: Keys, io: Handle) -> Self {
        let (ring, source) = match keys {
            Keys::Pinned(key) => (KeyRing::pinned(key), None),
            Keys::Fetched(source) => (KeyRing::fetched(), Some(source)),
        };
        let shared = Shared {
            ring: Mutex::new(ring),
            landed: watch::Sender::new(()),
            fetches: Counter::default(),
            complaints: clock::Pace::new(COMPLAINT_EVERY),
        };
        Self { source, shared: Arc::new(shared), io }
    }

    /// The key of this id, after a fetch if it takes one. Dropped while it waits, it leaves the fetch to itself.
    pub(super) async fn find(&self, key_id: Option<&str>) -> Result<Arc<Key>, Refusal> {
        loop {
            // Subscribed before the decision: a fetch that ends in between is not missed.
            let mut landed = self.shared.landed.subscribe();
            let next = self.shared.ring().next(key_id, clock::now());
            match next {
                Next::Use(key) => return Ok(key),
                Next::UseAndFetch(key) => {
                    self.fetch();
                    return Ok(key);
                }
                Next::Unknown => return Err(TokenError::Invalid { what: "no key of the instance has this id" }.into()),
                Next::Unavailable { retry_after } => return Err(Refusal::KeysUnavailable { retry_after }),
                Next::Fetch => self.fetch(),
                Next::Await => {}
            }
            // A fetch that never ends is given up by the ring as well.
            let _ = timeout(FETCH_TIME_MAX, landed.changed()).await;
        }
    }

    pub(super) fn fetches(&self) -> Counter {
        self.shared.fetches.clone()
    }

    /// What decides, to put it into a state.
    #[cfg(test)]
    pub(super) fn ring(&self) -> MutexGuard<'_, KeyRing> {
        self.shared.ring()
    }

    /// Who waits for a fetch.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.landed.receiver_count()
    }

    fn fetch(&self) {
        let Some(source) = self.source.clone() else { return };
        let shared = self.shared.clone();
        shared.fetches.inc();
        self.io.spawn(async move {
            let fetched = match timeout(FETCH_TIME_MAX, source.key_set()).await {
                Ok(Ok(keys)) => Some(keys),
                Ok(Err(error)) => shared.complain(&error.to_string()),
                Err(_) => shared.complain("no answer in time"),
            };
            shared.ring().land(fetched);
            shared.landed.send_replace(());
        });
    }
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, KeyRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain<T>(&self, error: &str) -> Option<T> {
        if self.complaints.is_due(clock::now()) {
            warn!(error, "the instance's keys cannot be fetched: those at hand go on");
        }
        None
    }
}
