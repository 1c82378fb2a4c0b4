//! What a flight does: take the lease, ask the origin, apply the facts, land. Upholds I5.
//!
//! The order is what keeps a slow answer from bringing back what a change took away:
//!
//! ```text
//! 1: reads the stripe, takes the lease
//! 1: asks the origin, which answers with the old list
//!                             2: a change passes: voids the lease, then (here) remembers the fact, bumps the stripe
//! 1: applies the facts; lands in Redis: refused, the lease is void; lands here: refused, the stripe moved
//! ```
//!
//! With the lease or the stripe taken after the origin was asked, both landings would go through and the old list would be
//! served until it expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Cache;
use super::answer::Content;
use super::flight::{Flown, Reading};
use super::local::Entry;
use crate::clock;
use crate::domain::{List, Membership, Moment, UserId};
use crate::ports::{Landed, OriginAnswer, Priority};
use crate::protocol::facts::{KEPT_WITHOUT_EXPECTED, Outranked};
use crate::protocol::freshness::Candidate;

impl Cache {
    /// One origin read of the user. A drop at any await leaves at most a lease that nobody uses.
    pub(super) async fn fly(self, user: UserId, priority: Priority, begun: Moment, overtaken: Arc<AtomicBool>) -> Flown {
        let cache = &*self.inner;
        let stripe = cache.local.stripe(&user);
        let standing = cache.facts.standing();
        let lease = match &cache.parts.shared {
            Some(shared) => shared.begin(&user).await.ok(),
            None => None,
        };

        let answer = match cache.parts.origin.read(&user, priority).await {
            Ok(answer) => answer,
            Err(error) => return Flown::Failed(error),
        };

        // The fence and the counter before the facts: what they vouch for is then behind the facts.
        let now = clock::now();
        let candidate = Candidate { as_of: begun, fence: cache.parts.fence.load(now) };
        let generation = cache.facts.generation();
        // Continuity was lost meanwhile: a change may have been, too.
        let is_doubted = cache.facts.standing() != standing || !cache.facts.may_trust(begun);
        let (content, outranked) = self.outranked(&user, begun, answer);
        let reading = Reading { content, candidate };
        if overtaken.load(Ordering::Acquire) || outranked.is_void || is_doubted {
            cache.counts.refused("overtaken");
            return Flown::Overtaken(reading);
        }

        let keep = outranked.lacks_expected.then_some(KEPT_WITHOUT_EXPECTED);
        if let (Some(shared), Some(lease), Content::List(list)) = (&cache.parts.shared, lease, &reading.content) {
            match shared.land(lease, list, keep).await {
                Ok(Landed::Landed) => {}
                Ok(Landed::RefusedLease) => {
                    cache.counts.refused("lease");
                    return Flown::Overtaken(reading);
                }
                // A reading that began later is there: this one is answered and kept nowhere.
                Ok(Landed::RefusedNewer) => {
                    cache.counts.refused("newer");
                    return Flown::Landed(reading);
                }
                // Without Redis the local tier still serves, as far as the fence allows.
                Err(_) => cache.counts.refused("shared-unavailable"),
            }
        }
        let reread_at = self.reread_at(clock::now(), keep);
        cache.local.land(&user, stripe, Entry::new(reading.content.clone(), begun, reread_at, generation, standing));
        Flown::Landed(reading)
    }

    /// The answer with the facts applied to it.
    fn outranked(&self, user: &UserId, as_of: Moment, answer: OriginAnswer) -> (Content, Outranked) {
        let OriginAnswer::Memberships(mut memberships) = answer else { return (Content::Unknown, Outranked::default()) };
        if self.inner.facts.dead_since(user, as_of).is_some() {
            return (Content::Unknown, Outranked::default());
        }
        let outranked = self.apply_facts(user, as_of, &mut memberships);
        (Content::List(List::new(&memberships)), outranked)
    }

    /// Applies the facts and counts what they did.
    pub(super) fn apply_facts(&self, user: &UserId, as_of: Moment, memberships: &mut Vec<Membership>) -> Outranked {
        let outranked = self.inner.facts.apply(user, as_of, memberships);
        if outranked.is_corrected {
            self.inner.counts.corrected.inc();
        }
        outranked
    }

    /// Until when an entry landed at `now` is used without looking at the shared tier again.
    pub(super) fn reread_at(&self, now: Moment, keep: Option<std::time::Duration>) -> Moment {
        let parts = &self.inner.parts;
        let age_max = match parts.shared {
            Some(_) => parts.bounds.local_age_max,
            None => parts.bounds.ttl,
        };
        now + keep.map_or(age_max, |keep| keep.min(age_max))
    }
}
