//! The breaker: spares a failing origin, and callers the wait for it. The client asks it before each request.
//!
//! A pure state machine; `now` is an argument. It never says anything about a user: an open breaker is "could not find
//! out" (I8). It holds no token of a probe that is under way, so a probe that is dropped wedges nothing: the next one is
//! due a second after it.

use std::time::Duration;

use crate::domain::Moment;

/// Failures in a row that open it: fewer would open on one bad moment of one of Clerk's machines.
const FAILURES_MAX: u32 = 5;
/// An open breaker lets one request through per this time.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What one request told of the origin's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, be it a refusal.
    Answered,
    /// 5xx, no connection, no answer in time, or an unreadable one.
    Failed,
    /// It asked us to slow down: says neither.
    Limited,
}

/// Closed, or open with the time of the next probe.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    probe_at: Option<Moment>,
}

impl Breaker {
    /// Whether requests are being refused.
    pub(super) fn is_open(&self) -> bool {
        self.probe_at.is_some()
    }

    /// Whether a request would be let through; takes nothing.
    pub(super) fn may_admit(&self, now: Moment) -> bool {
        self.probe_at.is_none_or(|at| now >= at)
    }

    /// Lets a request through, or not. While open, one a second.
    pub(super) fn admit(&mut self, now: Moment) -> bool {
        let is_admitted = self.may_admit(now);
        if is_admitted && self.is_open() {
            self.probe_at = Some(now + PROBE_EVERY);
        }
        is_admitted
    }

    /// Something else of the origin is well: reads may try again, and the first that fails opens it again.
    pub(super) fn half_close(&mut self) {
        *self = Self { failures: FAILURES_MAX - 1, probe_at: None };
    }

    /// Whether it is open and nobody has come to probe for a while.
    pub(super) fn is_forgotten(&self, now: Moment) -> bool {
        self.probe_at.is_some_and(|at| now >= at + PROBE_EVERY)
    }

    /// Notes how a request went. True when this opened the breaker.
    ///
    /// Failures of requests sent before it opened arrive for seconds after; they must not put the probe off.
    pub(super) fn note(&mut self, health: Health, now: Moment) -> bool {
        match health {
            Health::Answered => *self = Self::default(),
            Health::Limited => {}
            Health::Failed => self.failures = self.failures.saturating_add(1),
        }
        let opens = self.failures >= FAILURES_MAX && !self.is_open();
        if opens {
            self.probe_at = Some(now + PROBE_EVERY);
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(1_000_000 + millis * 1_000)
    }

    fn open_at(millis: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for failure in 1..=FAILURES_MAX {
            assert!(breaker.admit(at(millis)));
            assert_eq!(breaker.note(Health::Failed, at(millis)), failure == FAILURES_MAX);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let breaker = open_at(0);
        assert!(breaker.is_open());
        assert!(!breaker.may_admit(at(999)));
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_again() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            for _ in 0..FAILURES_MAX - 1 {
                assert!(!breaker.note(Health::Failed, at(0)));
            }
            breaker.note(Health::Answered, at(0));
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_rate_limit_neither_opens_nor_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.note(Health::Limited, at(0));
        }
        assert!(!breaker.is_open());
        let mut open = open_at(0);
        open.note(Health::Limited, at(10));
        assert!(open.is_open());
    }

    #[test]
    fn while_open_one_probe_a_second_goes_through() {
        let mut breaker = open_at(0);
        let admitted: Vec<u64> = (0..3_500).filter(|millis| breaker.admit(at(*millis))).collect();
        assert_eq!(admitted, [1_000, 2_000, 3_000]);
    }

    #[test]
    fn an_open_one_is_forgotten_when_nobody_came_for_a_second() {
        assert!(!Breaker::default().is_forgotten(at(9_000)));
        let mut breaker = open_at(0);
        assert!(!breaker.is_forgotten(at(1_999)) && breaker.is_forgotten(at(2_000)));
        assert!(breaker.admit(at(2_000)) && !breaker.is_forgotten(at(3_999)));
    }

    #[test]
    fn half_closed_one_failure_opens_it_again_and_one_answer_closes_it() {
        let mut breaker = open_at(0);
        breaker.half_close();
        assert!(!breaker.is_open() && breaker.note(Health::Failed, at(10)) && breaker.is_open());
        breaker.half_close();
        assert!(!breaker.note(Health::Answered, at(20)) && !breaker.note(Health::Failed, at(30)));
    }

    #[test]
    fn a_dropped_probe_does_not_wedge_it() {
        let mut breaker = open_at(0);
        assert!(breaker.admit(at(1_000)));
        // Nothing is noted of that probe, ever.
        assert!(!breaker.admit(at(1_500)));
        assert!(breaker.admit(at(2_000)));
    }

    #[test]
    fn a_good_probe_closes_it_and_late_failures_do_not_put_a_probe_off() {
        let mut breaker = open_at(0);
        for millis in 0..1_000 {
            breaker.note(Health::Failed, at(millis));
        }
        assert!(breaker.admit(at(1_000)));
        breaker.note(Health::Answered, at(1_050));
        assert!(!breaker.is_open() && breaker.admit(at(1_051)) && breaker.admit(at(1_051)));
    }
}
