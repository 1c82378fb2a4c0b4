//! The right to fill the shared tier, as values: what the guard of a user is, and what begin, land and invalidate do to it.
//! Upholds I5.
//!
//! The Lua scripts of the Redis room are this file in another language; a test runs both over the same histories. Absent
//! never equals absent: a fill begins by making sure that there is a lease, and lands only while the guard still holds that
//! very one. A missing guard refuses.

/// What stands beside a user's value: the lease that is good now, and what the value was landed as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// A random token; a change of the user replaces it.
    pub lease: Option<String>,
    /// When the reading of the value began, Redis time in microseconds.
    pub as_of: Option<u64>,
    /// Digest of the value.
    pub digest: Option<String>,
    /// Fills begun under the lease and not given back; those that landed are among them.
    pub begun: u32,
}

/// How landing a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// It is the value now.
    Landed,
    /// The lease is void: a change passed, or the guard is gone.
    RefusedLease,
    /// A reading that began later is there already.
    RefusedNewer,
}

impl Guard {
    /// Answers the lease that is good now, making one of `fresh` if there is none.
    pub fn begin(&mut self, fresh: &str) -> String {
        self.begun += 1;
        self.lease.get_or_insert_with(|| fresh.to_owned()).clone()
    }

    /// A fill gives its lease back: nothing will be landed under it. When nobody else holds it and there is no value to stand
    /// beside, the guard goes: nothing is left of a user nobody knows, and a missing guard refuses.
    pub fn release(&mut self, lease: &str) {
        if self.lease.as_deref() == Some(lease) {
            self.begun = self.begun.saturating_sub(1);
            if self.begun == 0 && self.as_of.is_none() {
                *self = Self::default();
            }
        }
    }

    /// Whether a reading with this lease and as-of may land.
    pub fn may_land(&self, lease: &str, as_of: u64) -> Landed {
        if self.lease.as_deref() != Some(lease) {
            return Landed::RefusedLease;
        }
        match self.as_of {
            Some(landed) if landed > as_of => Landed::RefusedNewer,
            _ => Landed::Landed,
        }
    }

    /// Lands it, if it may.
    pub fn land(&mut self, lease: &str, as_of: u64, digest: &str) -> Landed {
        let landed = self.may_land(lease, as_of);
        if landed == Landed::Landed {
            self.as_of = Some(as_of);
            self.digest = Some(digest.to_owned());
        }
        landed
    }

    /// A change passes: unconditional. The new lease empties the guard.
    pub fn invalidate(&mut self, fresh: &str) {
        *self = Guard { lease: Some(fresh.to_owned()), ..Guard::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_a_change_between_begin_and_land_voids_the_lease() {
        let mut guard = Guard::default();
        let lease = guard.begin("a");
        guard.invalidate("b");
        assert_eq!(guard.land(&lease, 1, "d"), Landed::RefusedLease);
        assert_eq!(guard.land("b", 1, "d"), Landed::Landed);
    }

    #[test]
    fn absent_never_equals_absent() {
        let guard = Guard::default();
        assert_eq!(guard.may_land("", 1), Landed::RefusedLease);
        let mut lost = Guard::default();
        let lease = lost.begin("a");
        lost = Guard::default();
        assert_eq!(lost.land(&lease, 1, "d"), Landed::RefusedLease);
    }

    #[test]
    fn a_lease_given_back_leaves_nothing_unless_somebody_needs_it() {
        let mut guard = Guard::default();
        let lease = guard.begin("a");
        guard.begin("b");
        guard.release(&lease);
        assert_eq!(guard.land(&lease, 1, "d"), Landed::Landed, "the other one still may");
        guard.release(&lease);
        assert_eq!(guard.as_of, Some(1), "a value's guard stays");
        guard.invalidate("c");
        guard.release(&lease);
        assert_eq!(guard.lease.as_deref(), Some("c"), "a void lease gives nothing back");
        guard.begin("d");
        guard.release("c");
        assert_eq!(guard, Guard::default());
    }

    #[test]
    fn an_older_reading_never_replaces_a_newer_one() {
        let mut guard = Guard::default();
        let lease = guard.begin("a");
        assert_eq!(guard.land(&lease, 5, "new"), Landed::Landed);
        assert_eq!(guard.land(&lease, 4, "old"), Landed::RefusedNewer);
        assert_eq!(guard.land(&lease, 5, "corrected"), Landed::Landed);
        assert_eq!(guard.digest.as_deref(), Some("corrected"));
    }
}
