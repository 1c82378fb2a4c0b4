//! Misbehaviour as data: what the stand-in does wrong, to whom, how often.
//!
//! Set in the process or by `PUT /world/faults`. Values beyond the limits are cut to them. Upholds I12.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dev::sender::is_due;
use crate::dev::world::{AsOf, LAG_MS_MAX, wall_ms};
use crate::domain::Moment;

/// Longest latency, longest hang.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);
/// Clerk counts requests over ten seconds.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(10);
const RULES_MAX: usize = 64;
const RATE_MAX: u32 = 100_000;

/// All that is wrong at the moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Faults {
    /// Wait between reading the world and answering, milliseconds.
    pub latency_ms: u64,
    /// Reads see the world as it was this long ago, milliseconds: a replica that lags.
    pub reads_lag_ms: u64,
    /// Requests taken in any ten seconds; the others are 429 with `Retry-After`.
    pub rate_limit: Option<u32>,
    /// Faults of single answers; the first that fires is done.
    pub rules: Vec<Rule>,
}

/// One fault, and which requests it hits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What happens.
    #[serde(flatten)]
    pub act: Act,
    /// Only to requests for this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only to this share of them, spread evenly: 0.25 is every fourth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Only to the next so many; then the rule is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    #[serde(skip)]
    sum: f64,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Act {
    /// It is answered with this status and Clerk's error for it.
    Status {
        /// 400 to 599.
        status: u16,
        /// Value of `Retry-After`, seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// It is not answered (for a minute; then the connection is closed).
    Hang,
    /// The body ends in its middle, though its whole length was announced.
    Cut,
    /// The body is not JSON.
    Garbage,
    /// The body is right, its content type is `text/html`.
    ContentType,
    /// `total_count` is off by this much.
    WrongTotal {
        /// Added to the count.
        by: i64,
    },
    /// A page behind the first begins one row early: a row was added in front meanwhile, and another one is gone.
    RowMoved,
}

impl Rule {
    /// A fault of every request.
    pub fn always(act: Act) -> Self {
        Self { act, user: None, share: None, next: None, sum: 0.0 }
    }

    /// A fault of the next `count` requests.
    pub fn next(act: Act, count: u32) -> Self {
        Self { next: Some(count), ..Self::always(act) }
    }

    /// A fault of a share of requests.
    pub fn share(act: Act, share: f64) -> Self {
        Self { share: Some(share), ..Self::always(act) }
    }

    /// The same, but only for this user.
    pub fn of_user(self, user: &str) -> Self {
        Self { user: Some(user.to_owned()), ..self }
    }

    fn fires(&mut self, user: Option<&str>, offset: usize) -> bool {
        let is_meant = self.user.as_deref().is_none_or(|meant| user == Some(meant));
        let can_happen = self.act != Act::RowMoved || offset > 0;
        if !is_meant || !can_happen || self.next == Some(0) {
            return false;
        }
        let fires = self.share.is_none_or(|share| is_due(&mut self.sum, share));
        self.next = self.next.map(|left| left - u32::from(fires));
        fires
    }
}

impl Faults {
    /// Only these rules.
    pub fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect(), ..Self::default() }
    }

    /// Every request is answered with this status.
    pub fn status(status: u16) -> Self {
        Self::of([Rule::always(Act::Status { status, retry_after: None })])
    }

    fn within_limits(mut self) -> Self {
        self.latency_ms = self.latency_ms.min(WAIT_MAX.as_millis() as u64);
        self.reads_lag_ms = self.reads_lag_ms.min(LAG_MS_MAX);
        self.rate_limit = self.rate_limit.map(|limit| limit.clamp(1, RATE_MAX));
        self.rules.truncate(RULES_MAX);
        for rule in &mut self.rules {
            if let Act::Status { status, .. } = &mut rule.act {
                *status = (*status).clamp(400, 599);
            }
        }
        self
    }
}

/// The faults of a running stand-in. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct FaultsHandle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    taken: VecDeque<Moment>,
}

impl FaultsHandle {
    /// Replaces all faults.
    pub fn set(&self, faults: Faults) {
        self.lock().faults = faults.within_limits();
    }

    /// Adds a rule behind the others.
    pub fn add(&self, rule: Rule) {
        let mut state = self.lock();
        let mut faults = state.faults.clone();
        faults.rules.push(rule);
        state.faults = faults.within_limits();
    }

    /// The faults left.
    pub fn get(&self) -> Faults {
        self.lock().faults.clone()
    }

