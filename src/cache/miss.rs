//! What comes after the hot path, in order: the local entry once more, the shared tier, the origin, and what may be said
//! when the origin cannot be asked. Upholds I5–I8, I10 and I11.
//!
//! Runs on the I/O runtime. May be dropped at any await: a flight it began goes on without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::answer::{Answer, Ask, Content, ReadError, Source};
use super::flight::{Boarding, Flown, Reading};
use super::local::Entry;
use super::{CHECK_WINDOW, Cache};
use crate::clock;
use crate::domain::{List, Moment, UserId};
use crate::ports::{Lease, OriginError, Priority, SharedError, SharedTier};
use crate::protocol::denial::{Denied, REPEAT_AGE_MAX};
use crate::protocol::facts::KEPT_WITHOUT_EXPECTED;
use crate::protocol::freshness::{Candidate, Verdict, Wants};

/// The whole read: the origin's 4 s and what surrounds them. Beyond it the caller is told "could not find out".
const READ_TIME_MAX: Duration = Duration::from_millis(4_500);
/// Flights a read goes through at most when changes keep overtaking them.
const OVERTAKEN_MAX: usize = 3;
/// When to try again after the origin failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why the origin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Nothing known would do.
    Missing,
    /// The caller demands a newer reading than what is known.
    Demanded,
    /// What is known says "no", and that needs checking.
    Denied { is_repeated: bool },
}

/// What a known reading is worth to a question.
enum Worth {
    Answer,
    Nothing(Why),
}

/// A reading of the local tier, with what bounds its use.
struct Known {
    reading: Reading,
    entry: Arc<Entry>,
    /// It need not pass the shared tier first.
    has_standing: bool,
}

impl Cache {
    /// The answer from wherever it is to be had within 4.5 s, or until the moment that the ask names.
    pub async fn read(&self, ask: Ask) -> Result<Answer, ReadError> {
        let _under_way = self.inner.counts.begin_read();
        let mut last = None;
        let time_max = ask.until.map_or(READ_TIME_MAX, |until| until.since(clock::now()).min(READ_TIME_MAX));
        let searched = tokio::time::timeout(time_max, self.search(&ask, &mut last)).await;
        let result = match searched {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => self.outlive(&ask, last, error),
            Err(_) => self.outlive(&ask, last, ReadError::OriginUnavailable { retry_after: RETRY_AFTER }),
        };
        if let Ok(answer) = &result {
            self.note_denial(&ask, answer);
        }
        self.inner.counts.read(&result, clock::now().since(ask.arrived));
        result
    }

    async fn search(&self, ask: &Ask, last: &mut Option<Reading>) -> Result<Answer, ReadError> {
        let now = clock::now();
        if self.inner.facts.dead_since(&ask.user, now).is_some() {
            // Who is dead stays dead: it is as true now as when it was said.
            let candidate = Candidate { as_of: now, fence: self.inner.parts.fence.load(now) };
            return Ok(answer(Reading { content: Content::Unknown, candidate }, Source::Local));
        }
        let mut why = if ask.wants.no_cache { Why::Demanded } else { Why::Missing };

        // The local entry once more: somebody may have filled it, or only its facts were behind.
        let known = self.known(&ask.user).filter(|known| known.has_standing);
        let mut local_worth = None;
        if let Some(known) = &known {
            *last = Some(known.reading.clone());
            match self.worth(ask, &known.reading, Some(&known.entry)) {
                Worth::Answer if clock::now() <= known.entry.reread_at => {
                    return Ok(answer(known.reading.clone(), Source::Local));
                }
                Worth::Answer => local_worth = Some(known.reading.clone()),
                Worth::Nothing(reason) => why = reason,
            }
        }

        if let Some(shared) = self.inner.parts.shared.clone().filter(|_| !ask.wants.no_cache) {
            match self.shared_reading(&shared, &ask.user).await {
                Ok(Some(reading)) => {
                    match self.worth(ask, &reading, known.as_ref().map(|known| &*known.entry)) {
                        Worth::Answer => return Ok(answer(reading, Source::Shared)),
                        Worth::Nothing(reason) => why = reason,
                    }
                    if last.as_ref().is_none_or(|last| last.candidate.as_of < reading.candidate.as_of) {
                        *last = Some(reading);
                    }
                }
                // Gone from there: somebody evicted it, and the local copy is no better.
                Ok(None) => {}
                // Redis slow or away: its age alone does not make a local entry worse.
                Err(_) => {
                    if let Some(reading) = local_worth {
                        return Ok(answer(reading, Source::Local));
                    }
                }
            }
        }
        if ask.wants.only_if_cached {
            return Err(ReadError::NotCached);
        }
        self.ask_origin(ask, why, last.is_some()).await
    }

