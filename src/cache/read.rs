//! THE HOT PATH: a hit in the local tier. Nothing rare lives here. Upholds I6, I7, I10 and I13.
//!
//! The budget of a hit: no allocation, no await, no log, no format; one shard read-lock for the length of a hash look-up;
//! three atomic loads, three relaxed stores or adds; the body is shared, not copied. Only an answer that is a "no" takes a
//! lock, the entry's own. `scripts/bench --quick` measures what it costs in a whole request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Cache;
use super::answer::{Answer, Question, Source};
use super::local::Entry;
use crate::domain::{Moment, UserId};
use crate::protocol::freshness::{Candidate, Verdict, Wants};

/// A refresh that was refused is asked for again after this.
const REFRESH_AGAIN: Duration = Duration::from_secs(2);

impl Cache {
    /// The answer to a request that arrived at `arrived`, if this process can vouch for one at `now`. Everything else is
    /// [`Cache::read`]'s.
    pub fn hit(&self, user: &UserId, question: &Question, wants: &Wants, arrived: Moment, now: Moment) -> Option<Answer> {
        let (entry, answer) = self.find(user, question, wants, arrived, now)?;
        entry.hits.note();
        self.inner.counts.hit();
        if now.as_micros() > entry.refresh_at.load(Ordering::Relaxed) {
            self.refresh_paced(user, &entry, now);
        }
        Some(answer)
    }

    /// Whether [`Cache::hit`] would answer; leaves no trace.
    pub fn has(&self, user: &UserId, question: &Question, wants: &Wants, arrived: Moment, now: Moment) -> bool {
        self.find(user, question, wants, arrived, now).is_some()
    }

    #[inline]
    fn find(
        &self,
        user: &UserId,
        question: &Question,
        wants: &Wants,
        arrived: Moment,
        now: Moment,
    ) -> Option<(Arc<Entry>, Answer)> {
        let cache = &*self.inner;
        // The order is the proof: the fence, then the counter, then the entry. An entry found after the fence was loaded
        // has every change up to the fence behind it; loaded the other way round, the fence could vouch for a change that
        // dropped the entry just after it was found.
        let fence = cache.parts.fence.load(now);
        let generation = cache.facts.generation();
        let entry = cache.local.get(user)?;

        if entry.generation != generation || now > entry.reread_at {
            return None;
        }
        let candidate = Candidate { as_of: entry.as_of, fence };
        if cache.parts.bounds.judge(candidate, wants, arrived, now) != Verdict::Good {
            return None;
        }
        if !entry.may_answer(question, &cache.parts.bounds, arrived) {
            return None;
        }
        let answer = Answer { content: entry.content.clone(), candidate, decided_at: now, source: Source::Local };
        Some((entry, answer))
    }

    /// Asks for a background refresh of an entry in use; again in a while, should it find no place in the budget.
    #[cold]
    fn refresh_paced(&self, user: &UserId, entry: &Entry, now: Moment) {
        let due = entry.refresh_at.load(Ordering::Relaxed);
        let next = (now + REFRESH_AGAIN).as_micros();
        if entry.refresh_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.refresh(user.clone());
        }
    }
}