    /// All is well again.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    /// What happens to this request, if anything.
    pub(super) fn meet(&self, user: Option<&str>, offset: usize) -> Option<Act> {
        let mut state = self.lock();
        let act = state.faults.rules.iter_mut().find_map(|rule| rule.fires(user, offset).then(|| rule.act.clone()));
        state.faults.rules.retain(|rule| rule.next != Some(0));
        act
    }

    /// Counts a request against the rate limit; when it is over, the seconds until one may be taken.
    pub(super) fn over_rate(&self, now: Moment) -> Option<u64> {
        let mut state = self.lock();
        let limit = state.faults.rate_limit? as usize;
        while state.taken.front().is_some_and(|at| now.since(*at) >= RATE_WINDOW) {
            state.taken.pop_front();
        }
        if state.taken.len() < limit {
            state.taken.push_back(now);
            return None;
        }
        let oldest = state.taken.front().copied().unwrap_or(now);
        Some((RATE_WINDOW - now.since(oldest)).as_secs().saturating_add(1))
    }

    /// Which state of the world reads see.
    pub(super) fn as_of(&self) -> AsOf {
        match self.lock().faults.reads_lag_ms {
            0 => AsOf::Now,
            lag => AsOf::At(wall_ms() - lag as i64),
        }
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.lock().faults.latency_ms)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Act = Act::Status { status: 503, retry_after: None };

    fn check(rule: Rule, expected: &str) {
        let handle = FaultsHandle::default();
        handle.set(Faults::of([rule]));
        let users = ["a", "b"].into_iter().cycle();
        let met: String = users.take(8).map(|user| if handle.meet(Some(user), 0).is_some() { 'x' } else { '.' }).collect();
        assert_eq!(met, expected);
    }

    #[test]
    fn a_rule_hits_whom_it_means_as_often_as_it_says() {
        check(Rule::always(DOWN), "xxxxxxxx");
        check(Rule::next(DOWN, 3), "xxx.....");
        check(Rule::next(DOWN, 0), "........");
        check(Rule::share(DOWN, 0.25), "...x...x");
        check(Rule::always(DOWN).of_user("b"), ".x.x.x.x");
        check(Rule::next(DOWN, 2).of_user("a"), "x.x.....");
        check(Rule { share: Some(0.5), ..Rule::next(DOWN, 2) }, ".x.x....");
        check(Rule::always(Act::RowMoved), "........");
    }

    #[test]
    fn the_rate_is_kept_over_any_ten_seconds_and_says_when_to_come_back() {
        let at = |ms: u64| Moment::from_micros(ms * 1_000);
        let handle = FaultsHandle::default();
        handle.set(Faults { rate_limit: Some(2), ..Faults::default() });
        let met: Vec<_> = [0, 4_000, 5_000, 9_999, 10_000, 13_000, 14_000].map(|ms| handle.over_rate(at(ms))).into();
        assert_eq!(met, [None, None, Some(6), Some(1), None, Some(2), None]);
    }

    #[test]
    fn faults_are_written_as_plain_json() {
        let text = r#"{"latencyMs":5,"readsLagMs":0,"rateLimit":100,"rules":[{"do":"status","status":429,"retryAfter":2,"next":3},{"do":"hang","user":"user_ada"},{"do":"wrongTotal","by":-1,"share":0.5}]}"#;
        let faults: Faults = serde_json::from_str(text).expect("reads");
        assert_eq!(faults.rules[0], Rule::next(Act::Status { status: 429, retry_after: Some(2) }, 3));
        assert_eq!(serde_json::to_string(&faults).expect("writes"), text);
        assert_eq!(serde_json::from_str::<Faults>("{}").expect("reads"), Faults::default());
        assert!(serde_json::from_str::<Faults>(r#"{"latency":5}"#).is_err());
    }

    #[test]
    fn faults_beyond_the_limits_are_cut_to_them() {
        let handle = FaultsHandle::default();
        let rules = vec![Rule::always(Act::Status { status: 200, retry_after: None }); 100];
        handle.set(Faults { latency_ms: u64::MAX, reads_lag_ms: u64::MAX, rate_limit: Some(0), rules });
        let faults = handle.get();
        assert_eq!((faults.latency_ms, faults.reads_lag_ms, faults.rate_limit), (60_000, LAG_MS_MAX, Some(1)));
        assert_eq!((faults.rules.len(), &faults.rules[0].act), (RULES_MAX, &Act::Status { status: 400, retry_after: None }));
    }
}