    /// Joins or leads flights until one brings a reading that will do.
    async fn ask_origin(&self, ask: &Ask, why: Why, is_known: bool) -> Result<Answer, ReadError> {
        let mut not_before = earliest(ask, why);
        let mut times_overtaken = 0;
        loop {
            let allowance = Allowance::take(ask.allowance.as_ref()).ok_or(ReadError::RateLimited { retry_after: RETRY_AFTER })?;
            let (flight, is_mine) = match self.board(ask, priority(why, is_known), not_before) {
                Boarding::Led(flight) => {
                    allowance.spend();
                    (flight, true)
                }
                Boarding::Joined(flight) => (flight, false),
                Boarding::TooEarly(flight) => {
                    drop(allowance);
                    // Who waits on a flight begun too early gets the next one; if even that one found nothing out, so be it.
                    if let Flown::Failed(error) = flight.landing().await {
                        return Err(error.into());
                    }
                    continue;
                }
            };
            match flight.landing().await {
                Flown::Landed(reading) => match self.shortfall(ask, &reading) {
                    None => return Ok(answer(reading, source(ask, why, is_mine))),
                    Some(needed) => not_before = needed,
                },
                Flown::Overtaken(reading) => {
                    times_overtaken += 1;
                    let candidate = Candidate { fence: Moment::ZERO, ..reading.candidate };
                    if times_overtaken >= OVERTAKEN_MAX && self.is_good(candidate, &ask.wants, ask.arrived) {
                        return Ok(answer(Reading { candidate, ..reading }, source(ask, why, is_mine)));
                    }
                }
                // A refresh gives up sooner than a caller would.
                Flown::Failed(OriginError::RateLimited { .. }) if !is_mine && times_overtaken < OVERTAKEN_MAX => {
                    times_overtaken += 1
                }
                Flown::Failed(error) => return Err(error.into()),
                Flown::Lost => return Err(ReadError::OriginUnavailable { retry_after: RETRY_AFTER }),
            }
        }
    }

