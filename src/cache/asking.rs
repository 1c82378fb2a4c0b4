//! Asking the origin: joins or leads flights until one brings a reading that will do. Upholds I10 and I11.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::answer::{Answer, Ask, ReadError, Source};
use super::fill::Plan;
use super::flight::Boarding;
use super::flown::{Flown, Reading};
use super::miss::RETRY_AFTER;
use super::{CHECK_WINDOW, Cache};
use crate::clock;
use crate::domain::Moment;
use crate::ports::{OriginError, Priority};
use crate::protocol::freshness::Candidate;

/// Flights a read goes through at most when changes keep overtaking them.
const OVERTAKEN_MAX: usize = 3;

/// Why the origin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing known would do.
    Missing,
    /// The caller demands a newer reading than what is known.
    Demanded,
    /// What is known says "no", and that needs checking.
    Denied { is_repeated: bool },
}

impl Cache {
    /// The answer of the origin. `is_known`: something was known of the user, so that he can be asked to wait.
    pub(super) async fn ask_origin(&self, ask: &Ask, why: Why, is_known: bool) -> Result<Answer, ReadError> {
        let mut not_before = earliest(ask, why);
        let (mut times_overtaken, mut may_try_again) = (0, true);
        loop {
            let (flight, is_mine) = match self.board(ask, priority(why, is_known), not_before)? {
                Boarding::Led(flight) => (flight, true),
                Boarding::Joined(flight) => (flight, false),
                // Who waits on a flight begun too early gets the next one, also when it found nothing out.
                Boarding::TooEarly(flight) => {
                    flight.landing().await;
                    continue;
                }
            };
            match flight.landing().await {
                Flown::Landed(reading) => match self.shortfall(ask, &reading) {
                    None => {
                        let is_mine = is_mine && reading.candidate.as_of >= flight.begun;
                        return Ok(answer(reading, source(why, is_mine)));
                    }
                    Some(needed) => not_before = needed,
                },
                Flown::Overtaken(reading) => {
                    times_overtaken += 1;
                    // What overtook it may be no fact: only its own beginning vouches for it.
                    let unvouched = Candidate { fence: Moment::ZERO, ..reading.candidate };
                    if times_overtaken >= OVERTAKEN_MAX && self.is_good(unvouched, &ask.wants, ask.arrived) {
                        return Ok(answer(reading, source(why, is_mine)));
                    }
                }
                // A refresh is refused sooner than a caller would be.
                Flown::Failed(OriginError::RateLimited { .. }) if !is_mine && may_try_again => may_try_again = false,
                Flown::Failed(error) => return Err(error.into()),
                Flown::Lost => return Err(ReadError::OriginUnavailable { retry_after: RETRY_AFTER }),
            }
        }
    }

    /// Joins what may be joined; else leads, as far as the batch's allowance goes.
    fn board(&self, ask: &Ask, priority: Priority, not_before: Moment) -> Result<Boarding, ReadError> {
        let flights = &self.inner.flights;
        if let Some(flight) = flights.joinable(&ask.user, not_before) {
            return Ok(Boarding::Joined(flight));
        }
        let allowance = Allowance::take(ask.allowance.as_ref()).ok_or(ReadError::AllowanceSpent)?;
        let (cache, plan) = (self.clone(), Plan { user: ask.user.clone(), priority, not_before });
        let fly = move |begun, overtaken| cache.fly_unless_landed(plan, begun, overtaken);
        let boarding = flights.board(&ask.user, not_before, self.io(), fly);
        if matches!(boarding, Boarding::Led(_)) {
            allowance.spend();
        }
        Ok(boarding)
    }

    /// What a reading lacks to be the answer: when a better one must begin.
    fn shortfall(&self, ask: &Ask, reading: &Reading) -> Option<Moment> {
        if !self.is_good(reading.candidate, &ask.wants, ask.arrived) {
            return Some(ask.arrived);
        }
        let needs_check = reading.content.denies(&ask.question).is_some() || reading.content.is_ambiguous(&ask.question);
        let checked_since = ask.arrived - CHECK_WINDOW;
        (needs_check && reading.candidate.as_of < checked_since).then_some(checked_since)
    }
}

/// The right of a batch to start one more origin read; given back unless spent.
struct Allowance<'a>(Option<&'a Arc<AtomicUsize>>);

impl<'a> Allowance<'a> {
    fn take(left: Option<&'a Arc<AtomicUsize>>) -> Option<Self> {
        match left {
            None => Some(Self(None)),
            Some(left) => {
                left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).ok().map(|_| Self(Some(left)))
            }
        }
    }

    fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Allowance<'_> {
    fn drop(&mut self) {
        if let Some(left) = self.0 {
            left.fetch_add(1, Ordering::AcqRel);
        }
    }
}

pub(super) fn answer(reading: Reading, source: Source) -> Answer {
    Answer { content: reading.content, candidate: reading.candidate, decided_at: clock::now(), source }
}

/// The earliest begin of a reading that may serve.
fn earliest(ask: &Ask, why: Why) -> Moment {
    let demanded = match (ask.wants.no_cache, ask.wants.max_age) {
        (true, _) => ask.arrived,
        (false, Some(max_age)) => ask.arrived - max_age,
        (false, None) => Moment::ZERO,
    };
    match why {
        Why::Missing | Why::Demanded => demanded,
        Why::Denied { .. } => demanded.max(ask.arrived - CHECK_WINDOW),
    }
}

fn priority(why: Why, is_known: bool) -> Priority {
    match why {
        Why::Missing => Priority::Cold,
        Why::Demanded if is_known => Priority::NoCache,
        Why::Demanded => Priority::Cold,
        Why::Denied { is_repeated: false } => Priority::FirstDenial,
        Why::Denied { is_repeated: true } => Priority::RepeatedDenial,
    }
}

fn source(why: Why, is_mine: bool) -> Source {
    match why {
        Why::Missing if is_mine => Source::Origin,
        Why::Missing => Source::Collapsed,
        Why::Demanded => Source::Demanded,
        Why::Denied { .. } => Source::Checked,
    }
}

impl From<OriginError> for ReadError {
    fn from(error: OriginError) -> Self {
        match error {
            OriginError::RateLimited { retry_after } => Self::RateLimited { retry_after },
            OriginError::TimedOut
            | OriginError::Unavailable { .. }
            | OriginError::Unauthorized
            | OriginError::Malformed { .. } => Self::OriginUnavailable { retry_after: RETRY_AFTER },
        }
    }
}
