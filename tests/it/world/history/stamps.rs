//! What an answer says of itself: whether that is within what was promised, and whether it can be true.

use std::time::Duration;

use super::judge::{ROUNDING, check};
use super::{History, Read, Stamp};

impl History {
    /// Holds an answer to its own words. The node may have stood still between the decision and its words.
    pub(super) fn judge_stamp(&self, read: &Read) -> Result<(), String> {
        let Some(stamp) = read.stamp else { return Ok(()) };
        let took = read.ended - read.began + ROUNDING;
        let is_current = stamp.is_one_of_many || stamp.lag <= self.lag_max(read) + took;
        let is_within = is_current || stamp.age <= self.lag_max(read) + took;
        check(is_within, || "past the bound, in its own words".into())?;
        check(!read.is_demanded || stamp.age <= took, || "an old reading, where a new one was demanded".into())?;
        let age_max = self.ages_max.map_or(Duration::MAX, |(ttl, grace)| ttl + if stamp.is_grace { grace } else { took });
        check(stamp.age <= age_max, || "older than the TTL, in its own words".into())?;
        let is_oldest = stamp.oldest >= stamp.age && stamp.oldest_seconds == stamp.oldest.as_secs();
        check(is_oldest, || "its headers contradict each other".into())?;
        check(!self.cannot_have_heard(read, stamp), || "it claims to have read the stream while it was cut off".into())
    }

    /// Whether the node had no link to Redis through the whole of this read, and claims a fence from within that time.
    fn cannot_have_heard(&self, read: &Read, stamp: Stamp) -> bool {
        let through = self.cuts.iter().find(|cut| cut.node == read.node && cut.from <= read.began && read.ended <= cut.to);
        through.is_some_and(|cut| stamp.lag + ROUNDING < read.began - cut.from)
    }
}
