//! Background refresh: an entry in use is filled again before it expires, and after a change. Bounded (I12); it spends only
//! what nobody else wants of the origin's budget.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashSet;
use foldhash::fast::RandomState;

use super::Cache;
use super::flight::{Boarding, Flight};
use super::flown::Flown;
use super::order::Looker;
use crate::clock;
use crate::domain::{Moment, UserId};
use crate::ports::{OriginError, Priority};

/// Refreshes under way at once.
const REFRESHES_MAX: usize = 64;
/// Users remembered between this node's own application of a change and its entry in the stream.
const WANTED_MAX: usize = 10_000;

/// What is being refreshed, and what is to be once its change is in the stream.
#[derive(Debug, Default)]
pub struct Refreshes {
    under_way: Arc<AtomicUsize>,
    wanted: DashSet<UserId, RandomState>,
}

impl Refreshes {
    /// Remembers that a user whose entry was dropped was in use.
    /// False when there are too many.
    pub fn want(&self, user: &UserId) -> bool {
        let has_place = self.wanted.len() < WANTED_MAX;
        if has_place {
            self.wanted.insert(user.clone());
        }
        has_place
    }

    /// Forgets them: entries that a break lost never come.
    pub fn want_nobody(&self) {
        self.wanted.clear();
    }

    /// Whether the user was in use; forgets it.
    pub fn take(&self, user: &UserId) -> bool {
        self.wanted.remove(user).is_some()
    }
}

/// What became of reading a user again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// The origin has answered.
    Done,
    /// There was no place for it in the budget.
    Refused,
    /// The origin could not be asked.
    Failed,
}

/// Holds a place among the refreshes until dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cache {
    /// Begins a refresh unless one flies already or too many do. Never waits.
    pub(super) fn refresh(&self, user: UserId) {
        self.board_refresh(&user, Moment::ZERO);
    }

    /// The next user in turn whose list is in use, if it was read at least `age_min` ago and may still answer.
    pub fn next_in_use(&self, age_min: Duration) -> Option<UserId> {
        let now = clock::now();
        self.inner.local.next_in_use(&(now - self.inner.parts.bounds.ttl..=now - age_min))
    }

    /// Reads a user again, as the background refresh does. One that could not be read has another turn in the next round.
    pub async fn reread(&self, user: &UserId) -> Reread {
        let reread = match self.refreshed(user, Moment::ZERO).await {
            Some(Flown::Landed(_) | Flown::Overtaken(_)) => return Reread::Done,
            Some(Flown::Failed(OriginError::RateLimited { .. })) | None => Reread::Refused,
            Some(Flown::Failed(_) | Flown::Lost) => Reread::Failed,
        };
        if let Some(entry) = self.inner.local.get(user) {
            entry.hits.give_back(Looker::Sweep);
        }
        reread
    }

    /// A refresh begun at `not_before` or later, and how it ended; none if it cannot be begun now.
    pub(super) async fn refreshed(&self, user: &UserId, not_before: Moment) -> Option<Flown> {
        Some(self.board_refresh(user, not_before)?.landing().await)
    }

    fn board_refresh(&self, user: &UserId, not_before: Moment) -> Option<Flight> {
        let under_way = &self.inner.refreshes.under_way;
        if under_way.fetch_add(1, Ordering::Relaxed) >= REFRESHES_MAX {
            under_way.fetch_sub(1, Ordering::Relaxed);
            self.inner.counts.refreshes_dropped.inc();
            return None;
        }
        let place = Place(under_way.clone());
        let (cache, of) = (self.clone(), user.clone());
        let boarding = self.inner.flights.board(user, not_before, self.io(), move |begun, overtaken| async move {
            let _place = place;
            cache.fly(of, Priority::Refresh, begun, overtaken).await
        });
        match boarding {
            Boarding::Led(flight) => {
                self.inner.counts.refreshes.inc();
                Some(flight)
            }
            Boarding::Joined(flight) => Some(flight),
            Boarding::TooEarly(_) => None,
        }
    }
}
