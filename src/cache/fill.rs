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

use tracing::warn;

use super::Cache;
use super::answer::Content;
use super::flown::{Flown, Reading};
use super::local::Entry;
use crate::clock;
use crate::domain::{List, Membership, Moment, UserId};
use crate::ports::{Landed, Lease, OriginAnswer, OriginError, Priority};
use crate::protocol::facts::{KEPT_WITHOUT_EXPECTED, Outranked};
use crate::protocol::freshness::{Candidate, Wants};
use crate::protocol::rules::{self, Rule};

/// What a flight is to bring.
pub(super) struct Plan {
    /// Of whom.
    pub user: UserId,
    /// How urgent it is.
    pub priority: Priority,
    /// A reading that began earlier is of no use.
    pub not_before: Moment,
}

impl Cache {
    /// One origin read of the user, unless a flight that just ended brought what began at `not_before` or later: who missed
    /// the tiers before it landed, and the sky after it left, would ask once more. A flight lands before it leaves, so what
    /// is looked at here, with this flight in the map, is not missed twice (I11).
    pub(super) async fn fly_unless_landed(self, plan: Plan, begun: Moment, overtaken: Arc<AtomicBool>) -> Flown {
        let now = clock::now();
        let known = self.known(&plan.user).filter(|known| known.has_standing && now <= known.reread_at);
        match known.map(|known| known.reading) {
            Some(reading)
                if reading.candidate.as_of >= plan.not_before && self.is_good(reading.candidate, &Wants::default(), begun) =>
            {
                Flown::Landed(reading)
            }
            _ => self.fly(plan.user, plan.priority, begun, overtaken).await,
        }
    }

    /// One origin read of the user. A drop at any await leaves at most a lease that nobody uses.
    pub(super) async fn fly(self, user: UserId, priority: Priority, begun: Moment, overtaken: Arc<AtomicBool>) -> Flown {
        let cache = &*self.inner;
        let stripe = cache.local.stripe(&user);
        let standing = cache.facts.standing();
        let mut lease = if rules::is_on(Rule::LeaseBeforeOrigin) { self.lease(&user).await } else { None };

        let answer = match cache.parts.origin.read(&user, priority).await {
            Ok(answer) => answer,
            Err(error) => {
                // A refresh that finds no place in the budget is no trouble, and counted there.
                if priority != Priority::Refresh || !matches!(error, OriginError::RateLimited { .. }) {
                    self.complain(&error);
                }
                self.give_back(lease);
                return Flown::Failed(error);
            }
        };

        if !rules::is_on(Rule::LeaseBeforeOrigin) {
            lease = self.lease(&user).await;
        }
        // The fence and the counter before the facts: what they vouch for is then behind the facts.
        let now = clock::now();
        let candidate = Candidate { as_of: begun, fence: cache.parts.fence.load(now) };
        let generation = cache.facts.generation();
        // Continuity was lost meanwhile: a change may have been, too.
        let is_doubted = cache.facts.standing() != standing || !cache.facts.may_trust(begun);
        let is_doubted = is_doubted && rules::is_on(Rule::DoubtedFlightLandsNowhere);
        let (content, outranked) = self.outranked(&user, begun, answer);
        let reading = Reading { content, candidate };
        if overtaken.load(Ordering::Acquire) || outranked.is_void || is_doubted {
            cache.counts.refused("overtaken");
            self.give_back(lease);
            return Flown::Overtaken(reading);
        }

        let keep = outranked.lacks_expected.then_some(KEPT_WITHOUT_EXPECTED);
        let lease = match &reading.content {
            Content::List(_) => lease,
            Content::Unknown => {
                self.give_back(lease);
                None
            }
        };
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
        self.note_difference(&user, &reading);
        let reread_at = self.reread_at(clock::now(), keep);
        let entry = self.entry(reading.content.clone(), begun, reread_at, keep.is_some(), (generation, standing));
        cache.local.land(&user, stripe, entry);
        Flown::Landed(reading)
    }

    /// The right to fill the shared tier, where there is one that gives it.
    async fn lease(&self, user: &UserId) -> Option<Lease> {
        self.inner.parts.shared.as_ref()?.begin(user).await.ok()
    }

    /// Says why the origin could not be asked, at most once a second: an outage fails every flight.
    fn complain(&self, error: &OriginError) {
        if self.inner.complaints.is_due(clock::now()) {
            warn!(error = %error, "the origin could not be asked");
        }
    }

    /// Leaves nothing in Redis of a user of whom nothing is landed: strangers would fill it at the pace of requests.
    /// Nobody waits for it.
    fn give_back(&self, lease: Option<Lease>) {
        if let (Some(shared), Some(lease)) = (self.inner.parts.shared.clone(), lease) {
            self.io().spawn(async move { shared.release(lease).await });
        }
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

    /// An entry for the local tier. The counters are those from before the facts were applied.
    pub(super) fn entry(
        &self,
        content: Content,
        as_of: Moment,
        reread_at: Moment,
        is_brief: bool,
        counters: (u64, u64),
    ) -> Entry {
        let (generation, standing) = counters;
        let refresh_at = as_of + self.inner.parts.bounds.refresh_age();
        Entry { generation, standing, is_brief, ..Entry::new(content, as_of, reread_at, refresh_at) }
    }

    /// Until when an entry landed at `now` is used without looking at the shared tier again.
    pub(super) fn reread_at(&self, now: Moment, keep: Option<std::time::Duration>) -> Moment {
        let parts = &self.inner.parts;
        let age_max = match parts.shared {
            Some(_) if rules::is_on(Rule::LocalTierLooksAgain) => parts.bounds.local_age_max,
            Some(_) | None => parts.bounds.ttl,
        };
        now + keep.map_or(age_max, |keep| keep.min(age_max))
    }
}
