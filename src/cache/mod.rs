//! The cache: answers what a user's memberships are, from this process, from Redis, or from the origin. Upholds I5–I8,
//! I10–I13.
//!
//! Comes out: [`Cache`], its questions and answers. `read` holds the hit, alone in its file; `miss` the order of what
//! comes after it; `known` the readings at hand; `asking` how the origin is asked; `flight` one origin read and who waits
//! for it; `fill` what such a read does; `differences` what it says that no message told, for the sweep; `inspect` what an operator is told;
//! `waits` how long a read waited. The stream's reader and the intake feed it changes. It names no adapter: only the doors of
//! [`crate::ports`].

mod answer;
mod asking;
mod counts;
mod differences;
mod facts;
mod fill;
mod flight;
mod flown;
mod inspect;
mod known;
mod local;
mod miss;
mod order;
mod read;
mod refresh;
mod sessions;
mod sink;
mod sync;
#[cfg(test)]
mod tests;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

pub use answer::{Answer, Ask, Content, Question, ReadError, Source};
pub use counts::Counts;
pub use differences::{Difference, Settled};
pub use facts::Recalled;
pub use facts::TokenStanding;
pub use inspect::{Inspection, Seen};
pub use refresh::Reread;
pub use waits::{Behind, Waits};

use crate::clock;
use crate::ports::{Fence, Origin, SharedTier};
use crate::protocol::facts::FACTS_WINDOW;
use crate::protocol::freshness::Bounds;

/// A "no" rests on an origin read begun at most this long before the request (I10).
const CHECK_WINDOW: Duration = Duration::from_secs(1);

/// What the cache is connected to.
pub struct Parts {
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// Redis, if there is one.
    pub shared: Option<Arc<dyn SharedTier>>,
    /// How far the stream was applied.
    pub fence: Fence,
    /// The deployment's limits.
    pub bounds: Bounds,
    /// Bytes of the local tier.
    pub local_bytes_max: u64,
    /// The runtime on which flights and refreshes run.
    pub io: Handle,
}

/// The cache of one process. A clone is a handle.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    local: local::Local,
    facts: facts::Facts,
    flights: flight::Flights,
    refreshes: refresh::Refreshes,
    differences: differences::Differences,
    counts: Counts,
    /// Keeps an outage from filling the log.
    complaints: clock::Pace,
}

impl Cache {
    /// An empty cache.
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            local: local::Local::new(parts.local_bytes_max),
            facts: facts::Facts::default(),
            flights: flight::Flights::default(),
            refreshes: refresh::Refreshes::default(),
            differences: differences::Differences::default(),
            counts: Counts::default(),
            complaints: clock::Pace::new(Duration::from_secs(1)),
            parts,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The deployment's limits.
    pub fn bounds(&self) -> &Bounds {
        &self.inner.parts.bounds
    }

    /// The runtime on which everything past a hit runs.
    pub fn io(&self) -> &Handle {
        &self.inner.parts.io
    }

    /// How far behind the stream this node is known to be, now; as far as can be where nobody can say.
    pub fn lag(&self) -> Duration {
        let now = clock::now();
        now.since(self.inner.parts.fence.load(now))
    }

    /// Whether it is known at all how far behind the stream this node is.
    pub fn knows_its_lag(&self) -> bool {
        self.inner.parts.fence.is_known()
    }

    /// Counts, for the roof to register.
    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    /// Takes the current sizes into the gauges, and drops what nobody may be given any more. Called once a second.
    pub fn tend(&self) {
        let inner = &self.inner;
        // Consent may reach past TTL and grace; what is older than the facts nobody may be given.
        inner.local.sweep(FACTS_WINDOW, clock::now());
        let (bytes, users) = inner.local.size();
        let lag = self.knows_its_lag().then(|| self.lag());
        inner.counts.sizes(bytes, users, inner.facts.len(), lag);
    }
}
