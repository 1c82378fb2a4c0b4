//! What readings say that no message told. A flight notes a difference where its reading replaces an entry; the sweep takes
//! it up again when a message has had the time to come. Upholds I8 and I12.
//!
//! A difference noted is a question, not a finding: the message may be on its way, and the reading may be older than the
//! entry, of a replica that lags. Both are settled by waiting and reading once more. The reading itself has landed like
//! any other, so nobody is answered from the old list meanwhile where the new one is known.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Cache;
use super::answer::Content;
use super::flown::{Flown, Reading};
use crate::clock;
use crate::domain::{List, Moment, UserId};
use crate::protocol::difference::Compared;

/// Differences that wait at once.
const WAITING_MAX: usize = 256;

/// A list that a later reading contradicts.
#[derive(Debug)]
pub struct Difference {
    /// Whose.
    pub user: UserId,
    list: List,
    as_of: Moment,
    standing: u64,
    found_at: Moment,
}

/// What became of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// A second reading says so too, and no message of it has come.
    Unannounced,
    /// A message came, or the second reading does not say so.
    Explained,
    /// The origin could not be asked, or this node is behind the change stream: to be settled another time.
    Unknown,
}

/// The differences that wait, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Differences(Mutex<VecDeque<Difference>>);

impl Differences {
    /// Puts one to the others; false when there are too many.
    fn push(&self, difference: Difference) -> bool {
        let mut waiting = self.lock();
        let has_place = waiting.len() < WAITING_MAX;
        if has_place {
            waiting.push_back(difference);
        }
        has_place
    }

    fn take(&self, found_until: Moment) -> Option<Difference> {
        let mut waiting = self.lock();
        let is_due = waiting.front().is_some_and(|difference| difference.found_at <= found_until);
        if is_due { waiting.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Difference>> {
        // Nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Compares a reading that is about to land with the entry that it replaces. A change that passes meanwhile shows when
    /// the difference is taken up, in what is remembered of the user by then.
    pub(super) fn note_difference(&self, user: &UserId, reading: &Reading) {
        let cache = &*self.inner;
        let Some(entry) = cache.local.get(user) else { return };
        let Content::List(list) = &entry.content else { return };
        let (as_of, standing) = (entry.as_of, cache.facts.standing());
        if as_of >= reading.candidate.as_of || entry.standing != standing || !cache.facts.may_trust(as_of) {
            return;
        }
        let compared = self.compared(user, as_of, list, reading);
        cache.counts.compared(compared);
        if compared == Compared::Different {
            let difference = Difference { user: user.clone(), list: list.clone(), as_of, standing, found_at: clock::now() };
            if !cache.differences.push(difference) {
                cache.counts.differences_dropped.inc();
            }
        }
    }

    /// The next difference found at `found_until` or before.
    pub fn take_difference(&self, found_until: Moment) -> Option<Difference> {
        self.inner.differences.take(found_until)
    }

    /// Whether a change of the user has passed since the list was read, or nothing can be said of it any more.
    pub fn is_explained(&self, difference: &Difference) -> bool {
        let (facts, user) = (&self.inner.facts, &difference.user);
        facts.standing() != difference.standing
            || !facts.may_trust(difference.as_of)
            || facts.has_changed_since(user, difference.as_of)
            || facts.dead_since(user, clock::now()).is_some()
    }

    /// Settles a difference by a second reading, begun now.
    pub async fn settle(&self, difference: &Difference) -> Settled {
        match self.refreshed(&difference.user, clock::now()).await {
            // A message may have passed that this node has not heard of.
            Some(Flown::Landed(_)) if self.lag() > self.bounds().staleness => Settled::Unknown,
            Some(Flown::Landed(reading)) => {
                let compared = self.compared(&difference.user, difference.as_of, &difference.list, &reading);
                // Last: a change is remembered before it can explain anything.
                match compared == Compared::Different && !self.is_explained(difference) {
                    true => Settled::Unannounced,
                    false => Settled::Explained,
                }
            }
            Some(Flown::Overtaken(_)) => Settled::Explained,
            Some(Flown::Failed(_) | Flown::Lost) | None => Settled::Unknown,
        }
    }

    fn compared(&self, user: &UserId, as_of: Moment, list: &List, reading: &Reading) -> Compared {
        let later = match &reading.content {
            Content::List(later) if later.digest() == list.digest() => return Compared::Same,
            Content::List(later) => Some(later.memberships()),
            Content::Unknown => None,
        };
        self.inner.facts.compare(user, (as_of, list.memberships()), (reading.candidate.as_of, later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(at: u64) -> Difference {
        let user = UserId::parse("user_1").expect("id");
        Difference { user, list: List::new(&[]), as_of: Moment::ZERO, standing: 0, found_at: Moment::from_micros(at) }
    }

    #[test]
    fn a_difference_is_taken_up_when_its_time_has_come() {
        let differences = Differences::default();
        assert!(differences.push(difference(5)) && differences.push(difference(7)));
        assert!(differences.take(Moment::from_micros(4)).is_none());
        assert_eq!(differences.take(Moment::from_micros(6)).map(|found| found.found_at), Some(Moment::from_micros(5)));
        assert!(differences.take(Moment::from_micros(6)).is_none());
    }

    #[test]
    fn i12_only_so_many_wait() {
        let differences = Differences::default();
        let kept = (0..WAITING_MAX as u64 + 9).filter(|at| differences.push(difference(*at))).count();
        assert_eq!(kept, WAITING_MAX);
    }
}
