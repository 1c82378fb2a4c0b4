//! When the instance's keys are asked for. Decides only: whoever is told to fetch does, and lands what came.
//!
//! A set is good for five minutes. A key that is not in it has the set fetched again, but at most every ten seconds, so that
//! made-up key ids cannot hammer Clerk. Whoever finds a set too old waits for the next one: a key that was withdrawn is not used
//! once more after a quiet night. Once a fetch was in vain nobody waits for Clerk any more: the old keys go on, and fetches go
//! beside them. There is never more than one under way.

use std::sync::Arc;
use std::time::Duration;

use super::keys::{Key, KeySet};
use crate::domain::Moment;

/// Clerk's own libraries keep a set as long.
const FRESH_FOR: Duration = Duration::from_secs(5 * 60);
/// Between the begins of two fetches.
const PACE: Duration = Duration::from_secs(10);
/// A fetch is given up after this: one that never lands must not keep others from beginning.
pub const FETCH_TIME_MAX: Duration = Duration::from_secs(2);
const _: () = assert!(FETCH_TIME_MAX.as_millis() < PACE.as_millis());

/// The keys at hand.
#[derive(Debug)]
pub struct KeyRing {
    keys: Keys,
    /// When the set at hand was asked for.
    as_of: Option<Moment>,
    /// When a set was last asked for.
    asked_at: Option<Moment>,
    is_under_way: bool,
    /// The last fetch that ended brought nothing.
    was_in_vain: bool,
}

#[derive(Debug)]
enum Keys {
    /// One key, whatever a token calls it. Never fetched.
    Pinned(Arc<Key>),
    Fetched(Option<KeySet>),
}

/// What is to be done about a token's key.
#[derive(Debug)]
pub enum Next {
    /// Verify with this key.
    Use(Arc<Key>),
    /// Verify with this key, and fetch the set beside that: nobody waits for it.
    UseAndFetch(Arc<Key>),
    /// Fetch the set, land it, and ask again. Nobody else is told so until then.
    Fetch,
    /// Somebody fetches: ask again when it has landed.
    Await,
    /// The instance has no such key.
    Unknown,
    /// Whether the instance has such a key could not be found out.
    Unavailable {
        /// When asking again has a chance.
        retry_after: Duration,
    },
}

impl KeyRing {
    /// With a key that was configured.
    pub fn pinned(key: Arc<Key>) -> Self {
        Self::of(Keys::Pinned(key))
    }

    /// With none yet.
    pub fn fetched() -> Self {
        Self::of(Keys::Fetched(None))
    }

    fn of(keys: Keys) -> Self {
        Self { keys, as_of: None, asked_at: None, is_under_way: false, was_in_vain: false }
    }

    /// What to do for a token that names this key. One that names none has none among many.
    pub fn next(&mut self, key_id: Option<&str>, now: Moment) -> Next {
        let key = match &self.keys {
            Keys::Pinned(key) => return Next::Use(key.clone()),
            Keys::Fetched(keys) => key_id.and_then(|id| keys.as_ref()?.find(id)).cloned(),
        };
        let Some(_) = key_id else { return Next::Unknown };
        if let Some(key) = key.clone().filter(|_| self.is_fresh(now)) {
            return Next::Use(key);
        }
        // A fetch that hangs is as vain as one that failed.
        let has_hung = self.is_under_way && !self.is_under_way(now);
        let old = key.filter(|_| self.was_in_vain || has_hung);
        if self.is_under_way(now) {
            return old.map_or(Next::Await, Next::Use);
        }
        let waited = self.asked_at.map(|at| now.since(at));
        if waited.is_none_or(|waited| waited >= PACE) {
            (self.asked_at, self.is_under_way) = (Some(now), true);
            return old.map_or(Next::Fetch, Next::UseAndFetch);
        }
        match old {
            Some(key) => Next::Use(key),
            None if self.as_of == self.asked_at => Next::Unknown,
            None => Next::Unavailable { retry_after: PACE.saturating_sub(waited.unwrap_or_default()) },
        }
    }

    /// Ends the fetch that was begun: with a set, or in vain, which leaves the old one.
    pub fn land(&mut self, fetched: Option<KeySet>) {
        self.is_under_way = false;
        self.was_in_vain = fetched.is_none();
        if let (Some(keys), Keys::Fetched(at_hand)) = (fetched, &mut self.keys) {
            *at_hand = Some(keys);
            self.as_of = self.asked_at;
        }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.as_of.is_some_and(|as_of| now.since(as_of) <= FRESH_FOR)
    }

    fn is_under_way(&self, now: Moment) -> bool {
        self.is_under_way && self.asked_at.is_some_and(|at| now.since(at) <= FETCH_TIME_MAX)
    }
}
