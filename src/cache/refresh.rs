//! Background refresh: an entry in use is filled again before it expires, and after a change. Bounded (I12); it spends only
//! what nobody else wants of the origin's budget.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use dashmap::DashSet;
use foldhash::fast::RandomState;

use super::Cache;
use super::flight::Boarding;
use crate::domain::{Moment, UserId};
use crate::ports::Priority;

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
        let under_way = &self.inner.refreshes.under_way;
        if under_way.fetch_add(1, Ordering::Relaxed) >= REFRESHES_MAX {
            under_way.fetch_sub(1, Ordering::Relaxed);
            self.inner.counts.refreshes_dropped.inc();
            return;
        }
        let place = Place(under_way.clone());
        let (cache, of) = (self.clone(), user.clone());
        let boarding = self.inner.flights.board(&user, Moment::ZERO, self.io(), move |begun, overtaken| async move {
            let _place = place;
            cache.fly(of, Priority::Refresh, begun, overtaken).await
        });
        if matches!(boarding, Boarding::Led(_)) {
            self.inner.counts.refreshes.inc();
        }
    }
}
