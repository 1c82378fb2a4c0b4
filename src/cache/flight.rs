//! One origin read of a user, and who waits for it. Upholds I11.
//!
//! A flight runs as a task of the I/O runtime: a caller that hangs up takes nothing with it. There is at most one flight per
//! user that may be joined; a change takes it out of the map before it ends, so that who asks after the change begins anew.
//! However the task ends, by value, panic or cancellation, its followers are told: they wait on the task itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use foldhash::fast::RandomState;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;

use super::flown::Flown;
use crate::clock;
use crate::domain::{Moment, UserId};

/// A flight that can be waited for.
#[derive(Debug, Clone)]
pub struct Flight {
    id: u64,
    /// When it began; its reading began no earlier.
    pub begun: Moment,
    overtaken: Arc<AtomicBool>,
    landing: Shared<BoxFuture<'static, Flown>>,
}

/// What became of wanting a reading begun at `not_before` or later.
pub enum Boarding {
    /// A flight that began late enough; somebody else leads it.
    Joined(Flight),
    /// A new flight.
    Led(Flight),
    /// One is under way that began too early: wait for its end, then board again.
    TooEarly(Flight),
}

/// The flights of this process.
#[derive(Debug, Default)]
pub struct Flights {
    map: Arc<DashMap<UserId, Flight, RandomState>>,
    next_id: AtomicU64,
}

impl Flight {
    /// Waits for the end. May be dropped and called again.
    pub async fn landing(&self) -> Flown {
        self.landing.clone().await
    }
}

impl Flights {
    /// Joins the flight of the user, or leads a new one doing `fly`. `fly` is told when it began and whether it was overtaken.
    pub fn board<F>(
        &self,
        user: &UserId,
        not_before: Moment,
        io: &Handle,
        fly: impl FnOnce(Moment, Arc<AtomicBool>) -> F,
    ) -> Boarding
    where
        F: Future<Output = Flown> + Send + 'static,
    {
        // The map's own lock makes the choice one step; nothing below it waits or calls back.
        match self.map.entry(user.clone()) {
            Slot::Occupied(slot) if slot.get().begun >= not_before => Boarding::Joined(slot.get().clone()),
            Slot::Occupied(slot) => Boarding::TooEarly(slot.get().clone()),
            Slot::Vacant(slot) => {
                let (id, begun) = (self.next_id.fetch_add(1, Ordering::Relaxed), clock::now());
                let overtaken = Arc::new(AtomicBool::new(false));
                let (map, user) = (self.map.clone(), user.clone());
                let flying = fly(begun, overtaken.clone());
                let task = io.spawn(async move {
                    // Out of the map before anybody hears of the end, and on every way of ending. Made in here: a runtime that
                    // is shutting down drops the task where it is spawned, under the map's lock.
                    let _leaving = Leaving { map, user, id };
                    flying.await
                });
                let landing = task.map(|ended| ended.unwrap_or(Flown::Lost)).boxed().shared();
                let flight = Flight { id, begun, overtaken, landing };
                slot.insert(flight.clone());
                Boarding::Led(flight)
            }
        }
    }

    /// The flight of the user, if it began late enough.
    pub fn joinable(&self, user: &UserId, not_before: Moment) -> Option<Flight> {
        self.map.get(user).filter(|flight| flight.begun >= not_before).map(|flight| flight.clone())
    }

    /// A change of the user passes: its flight lands nowhere and can no longer be joined.
    pub fn overtake(&self, user: &UserId) {
        if let Some((_, flight)) = self.map.remove(user) {
            flight.overtaken.store(true, Ordering::Release);
        }
    }

    /// The same for every user.
    pub fn overtake_all(&self) {
        self.map.retain(|_, flight| {
            flight.overtaken.store(true, Ordering::Release);
            false
        });
    }

    /// Whether a flight of the user may be joined.
    #[cfg(test)]
    pub fn is_under_way(&self, user: &UserId) -> bool {
        self.map.contains_key(user)
    }
}

