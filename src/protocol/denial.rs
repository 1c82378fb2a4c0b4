//! How long a "no" may be repeated without asking again. Upholds I10.
//!
//! Each "no" rests on an origin read. The first is trusted for a second, and each further origin read that says the same
//! "no" doubles that. The memory of refusals lives in the user's local entry, so a change of the user forgets it.

use std::time::Duration;

use crate::domain::{Moment, OrganizationRef};

/// What was asked when the answer was "no".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The list, and it is empty.
    EmptyList,
    /// This organization, by id or slug as asked.
    Organization(OrganizationRef),
    /// Anything, of a user the origin does not know.
    User,
}

/// The refusals remembered of one user. Bounded: the oldest gives way (I12).
#[derive(Debug, Clone, Default)]
pub struct Denials(Vec<Denial>);

#[derive(Debug, Clone)]
struct Denial {
    what: Denied,
    /// Origin reads in a row that said so.
    times: u32,
    /// When the last of them began.
    as_of: Moment,
}

/// A first refusal is trusted for this long.
const WINDOW_MIN: Duration = Duration::from_secs(1);
/// No refusal is trusted for longer, but for an empty list, which may be up to the TTL.
const WINDOW_MAX: Duration = Duration::from_secs(30);
/// What a shared text costs beside its bytes: two counts, and the allocator's own.
const TEXT_OVERHEAD: usize = 32;
/// Refusals remembered per user.
const DENIALS_MAX: usize = 16;

/// While the budget is spent, a "no" this old is given again.
pub const REPEAT_AGE_MAX: Duration = Duration::from_secs(30);

impl Denials {
    /// How old the reading behind this "no" may be at most. Repeated refusals are given for longer.
    pub fn window(&self, what: &Denied, ttl: Duration) -> Duration {
        let times = self.0.iter().find(|denial| denial.what == *what).map_or(1, |denial| denial.times);
        let window_max = match what {
            Denied::EmptyList => ttl,
            Denied::Organization(_) | Denied::User => WINDOW_MAX,
        };
        (WINDOW_MIN * 2u32.saturating_pow(times.saturating_sub(1)).min(1 << 20)).min(window_max)
    }

    /// Whether this "no" was refused before: then asking again has less of a claim on the budget.
    pub fn is_repeated(&self, what: &Denied) -> bool {
        self.0.iter().any(|denial| denial.what == *what)
    }

    /// Notes that a reading begun at `as_of` said this "no". The same reading counts once, however often it is given.
    pub fn record(&mut self, what: Denied, as_of: Moment) {
        if let Some(denial) = self.0.iter_mut().find(|denial| denial.what == what) {
            if as_of > denial.as_of {
                denial.times = denial.times.saturating_add(1);
                denial.as_of = as_of;
            }
            return;
        }
        if self.0.len() == DENIALS_MAX {
            self.0.remove(0);
        }
        // One by one: a user nobody knows has one refusal, and there may be many such users.
        self.0.reserve_exact(1);
        self.0.push(Denial { what, times: 1, as_of });
    }

    /// Bytes held, for the limit of the local tier.
    pub fn bytes(&self) -> usize {
        let text = |what: &Denied| match what {
            Denied::Organization(organization) => organization.as_str().len() + TEXT_OVERHEAD,
            Denied::EmptyList | Denied::User => 0,
        };
        self.0.iter().map(|denial| size_of::<Denial>() + text(&denial.what)).sum()
    }

    /// Forgets refusals that a newer reading contradicts: an organization now there, a list no longer empty.
    pub fn retain(&mut self, is_still_no: impl Fn(&Denied) -> bool) {
        self.0.retain(|denial| is_still_no(&denial.what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn organization(text: &str) -> Denied {
        Denied::Organization(OrganizationRef::parse(text).expect("organization"))
    }

    #[test]
    fn i10_the_same_no_backs_off_to_thirty_seconds_and_an_empty_list_to_the_ttl() {
        let check = |what: Denied, expected: [u64; 10]| {
            let mut denials = Denials::default();
            for (n, seconds) in expected.into_iter().enumerate() {
                denials.record(what.clone(), Moment::from_micros(n as u64 + 1));
                assert_eq!(denials.window(&what, TTL), Duration::from_secs(seconds), "after {} refusals", n + 1);
            }
        };
        check(organization("acme"), [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
        check(Denied::User, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
        check(Denied::EmptyList, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    #[test]
    fn one_reading_counts_once_and_each_question_for_itself() {
        let mut denials = Denials::default();
        for _ in 0..5 {
            denials.record(organization("acme"), Moment::from_micros(1));
        }
        assert_eq!(denials.window(&organization("acme"), TTL), Duration::from_secs(1));
        denials.record(organization("acme"), Moment::from_micros(2));
        assert_eq!(denials.window(&organization("acme"), TTL), Duration::from_secs(2));
        assert_eq!(denials.window(&organization("other"), TTL), Duration::from_secs(1));
    }

    #[test]
    fn i12_the_oldest_refusal_gives_way() {
        let mut denials = Denials::default();
        for n in 0..100 {
            denials.record(organization(&format!("s{n}")), Moment::from_micros(1));
        }
        assert_eq!(denials.0.len(), DENIALS_MAX);
        assert!(!denials.is_repeated(&organization("s0")));
        assert!(denials.is_repeated(&organization("s99")));
    }
}
