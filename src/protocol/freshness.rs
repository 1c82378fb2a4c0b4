//! The one rule of freshness: whether a reading may be an answer. Upholds I6 and I7.
//!
//! Called by the cache for every candidate of every tier. It never looks at a clock and never sees a tier: only when the
//! reading began, how far the node had applied the stream, when the request arrived, and what the caller asked for.

use std::time::Duration;

use super::rules::{self, Rule};
use crate::domain::Moment;

/// Longer than any machine runs, and short enough to be added to.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The limits of a deployment.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How far behind the change stream an answer may be.
    pub staleness: Duration,
    /// How old a reading may be.
    pub ttl: Duration,
    /// How much older while the origin cannot be asked.
    pub grace: Duration,
    /// How long the local tier answers without looking at the shared tier.
    pub local_age_max: Duration,
}

/// What a deployment promises of its answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// I6, as it stands.
    #[default]
    Bounded,
    /// No fence, so not I6: for a Redis that cannot show how current its answers are. Nothing is answered from memory, and
    /// every answer says that its lag is unknown.
    Eventual,
}

/// What a caller asked for, in HTTP's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// `no-cache`: only a reading begun after the request.
    pub no_cache: bool,
    /// `max-age`: a reading at most this old.
    pub max_age: Option<Duration>,
    /// `only-if-cached`: never ask the origin.
    pub only_if_cached: bool,
    /// `stale-if-error`: consent to an answer this far past its bounds when the origin cannot be asked.
    pub stale_if_error: Option<Duration>,
    /// `Rollcall-Max-Lag`: the lag tolerated, when less than the deployment's.
    pub lag_max: Option<Duration>,
}

/// A candidate for an answer: when its reading began, and the fence loaded before it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The moment the first request of the reading was sent.
    pub as_of: Moment,
    /// The fence, loaded *before* the entry was found or the facts were applied.
    pub fence: Moment,
}

/// What the rule says of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be the answer.
    Good,
    /// The reading is too old, for the deployment or for this caller.
    TooOld,
    /// The node has not heard from the stream recently enough to vouch for it.
    TooFarBehind,
}

impl Candidate {
    /// The moment up to which the candidate is known to be right.
    pub fn valid_at(&self) -> Moment {
        self.as_of.max(self.fence)
    }
}

impl Bounds {
    /// Whether the candidate may answer a request that arrived at `arrived`.
    pub fn judge(&self, candidate: Candidate, wants: &Wants, arrived: Moment, now: Moment) -> Verdict {
        if candidate.as_of >= arrived {
            return Verdict::Good;
        }
        let age_max = wants.max_age.map_or(self.ttl, |max_age| max_age.min(self.ttl));
        if wants.no_cache || now.since(candidate.as_of) > age_max {
            return Verdict::TooOld;
        }
        let lag_max = wants.lag_max.map_or(self.staleness, |lag_max| lag_max.min(self.staleness));
        match now.since(candidate.valid_at()) > lag_max && rules::is_on(Rule::FenceIsJudged) {
            true => Verdict::TooFarBehind,
            false => Verdict::Good,
        }
    }

    /// Whether the candidate may be given although the rule refuses it, because the origin cannot be asked: in grace under
    /// a fresh fence, within what the caller asked for; or further, with the caller's consent. A "no" is never given in
    /// grace.
    pub fn may_outlive(&self, candidate: Candidate, wants: &Wants, is_no: bool, now: Moment) -> bool {
        let age = now.since(candidate.as_of);
        let lag = now.since(candidate.valid_at());
        let asked_max = match wants.no_cache {
            true => Some(Duration::ZERO),
            false => wants.max_age,
        };
        let lag_max = wants.lag_max.map_or(self.staleness, |lag_max| lag_max.min(self.staleness));
        let grace_max = self.age_max().min(asked_max.unwrap_or(Duration::MAX));
        let in_grace = !is_no && lag <= lag_max && age <= grace_max;
        let with_consent = wants.stale_if_error.is_some_and(|consent| {
            let age_max = asked_max.unwrap_or(self.ttl).min(self.ttl) + consent;
            lag <= lag_max + consent && (age <= age_max || age <= grace_max)
        });
        in_grace || with_consent
    }

