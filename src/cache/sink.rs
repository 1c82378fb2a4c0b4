//! Changes in: from the stream's reader, in order, and from the intake, ahead of it. Upholds I3, I5.
//!
//! Applied as: remember the fact, bump the user's stripe, drop the local entry, take the flight out of the sky. A reader
//! takes the stripe before it looks at the facts, so that whichever comes first, nothing old is inserted after.

use super::Cache;
use crate::domain::{Change, Moment};
use crate::ports::{Break, StreamSink};
use crate::protocol::rules::{self, Rule};

impl Cache {
    /// Applies a change to this process ahead of the stream, and keeps it so if Redis is away. The refresh waits for the
    /// stream: begun now, the invalidation that follows in Redis would void its lease.
    pub fn apply_early(&self, change: &Change, at: Moment) {
        for user in self.pass(change, at) {
            if !self.inner.refreshes.want(user) {
                self.inner.counts.refreshes_dropped.inc();
            }
        }
    }

    /// Makes the change pass this node; answers the users whose entries were in use.
    fn pass<'a>(&self, change: &'a Change, at: Moment) -> Vec<&'a crate::domain::UserId> {
        let cache = &*self.inner;
        let mut in_use = Vec::new();
        let drop_entries = || {
            for user in change.users() {
                if cache.local.invalidate(user) {
                    in_use.push(user);
                }
                cache.flights.overtake(user);
            }
        };
        rules::in_order(Rule::FactBeforeBump, || cache.facts.remember(change, at), drop_entries);
        if matches!(change, Change::AllEvicted) {
            cache.facts.clear_standing();
            cache.flights.overtake_all();
        }
        in_use
    }
}

impl StreamSink for Cache {
    fn apply(&self, change: &Change, at: Moment) {
        let in_use = self.pass(change, at);
        // A new membership may not show at the origin yet: the next read finds out. Everything else is read again at once.
        let is_awaited = matches!(change, Change::MembershipCreated { .. });
        for user in change.users() {
            let was_in_use = self.inner.refreshes.take(user) | in_use.contains(&user);
            if was_in_use && !is_awaited {
                self.refresh(user.clone());
            }
        }
    }

    fn apply_unreadable(&self) {
        if rules::is_on(Rule::UnreadableClearsStanding) {
            self.inner.facts.clear_standing();
        }
    }

    fn broke(&self, _cause: Break) {
        self.inner.refreshes.want_nobody();
        if rules::is_on(Rule::BreakClearsStanding) {
            self.inner.facts.clear_standing();
        }
    }

    fn doubt_before(&self, since: Moment) {
        self.inner.facts.doubt_before(since);
    }

    fn missed_before(&self, at: Moment) {
        self.inner.facts.miss_before(at);
    }
}
