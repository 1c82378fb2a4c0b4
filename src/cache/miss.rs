//! What comes after the hot path, in order: the local entry once more, the shared tier, the origin, and what may be said
//! when the origin cannot be asked. Upholds I6–I8 and I10.
//!
//! Runs on the I/O runtime. May be dropped at any await: a flight it began goes on without it.

use std::time::Duration;

use super::answer::{Answer, Ask, Content, ReadError, Source};
use super::asking::{Why, answer};
use super::flown::Reading;
use super::known::Known;
use super::local::Entry;
use super::waits::Behind;
use super::{CHECK_WINDOW, Cache};
use crate::clock;
use crate::domain::Moment;
use crate::protocol::denial::{Denied, REPEAT_AGE_MAX};
use crate::protocol::facts::FACTS_WINDOW;
use crate::protocol::freshness::{Candidate, Verdict, Wants};

/// When to try again after the origin failed.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a known reading is worth to a question.
enum Worth {
    Answer,
    Nothing(Why),
}

impl Cache {
    /// The answer from wherever it is to be had by the deadline of `ask`.
    pub async fn read(&self, ask: Ask) -> Result<Answer, ReadError> {
        let _under_way = self.inner.counts.begin_read();
        let mut last = None;
        let time_left = ask.deadline.since(clock::now());
        let searched = tokio::time::timeout(time_left, self.search(&ask, &mut last)).await;
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
        if let Some(answer) = self.dead(ask) {
            return Ok(answer);
        }
        let mut why = if ask.wants.no_cache { Why::Demanded } else { Why::Missing };

        // The local entry once more: somebody may have filled it, or only its facts were behind.
        let known = self.known(&ask.user).filter(|known| known.has_standing);
        let mut local = None;
        if let Some(known) = &known {
            *last = Some(known.reading.clone());
            match self.worth(ask, &known.reading, Some(&known.entry)) {
                Worth::Answer if clock::now() <= known.reread_at => return Ok(answer(known.reading.clone(), Source::Local)),
                // It lacks what was announced, and its few seconds are over: however young, it is no better than what Redis holds.
                Worth::Answer if known.entry.is_brief => {}
                Worth::Answer => local = Some(known.reading.clone()),
                Worth::Nothing(reason) => why = reason,
            }
        }

        if let Some(shared) = self.inner.parts.shared.clone().filter(|_| !ask.wants.no_cache) {
            let wait = ask.waits.begin(Behind::Shared);
            let found = self.shared_reading(&shared, &ask.user).await;
            drop(wait);
            match found {
                Ok(Some(reading)) => {
                    // Redis may be too full to have taken what this node read later.
                    if let Some(newer) = local.filter(|local| local.candidate.as_of > reading.candidate.as_of) {
                        return Ok(answer(newer, Source::Local));
                    }
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
                // Redis slow or away: that it was not looked at lately does not make a local entry worse.
                Err(_) => {
                    if let Some(known) = self.known(&ask.user).filter(|known| self.may_skip_shared(ask, known)) {
                        return Ok(answer(known.reading, Source::Local));
                    }
                }
            }
        }
        if ask.wants.only_if_cached {
            return Err(ReadError::NotCached);
        }
        let _wait = ask.waits.begin(Behind::Origin);
        self.ask_origin(ask, why, last.is_some()).await
    }

    /// A user known to be gone is unknown without asking the origin, while the fence is fresh. Who is dead stays dead: it is
    /// as true now as when it was said.
    fn dead(&self, ask: &Ask) -> Option<Answer> {
        let now = clock::now();
        let fence = self.inner.parts.fence.load(now);
        self.inner.facts.dead_since(&ask.user, now)?;
        let is_fresh = now.since(fence) <= self.inner.parts.bounds.staleness;
        let reading = Reading { content: Content::Unknown, candidate: Candidate { as_of: now, fence } };
        is_fresh.then(|| answer(reading, Source::Local))
    }

    /// Whether a local entry may answer though the shared tier, due to be asked, does not answer. Judged anew: it took time
    /// to find that out.
    fn may_skip_shared(&self, ask: &Ask, known: &Known) -> bool {
        let is_over = known.entry.is_brief && clock::now() > known.reread_at;
        known.has_standing && !is_over && matches!(self.worth(ask, &known.reading, Some(&known.entry)), Worth::Answer)
    }

    /// Whether a known reading answers, and if not, why the origin is asked.
    fn worth(&self, ask: &Ask, reading: &Reading, entry: Option<&Entry>) -> Worth {
        if ask.wants.no_cache && reading.candidate.as_of < ask.arrived {
            return Worth::Nothing(Why::Demanded);
        }
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
        match ask.arrived.since(reading.candidate.as_of) <= window {
            true => Worth::Answer,
            false => Worth::Nothing(Why::Denied { is_repeated }),
        }
    }

    pub(super) fn is_good(&self, candidate: Candidate, wants: &Wants, arrived: Moment) -> bool {
        self.inner.parts.bounds.judge(candidate, wants, arrived, clock::now()) == Verdict::Good
    }

    /// What may still be said when the origin could not be asked. Never a "no" in grace (I8), never without a label.
    fn outlive(&self, ask: &Ask, last: Option<Reading>, error: ReadError) -> Result<Answer, ReadError> {
        if error == ReadError::NotCached {
            return Err(error);
        }
        let now = clock::now();
        let known = self.known(&ask.user).map(|known| known.reading);
        // What was read before may have been overtaken while the origin was waited for.
        let last = last.and_then(|last| self.still(&ask.user, last));
        let Some(reading) = known.or(last) else { return Err(error) };
        if now.since(reading.candidate.as_of) > FACTS_WINDOW {
            // What outranks it may be forgotten.
            return Err(error);
        }
        let bounds = &self.inner.parts.bounds;
        let denied = reading.content.denies(&ask.question);
        let is_budget_spent = matches!(error, ReadError::RateLimited { .. } | ReadError::AllowanceSpent);
        if let (true, Some(denied)) = (is_budget_spent, &denied) {
            let age_max = match denied {
                Denied::EmptyList => bounds.ttl,
                Denied::Organization(_) | Denied::User => REPEAT_AGE_MAX,
            };
            let is_recent = now.since(reading.candidate.as_of) <= age_max;
            if is_recent && bounds.judge(reading.candidate, &ask.wants, ask.arrived, now) == Verdict::Good {
                return Ok(answer(reading, Source::Local));
            }
        }
        // A batch that has read its share says nothing of the origin: grace is for when that cannot be asked.
        let is_graceless = denied.is_some() || error == ReadError::AllowanceSpent;
        match bounds.may_outlive(reading.candidate, &ask.wants, is_graceless, now) {
            true => Ok(answer(reading, Source::Grace)),
            false => Err(error),
        }
    }

    /// Remembers a "no" beside the reading it rests on, so that the next one may rest on it longer.
    fn note_denial(&self, ask: &Ask, answer: &Answer) {
        let Some(denied) = answer.content.denies(&ask.question) else { return };
        self.inner.local.note_denial(&ask.user, answer.candidate.as_of, denied);
    }
}