/// Takes a flight out of the map when it is dropped, unless another one is there by then.
struct Leaving {
    map: Arc<DashMap<UserId, Flight, RandomState>>,
    user: UserId,
    id: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.map.remove_if(&self.user, |_, flight| flight.id == self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::answer::Content;
    use super::super::flown::Reading;
    use super::*;
    use crate::protocol::freshness::Candidate;

    fn user() -> UserId {
        UserId::parse("user_1").expect("id")
    }

    fn reading() -> Flown {
        Flown::Landed(Reading { content: Content::Unknown, candidate: Candidate { as_of: Moment::ZERO, fence: Moment::ZERO } })
    }

    fn led(boarding: Boarding) -> Flight {
        match boarding {
            Boarding::Led(flight) => flight,
            Boarding::Joined(_) | Boarding::TooEarly(_) => panic!("a new flight was expected"),
        }
    }

    #[tokio::test]
    async fn i11_followers_join_the_one_flight_and_a_later_need_waits_for_the_next() {
        let flights = Flights::default();
        let io = Handle::current();
        let (release, held) = oneshot::channel::<()>();
        let first = led(flights.board(&user(), Moment::ZERO, &io, |_, _| async move {
            let _ = held.await;
            reading()
        }));
        let never = |_: Moment, _: Arc<AtomicBool>| async { unreachable!("nobody else leads") };
        assert!(matches!(flights.board(&user(), first.begun, &io, never), Boarding::Joined(_)));
        let later = first.begun + std::time::Duration::from_secs(1);
        let Boarding::TooEarly(early) = flights.board(&user(), later, &io, never) else { panic!("too early") };
        release.send(()).expect("it waits");
        assert!(matches!(early.landing().await, Flown::Landed(_)));
        led(flights.board(&user(), later, &io, |_, _| async { reading() })).landing().await;
        assert!(!flights.is_under_way(&user()));
    }

    #[tokio::test]
    async fn i11_a_flight_that_panics_tells_its_followers_and_leaves_the_map() {
        let flights = Flights::default();
        let flight = led(flights.board(&user(), Moment::ZERO, &Handle::current(), |_, _| async { panic!("on purpose") }));
        assert!(matches!(flight.landing().await, Flown::Lost));
        assert!(!flights.is_under_way(&user()));
    }

    #[tokio::test]
    async fn i11_an_overtaken_flight_cannot_be_joined_and_does_not_evict_its_successor() {
        let flights = Flights::default();
        let io = Handle::current();
        let (release, held) = oneshot::channel::<()>();
        let old = led(flights.board(&user(), Moment::ZERO, &io, |_, overtaken| async move {
            let _ = held.await;
            assert!(overtaken.load(Ordering::Acquire));
            Flown::Lost
        }));
        flights.overtake(&user());
        let (keep, kept) = oneshot::channel::<()>();
        let new = led(flights.board(&user(), Moment::ZERO, &io, |_, _| async move {
            let _ = kept.await;
            reading()
        }));
        release.send(()).expect("it waits");
        old.landing().await;
        assert!(flights.is_under_way(&user()));
        keep.send(()).expect("it waits");
        assert!(matches!(new.landing().await, Flown::Landed(_)));
    }

    #[tokio::test]
    async fn everybody_overtaken_is_each_of_them() {
        let flights = Flights::default();
        let (release, held) = tokio::sync::watch::channel(());
        let begin = |name: &str| {
            let mut held = held.clone();
            let user = UserId::parse(name).expect("id");
            let boarding = flights.board(&user, Moment::ZERO, &Handle::current(), |_, overtaken| async move {
                held.changed().await.expect("it is released");
                assert!(overtaken.load(Ordering::Acquire));
                reading()
            });
            (user, led(boarding))
        };
        let begun = ["user_1", "user_2"].map(begin);
        flights.overtake_all();
        release.send_replace(());
        for (user, flight) in begun {
            assert!(!flights.is_under_way(&user));
            assert!(matches!(flight.landing().await, Flown::Landed(_)));
        }
    }
}
