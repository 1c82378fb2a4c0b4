//! What the stand-in was asked, counted: so that a test can say "once", and hold a budget over any ten seconds.
//!
//! Read in the process or by `GET /world/calls`. Upholds I12: users beyond the limit are counted together, old times go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::domain::Moment;

const USERS_MAX: usize = 100_000;
const TIMES_MAX: usize = 100_000;
/// Under which the users beyond the limit are counted.
const OTHERS: &str = "(others)";

/// The counts of a running stand-in. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    seen: CallsSeen,
    times: VecDeque<Moment>,
}

/// The counts at one moment. Requests under `/v1` only, refused ones included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallsSeen {
    /// All of them.
    pub total: u64,
    /// By the user asked about.
    pub by_user: BTreeMap<String, u64>,
    /// By route, as Clerk writes it: `GET /v1/users/{user_id}/organization_memberships`.
    pub by_path: BTreeMap<&'static str, u64>,
    /// By the status answered; hung ones are in none.
    pub by_status: BTreeMap<u16, u64>,
}

impl Calls {
    /// The counts now.
    pub fn seen(&self) -> CallsSeen {
        self.lock().seen.clone()
    }

    /// All requests so far.
    pub fn total(&self) -> u64 {
        self.lock().seen.total
    }

    /// Requests about this user so far.
    pub fn of_user(&self, user: &str) -> u64 {
        self.lock().seen.by_user.get(user).copied().unwrap_or(0)
    }

    /// The most requests in any stretch of this length, among the last 100,000 that count against Clerk's limit.
    pub fn busiest(&self, window: Duration) -> usize {
        let state = self.lock();
        let (mut first, mut busiest) = (0, 0);
        for (last, at) in state.times.iter().enumerate() {
            while at.since(state.times[first]) >= window {
                first += 1;
            }
            busiest = busiest.max(last + 1 - first);
        }
        busiest
    }

    /// When the last requests came, oldest first, at most `count`.
    pub fn times(&self, count: usize) -> Vec<Moment> {
        let state = self.lock();
        state.times.iter().skip(state.times.len().saturating_sub(count)).copied().collect()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *self.lock() = State::default();
    }

    /// Counts a request as it arrives. `is_limited`: it counts against Clerk's limit.
    pub(super) fn arrived(&self, path: &'static str, user: Option<&str>, is_limited: bool, at: Moment) {
        let mut state = self.lock();
        state.seen.total += 1;
        *state.seen.by_path.entry(path).or_default() += 1;
        if let Some(user) = user {
            let by_user = &mut state.seen.by_user;
            let has_room = by_user.len() < USERS_MAX || by_user.contains_key(user);
            *by_user.entry(if has_room { user } else { OTHERS }.to_owned()).or_default() += 1;
        }
        if is_limited {
            if state.times.len() == TIMES_MAX {
                state.times.pop_front();
            }
            state.times.push_back(at);
        }
    }

    pub(super) fn answered(&self, status: u16) {
        *self.lock().seen.by_status.entry(status).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_stretch_is_found_wherever_it_lies() {
        let calls = Calls::default();
        for second in [0, 1, 12, 13, 14, 21, 22, 40] {
            calls.arrived("p", None, true, Moment::from_micros(second * 1_000_000));
        }
        calls.arrived("p", None, false, Moment::from_micros(15_000_000));
        assert_eq!(calls.busiest(Duration::from_secs(10)), 4);
        assert_eq!(calls.busiest(Duration::from_secs(1)), 1);
        assert_eq!(calls.total(), 9);
        assert_eq!(calls.times(2), [22, 40].map(|second| Moment::from_micros(second * 1_000_000)));
    }

    #[test]
    fn users_beyond_the_limit_are_counted_together() {
        let calls = Calls::default();
        for n in 0..USERS_MAX + 7 {
            calls.arrived("p", Some(&format!("user_{n}")), false, Moment::ZERO);
        }
        calls.arrived("p", Some("user_0"), false, Moment::ZERO);
        assert_eq!((calls.of_user("user_0"), calls.of_user(OTHERS)), (2, 7));
    }
}
