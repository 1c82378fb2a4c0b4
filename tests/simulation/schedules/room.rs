//! What the files of the cache need of the rest of their room.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rollcall::domain::{Moment, UserId};
use rollcall::ports::{Origin, Priority, SharedTier};
use rollcall::protocol::freshness::{Bounds, Candidate, Verdict, Wants};

use super::answer::{Content, Question};
use super::counts::Counts;
use super::doors::{Clerk, Fence, Redis, begun};
use super::facts::Facts;
use super::flight::Flights;
use super::flown::{Flown, Reading};
use super::local::Local;
use crate::clock::{NOW, Pace};

const BOUNDS: Bounds = Bounds {
    staleness: Duration::from_secs(1),
    ttl: Duration::from_secs(300),
    grace: Duration::from_secs(600),
    local_age_max: Duration::from_secs(60),
};

/// A reading or an answer: how many changes are behind it, and how many its fence vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// None: no membership at all.
    pub changes: Option<u64>,
    pub vouched: u64,
}

pub struct Parts {
    pub origin: Arc<dyn Origin>,
    pub shared: Option<Arc<dyn SharedTier>>,
    pub fence: Fence,
    pub bounds: Bounds,
}

#[derive(Clone)]
pub struct Cache {
    pub inner: Arc<Inner>,
}

pub struct Inner {
    pub parts: Parts,
    pub local: Local,
    pub facts: Facts,
    pub flights: Flights,
    pub refreshes: Refreshes,
    pub counts: Counts,
    pub complaints: Pace,
    pub clerk: Arc<Clerk>,
    pub redis: Arc<Redis>,
}

/// Refreshes are flights like others: none begins by itself here.
pub struct Refreshes;

impl Refreshes {
    pub fn want(&self, _: &UserId) -> bool {
        true
    }

    pub fn take(&self, _: &UserId) -> bool {
        false
    }

    pub fn want_nobody(&self) {}
}

/// Where what nobody waits for runs.
pub struct Io;

impl Io {
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output: Send> + Send + 'static,
    {
        shuttle::future::spawn(future);
    }
}

pub fn user(n: usize) -> UserId {
    UserId::parse(&format!("user_{n}")).expect("id")
}

/// The fence that vouches for so many changes: of some moment of the last second.
pub fn fence_of(changes: u64) -> Moment {
    NOW - Duration::from_millis(900) + Duration::from_millis(changes)
}

/// How many changes are behind a content.
pub fn changes_in(content: &Content) -> Option<u64> {
    match content {
        Content::List(list) => list.memberships().first().map(|row| row.updated_at as u64),
        Content::Unknown => None,
    }
}

/// What a reading says, and what vouches for it.
pub fn seen(content: &Content, fence: Moment) -> Seen {
    let vouched = fence.since(fence_of(0)).as_millis() as u64;
    Seen { changes: changes_in(content), vouched }
}

impl Cache {
    /// A node that has heard everything so far, of an origin that lags or does not.
    pub fn new(lags: bool, local_bytes_max: u64) -> Self {
        let cache = Self::with(lags, local_bytes_max, true);
        cache.inner.parts.fence.advance(fence_of(0));
        cache
    }

    /// A node that has not heard the stream yet.
    pub fn unheard() -> Self {
        Self::with(false, 0, true)
    }

    /// The same without Redis: nothing but the node's own memory refuses a reading.
    pub fn without_redis() -> Self {
        let cache = Self::with(false, 1 << 20, false);
        cache.inner.parts.fence.advance(fence_of(0));
        cache
    }

    fn with(lags: bool, local_bytes_max: u64, has_redis: bool) -> Self {
        let clerk = Arc::new(Clerk { lags, ..Clerk::default() });
        let redis = Arc::new(Redis::default());
        let fence = Fence::asked();
        let shared = has_redis.then(|| -> Arc<dyn SharedTier> { redis.clone() });
        let parts = Parts { origin: clerk.clone(), shared, fence, bounds: BOUNDS };
        let inner = Inner {
            parts,
            local: Local::new(local_bytes_max),
            facts: Facts::default(),
            flights: Flights::default(),
            refreshes: Refreshes,
            counts: Counts::default(),
            complaints: Pace::new(Duration::from_secs(1)),
            clerk,
            redis,
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn io(&self) -> Io {
        Io
    }

    pub fn refresh(&self, _: UserId) {}

    pub fn is_good(&self, candidate: Candidate, wants: &Wants, arrived: Moment) -> bool {
        self.inner.parts.bounds.judge(candidate, wants, arrived, NOW) == Verdict::Good
    }

    pub fn note_difference(&self, _: &UserId, _: &Reading) {}

    /// A flight: no change takes it out of the sky, so that leases and stripes are alone.
    pub fn fly_unseen(&self) -> Flown {
        let overtaken = Arc::new(AtomicBool::new(false));
        shuttle::future::block_on(self.clone().fly(user(1), Priority::Cold, begun(), overtaken))
    }

    /// A flight as it is.
    pub fn fly_seen(&self) -> Flown {
        let overtaken = self.inner.flights.board();
        shuttle::future::block_on(self.clone().fly(user(1), Priority::Cold, begun(), overtaken))
    }

    /// A hit now.
    pub fn hit_now(&self) -> Option<Seen> {
        let answer = self.hit(&user(1), &Question::List, &Wants::default(), NOW, NOW)?;
        Some(seen(&answer.content, answer.candidate.fence))
    }

    /// What the shared tier says now, promoted.
    pub fn look(&self) -> Option<Seen> {
        let shared: Arc<dyn SharedTier> = self.inner.redis.clone();
        let reading = shuttle::future::block_on(self.shared_reading(&shared, &user(1))).expect("Redis is there")?;
        Some(seen(&reading.content, reading.candidate.fence))
    }
}
