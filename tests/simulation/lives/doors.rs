//! The doors of a node here: an origin that lags and may be slow, and a shared tier that is `protocol::lease::Guard` and a value.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rollcall::domain::{List, Moment, UserId};
use rollcall::ports::{
    Landed, Lease, Origin, OriginAnswer, OriginError, OriginStanding, Priority, SharedError, SharedTier, SharedValue,
};
use rollcall::protocol::lease::Guard;
use tokio::sync::oneshot;

use super::town::{Town, Truth, USERS, user};
use super::{LAG_MAX, TTL};
use crate::clock;

/// How the origin answers one request: how far behind it is, and whether it takes its time.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub lag: Duration,
    pub is_slow: bool,
}

/// The origin: a town, the manners in which the next requests are answered, over and over, and who waits.
pub struct Clerk {
    kept: Mutex<Kept>,
}

struct Kept {
    town: Town,
    manners: Vec<Manner>,
    asked: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Clerk {
    pub fn new(town: Town, manners: Vec<Manner>) -> Self {
        Self { kept: Mutex::new(Kept { town, manners, asked: 0, waiting: VecDeque::new() }) }
    }

    /// Looks at the town, or lets it go on.
    pub fn town<T>(&self, act: impl FnOnce(&mut Town) -> T) -> T {
        act(&mut self.lock().town)
    }

    /// Answers who has waited longest; false if nobody waits.
    pub fn release(&self) -> bool {
        let waiting = self.lock().waiting.pop_front();
        waiting.map(|waiting| waiting.send(())).is_some()
    }

    /// From here on it is up to date, and quick.
    pub fn recover(&self) {
        self.lock().manners = vec![Manner { lag: Duration::ZERO, is_slow: false }];
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nothing panics while it is held")
    }

    /// What the next request is told, and what it has to wait for.
    fn next(&self, asked: &UserId) -> (Truth, Option<oneshot::Receiver<()>>) {
        let mut kept = self.lock();
        let manner = kept.manners[kept.asked % kept.manners.len()];
        kept.asked += 1;
        let n = (0..USERS).find(|n| user(*n) == *asked).expect("only who lives here is asked about");
        let truth = kept.town.truth(n, clock::now() - manner.lag.min(LAG_MAX)).clone();
        let waits = manner.is_slow.then(|| {
            let (released, waits) = oneshot::channel();
            kept.waiting.push_back(released);
            waits
        });
        (truth, waits)
    }
}

impl Origin for Clerk {
    fn read<'a>(&'a self, user: &'a UserId, _: Priority) -> BoxFuture<'a, Result<OriginAnswer, OriginError>> {
        async {
            let (truth, waits) = self.next(user);
            if let Some(waits) = waits {
                waits.await.expect("everybody is answered");
            }
            Ok(truth.map_or(OriginAnswer::UserUnknown, OriginAnswer::Memberships))
        }
        .boxed()
    }

    fn standing(&self) -> OriginStanding {
        unreachable!("nobody asks here")
    }
}

/// The shared tier. Exchanges with it are in one piece, as its scripts are.
#[derive(Default)]
pub struct Redis {
    users: Mutex<HashMap<UserId, Place>>,
}

#[derive(Default)]
struct Place {
    guard: Guard,
    /// With when it expires.
    value: Option<(List, Moment)>,
    leases: u64,
}

impl Redis {
    fn with<T>(&self, user: &UserId, act: impl FnOnce(&mut Place, &str) -> T) -> T {
        let mut users = self.users.lock().expect("nothing panics while it is held");
        let place = users.entry(user.clone()).or_default();
        place.value.take_if(|(_, expires)| clock::now() >= *expires);
        place.leases += 1;
        let fresh = place.leases.to_string();
        act(place, &fresh)
    }

    /// A change of a user passes.
    pub fn void(&self, user: &UserId) {
        self.with(user, |place, fresh| {
            place.value = None;
            place.guard.invalidate(fresh);
        });
    }
}

/// A node's way to Redis. Cut, nothing comes through; what was under way has arrived.
pub struct Link {
    pub redis: Arc<Redis>,
    pub is_cut: AtomicBool,
}

impl Link {
    /// What came of it, if it comes through.
    fn through<'a, T: Send + 'a>(&self, act: impl FnOnce(&Redis) -> T) -> BoxFuture<'a, Result<T, SharedError>> {
        let done = if self.is_cut.load(Ordering::Relaxed) { Err(SharedError::TimedOut) } else { Ok(act(&self.redis)) };
        async { done }.boxed()
    }
}

impl SharedTier for Link {
    fn get<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<SharedValue>, SharedError>> {
        let value = |place: &mut Place, _: &str| {
            let ((list, _), token, stamp) = (place.value.clone()?, place.guard.lease.clone()?, place.guard.as_of?);
            Some(SharedValue { list, as_of: Moment::from_micros(stamp), stamp, token: token.into() })
        };
        self.through(|redis| redis.with(user, value))
    }

    fn begin<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Lease, SharedError>> {
        let token = |redis: &Redis| redis.with(user, |place, fresh| place.guard.begin(fresh)).into();
        self.through(|redis| Lease { user: user.clone(), token: token(redis), stamp: clock::now().as_micros() })
    }

    fn land<'a>(&'a self, lease: Lease, list: &'a List, keep: Option<Duration>) -> BoxFuture<'a, Result<Landed, SharedError>> {
        let land = |place: &mut Place, _: &str| {
            let landed = place.guard.land(&lease.token, lease.stamp, "");
            if landed == Landed::Landed {
                let by_age = Moment::from_micros(lease.stamp) + TTL;
                place.value = Some((list.clone(), keep.map_or(by_age, |keep| by_age.min(clock::now() + keep))));
            }
            landed
        };
        self.through(|redis| redis.with(&lease.user, land))
    }

    fn release<'a>(&'a self, lease: Lease) -> BoxFuture<'a, ()> {
        let released = self.through(|redis| redis.with(&lease.user, |place, _| place.guard.release(&lease.token)));
        async { _ = released.await }.boxed()
    }

    fn invalidate<'a>(&'a self, users: &'a [UserId]) -> BoxFuture<'a, Result<(), SharedError>> {
        self.through(|redis| users.iter().for_each(|user| redis.void(user)))
    }

    fn is_reachable(&self) -> bool {
        true
    }
}
