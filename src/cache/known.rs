//! The readings at hand: the local entry and the shared value, each with the facts of now. Upholds I5 and I6.
//!
//! Called on the way past the hot path. Whatever a reading is found by, the fence and the counters are loaded before it, so
//! that what changes meanwhile refuses to be stored and is not vouched for.

use std::sync::Arc;

use super::Cache;
use super::answer::Content;
use super::flown::Reading;
use super::local::Entry;
use crate::clock;
use crate::domain::{List, Moment, UserId};
use crate::ports::{Lease, SharedError, SharedTier};
use crate::protocol::facts::KEPT_WITHOUT_EXPECTED;
use crate::protocol::freshness::Candidate;
use crate::protocol::rules::{self, Rule};

/// A reading of the local tier, with what bounds its use.
pub(super) struct Known {
    /// What it says, with the facts of now.
    pub reading: Reading,
    /// The entry it is from; holds the refusals.
    pub entry: Arc<Entry>,
    /// From here on the shared tier is asked first.
    pub reread_at: Moment,
    /// It need not pass the shared tier first, as all must after a break.
    pub has_standing: bool,
}

impl Cache {
    /// Brings the local entry of a user up to the facts of now; false if there is none.
    pub fn catch_up(&self, user: &UserId) -> bool {
        self.known(user).is_some()
    }

    /// The local entry with the facts of now: if its counter is behind, they are applied and it is stored again.
    pub(super) fn known(&self, user: &UserId) -> Option<Known> {
        let cache = &*self.inner;
        let fence = cache.parts.fence.load(clock::now());
        let (stripe, generation, standing) = (cache.local.stripe(user), cache.facts.generation(), cache.facts.standing());
        let entry = cache.local.get(user)?;
        let reading = |content: Content, fence| Reading { content, candidate: Candidate { as_of: entry.as_of, fence } };
        if entry.generation == generation {
            let (reading, reread_at) = (reading(entry.content.clone(), fence), entry.reread_at);
            return Some(Known { reading, reread_at, has_standing: true, entry });
        }
        if !cache.facts.may_trust(entry.as_of) {
            cache.counts.untrusted.inc();
            return None;
        }
        let mut keep = None;
        let content = match &entry.content {
            Content::Unknown => Content::Unknown,
            Content::List(list) => {
                let mut memberships = list.memberships();
                let outranked = self.apply_facts(user, entry.as_of, &mut memberships);
                if outranked.is_void {
                    return None;
                }
                keep = outranked.lacks_expected.then_some(KEPT_WITHOUT_EXPECTED);
                Content::List(if outranked.is_corrected { List::new(&memberships) } else { list.clone() })
            }
        };
        let reread_at = entry.reread_at.min(self.reread_at(clock::now(), keep));
        if entry.standing != standing {
            // Nothing vouches for it but its own age.
            return Some(Known { reading: reading(content, Moment::ZERO), reread_at, has_standing: false, entry });
        }
        let is_brief = entry.is_brief || keep.is_some();
        let again = self.entry(content.clone(), entry.as_of, reread_at, is_brief, (generation, standing));
        cache.local.land(user, stripe, again);
        Some(Known { reading: reading(content, fence), reread_at, has_standing: true, entry })
    }

    /// A reading found earlier, with the facts of now; none if a change of the user passed since, or history was lost.
    pub(super) fn still(&self, user: &UserId, reading: Reading) -> Option<Reading> {
        let (facts, as_of) = (&self.inner.facts, reading.candidate.as_of);
        if !facts.may_trust(as_of) || facts.has_changed_since(user, as_of) {
            return None;
        }
        let Content::List(list) = &reading.content else { return Some(reading) };
        if facts.dead_since(user, as_of).is_some() {
            return None;
        }
        let mut memberships = list.memberships();
        let outranked = self.apply_facts(user, as_of, &mut memberships);
        let content = if outranked.is_corrected { Content::List(List::new(&memberships)) } else { reading.content };
        (!outranked.is_void).then_some(Reading { content, ..reading })
    }

    /// The shared value with the facts of now, promoted to the local tier.
    pub(super) async fn shared_reading(
        &self,
        shared: &Arc<dyn SharedTier>,
        user: &UserId,
    ) -> Result<Option<Reading>, SharedError> {
        let cache = &*self.inner;
        // Before the value is asked for: what changes from here on refuses the promotion, and the fence vouches for less.
        let fence = cache.parts.fence.load(clock::now());
        let (stripe, standing) = (cache.local.stripe(user), cache.facts.standing());
        // The counter is loaded after the standing: an entry that carries the counter of now passed the tier in this standing.
        let Some(value) = shared.get(user).await? else { return Ok(None) };
        let generation = cache.facts.generation();
        let is_old = !cache.facts.may_trust(value.as_of) || cache.facts.has_changed_since(user, value.as_of);
        // A list of who is gone was landed since by a node that had not heard, from an origin that lags. The look at the dead
        // that comes before this one needs a fresh fence: a value must not find its way around it, and into the local tier.
        let is_gone = rules::is_on(Rule::SharedValueOfTheDeadIsAMiss) && cache.facts.dead_since(user, value.as_of).is_some();
        if is_old || is_gone {
            cache.counts.untrusted.inc();
            return Ok(None);
        }
        let mut memberships = value.list.memberships();
        let outranked = self.apply_facts(user, value.as_of, &mut memberships);
        if outranked.is_void {
            return Ok(None);
        }
        let age = clock::now().since(value.as_of);
        if outranked.lacks_expected && age > KEPT_WITHOUT_EXPECTED && rules::is_on(Rule::SharedValueWithoutExpectedIsBrief) {
            // Landed by a node that had not heard of the membership, at its full life. Otherwise:
            //   1: hears of the join, keeps for 5 s what it reads here, and reads it here again
            // and so on, until the join is no longer expected. Upholds I4.
            cache.counts.untrusted.inc();
            return Ok(None);
        }
        let keep = outranked.lacks_expected.then(|| KEPT_WITHOUT_EXPECTED.saturating_sub(age));
        let list = if outranked.is_corrected { List::new(&memberships) } else { value.list.clone() };
        if outranked.is_corrected {
            // The shared value is corrected too, under the same lease and as-of; nobody waits for it.
            let (shared, list) = (shared.clone(), list.clone());
            let lease = Lease { user: user.clone(), token: value.token.clone(), stamp: value.stamp };
            self.io().spawn(async move { shared.land(lease, &list, keep).await });
        }
        let content = Content::List(list);
        if cache.facts.standing() == standing {
            let reread_at = self.reread_at(clock::now(), keep);
            let entry = self.entry(content.clone(), value.as_of, reread_at, keep.is_some(), (generation, standing));
            cache.local.land(user, stripe, entry);
        }
        Ok(Some(Reading { content, candidate: Candidate { as_of: value.as_of, fence } }))
    }
}