    /// The same without a fence: nothing but its age, and what the caller asks for, makes a reading too old. A lag that a
    /// caller names is then met by the reading's own beginning alone.
    pub fn without_fence(self) -> Self {
        Self { staleness: A_CENTURY, ..self }
    }

    /// The age past which an entry in use is refreshed in the background: four fifths of the TTL.
    pub fn refresh_age(&self) -> Duration {
        self.ttl * 4 / 5
    }

    /// How old a reading may be while the origin cannot be asked.
    pub fn age_max(&self) -> Duration {
        self.ttl + self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Moment = |seconds| Moment::from_micros(seconds * 1_000_000);
    const BOUNDS: Bounds = Bounds {
        staleness: Duration::from_secs(1),
        ttl: Duration::from_secs(300),
        grace: Duration::from_secs(600),
        local_age_max: Duration::from_secs(60),
    };

    fn check(as_of: u64, fence: u64, wants: Wants, expected: Verdict) {
        let now = S(1000);
        assert_eq!(
            BOUNDS.judge(Candidate { as_of: S(as_of), fence: S(fence) }, &wants, now, now),
            expected,
            "{as_of} {fence} {wants:?}"
        );
    }

    #[test]
    fn i6_i7_a_reading_is_served_within_its_age_and_the_lag() {
        check(990, 1000, Wants::default(), Verdict::Good);
        check(700, 1000, Wants::default(), Verdict::Good);
        check(699, 1000, Wants::default(), Verdict::TooOld);
        check(990, 999, Wants::default(), Verdict::Good);
        check(990, 998, Wants::default(), Verdict::TooFarBehind);
        check(999, 0, Wants::default(), Verdict::Good);
    }

    #[test]
    fn what_the_caller_asks_only_tightens() {
        let wants = |max_age: u64| Wants { max_age: Some(Duration::from_secs(max_age)), ..Wants::default() };
        check(990, 1000, wants(10), Verdict::Good);
        check(989, 1000, wants(10), Verdict::TooOld);
        check(600, 1000, wants(9999), Verdict::TooOld);
        check(999, 1000, Wants { no_cache: true, ..Wants::default() }, Verdict::TooOld);
        check(1000, 0, Wants { no_cache: true, ..Wants::default() }, Verdict::Good);
        check(990, 999, Wants { lag_max: Some(Duration::from_millis(500)), ..Wants::default() }, Verdict::TooFarBehind);
        check(990, 998, Wants { lag_max: Some(Duration::from_secs(9)), ..Wants::default() }, Verdict::TooFarBehind);
    }

    #[test]
    fn without_a_fence_only_the_reading_s_own_beginning_meets_a_lag() {
        let bounds = BOUNDS.without_fence();
        let judge =
            |as_of, wants: &Wants| bounds.judge(Candidate { as_of: S(as_of), fence: Moment::ZERO }, wants, S(1000), S(1000));
        assert_eq!(judge(700, &Wants::default()), Verdict::Good);
        assert_eq!(judge(699, &Wants::default()), Verdict::TooOld);
        let demanding = Wants { lag_max: Some(Duration::from_secs(1)), ..Wants::default() };
        assert_eq!(judge(999, &demanding), Verdict::Good);
        assert_eq!(judge(998, &demanding), Verdict::TooFarBehind);
        assert_eq!(judge(1000, &demanding), Verdict::Good);
        let consent = Wants { stale_if_error: Some(Duration::from_secs(1 << 31)), ..Wants::default() };
        assert!(bounds.may_outlive(Candidate { as_of: S(1), fence: Moment::ZERO }, &consent, true, S(1000)));
    }

    #[test]
    fn i7_grace_needs_a_fresh_fence_and_is_never_a_no() {
        let outlives = |as_of, fence, wants: &Wants, is_no| {
            BOUNDS.may_outlive(Candidate { as_of: S(as_of), fence: S(fence) }, wants, is_no, S(1000))
        };
        let consent = Wants { stale_if_error: Some(Duration::from_secs(60)), ..Wants::default() };
        assert!(outlives(200, 1000, &Wants::default(), false));
        assert!(!outlives(200, 1000, &Wants::default(), true));
        assert!(!outlives(99, 1000, &Wants::default(), false));
        assert!(!outlives(200, 998, &Wants::default(), false));
        assert!(outlives(800, 940, &consent, false));
        assert!(outlives(800, 940, &consent, true));
        assert!(!outlives(800, 938, &consent, false));
    }
}