    fn board(&self, ask: &Ask, priority: Priority, not_before: Moment) -> Boarding {
        let (cache, user) = (self.clone(), ask.user.clone());
        self.inner
            .flights
            .board(&ask.user, not_before, self.io(), move |begun, overtaken| cache.fly(user, priority, begun, overtaken))
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

    /// Whether a known reading answers, and if not, why the origin is asked.
    fn worth(&self, ask: &Ask, reading: &Reading, entry: Option<&Entry>) -> Worth {
        let undemanding = Wants { lag_max: ask.wants.lag_max, ..Wants::default() };
        if !self.is_good(reading.candidate, &undemanding, ask.arrived) {
            return Worth::Nothing(Why::Missing);
        }
        if !self.is_good(reading.candidate, &ask.wants, ask.arrived) {
            return Worth::Nothing(Why::Demanded);
        }
        let denied = reading.content.denies(&ask.question);
        if denied.is_none() && !reading.content.is_ambiguous(&ask.question) {
            return Worth::Answer;
        }
        let (window, is_repeated) = match (&denied, entry) {
            (Some(denied), Some(entry)) => {
                let denials = entry.denials.lock().expect("nothing panics while it is held");
                (denials.window(denied, self.inner.parts.bounds.ttl), denials.is_repeated(denied))
            }
            (None, _) | (_, None) => (CHECK_WINDOW, false),
        };
        match clock::now().since(reading.candidate.as_of) <= window {
            true => Worth::Answer,
            false => Worth::Nothing(Why::Denied { is_repeated }),
        }
    }

    fn is_good(&self, candidate: Candidate, wants: &Wants, arrived: Moment) -> bool {
        self.inner.parts.bounds.judge(candidate, wants, arrived, clock::now()) == Verdict::Good
    }

    /// The local entry with the facts of now: if its counter is behind, they are applied and it is stored again.
    fn known(&self, user: &UserId) -> Option<Known> {
        let cache = &*self.inner;
        let fence = cache.parts.fence.load(clock::now());
        let (stripe, generation, standing) = (cache.local.stripe(user), cache.facts.generation(), cache.facts.standing());
        let entry = cache.local.get(user)?;
        let reading = |content: Content, fence| Reading { content, candidate: Candidate { as_of: entry.as_of, fence } };
        if entry.generation == generation {
            return Some(Known { reading: reading(entry.content.clone(), fence), has_standing: true, entry });
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
        let has_standing = entry.standing == standing;
        if !has_standing {
            // Nothing vouches for it but its own age.
            return Some(Known { reading: reading(content, Moment::ZERO), has_standing, entry });
        }
        let reread_at = entry.reread_at.min(self.reread_at(clock::now(), keep));
        cache.local.land(user, stripe, Entry::new(content.clone(), entry.as_of, reread_at, generation, standing));
        Some(Known { reading: reading(content, fence), has_standing, entry })
    }

    /// The shared value with the facts of now, promoted to the local tier.
    async fn shared_reading(&self, shared: &Arc<dyn SharedTier>, user: &UserId) -> Result<Option<Reading>, SharedError> {
        let cache = &*self.inner;
        // Before the value is asked for: what changes from here on refuses the promotion, and the fence vouches for less.
        let fence = cache.parts.fence.load(clock::now());
        let (stripe, standing) = (cache.local.stripe(user), cache.facts.standing());
        // The counter is loaded after the standing: an entry that carries the counter of now passed the tier in this standing.
        let Some(value) = shared.get(user).await? else { return Ok(None) };
        let generation = cache.facts.generation();
        if !cache.facts.may_trust(value.as_of) || cache.facts.has_changed_since(user, value.as_of) {
            cache.counts.untrusted.inc();
            return Ok(None);
        }
        let mut memberships = value.list.memberships();
        let outranked = self.apply_facts(user, value.as_of, &mut memberships);
        if outranked.is_void {
            return Ok(None);
        }
        let keep = outranked.lacks_expected.then_some(KEPT_WITHOUT_EXPECTED);
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
            cache.local.land(user, stripe, Entry::new(content.clone(), value.as_of, reread_at, generation, standing));
        }
        Ok(Some(Reading { content, candidate: Candidate { as_of: value.as_of, fence } }))
    }

    /// What may still be said when the origin could not be asked. Never a "no" in grace (I8), never without a label.
    fn outlive(&self, ask: &Ask, last: Option<Reading>, error: ReadError) -> Result<Answer, ReadError> {
        if error == ReadError::NotCached {
            return Err(error);
        }
        let now = clock::now();
        let known = self.known(&ask.user).map(|known| known.reading);
        let Some(reading) = known.or(last) else { return Err(error) };
        let bounds = &self.inner.parts.bounds;
        let denied = reading.content.denies(&ask.question);
        if let (ReadError::RateLimited { .. }, Some(denied)) = (&error, &denied) {
            let age_max = match denied {
                Denied::EmptyList => bounds.ttl,
                Denied::Organization(_) | Denied::User => REPEAT_AGE_MAX,
            };
            let is_recent = now.since(reading.candidate.as_of) <= age_max;
            if is_recent && bounds.judge(reading.candidate, &ask.wants, ask.arrived, now) == Verdict::Good {
                return Ok(answer(reading, Source::Local));
            }
        }
        match bounds.may_outlive(reading.candidate, &ask.wants, denied.is_some(), now) {
            true => Ok(answer(reading, Source::Grace)),
            false => Err(error),
        }
    }

    /// Remembers a "no" beside the reading it rests on, so that the next one may rest on it longer.
    fn note_denial(&self, ask: &Ask, answer: &Answer) {
        let Some(denied) = answer.content.denies(&ask.question) else { return };
        if let Some(entry) = self.inner.local.get(&ask.user).filter(|entry| entry.as_of == answer.candidate.as_of) {
            entry.denials.lock().expect("nothing panics while it is held").record(denied, entry.as_of);
        }
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

fn answer(reading: Reading, source: Source) -> Answer {
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

fn source(ask: &Ask, why: Why, is_mine: bool) -> Source {
    match why {
        _ if ask.wants.no_cache => Source::Demanded,
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
