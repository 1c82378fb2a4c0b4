//! `Server-Timing`: how long the stages of a call took, for whom that is switched on. Told beside an answer, never part of it.
//!
//! `auth` is the key or the token, `body` what the caller sent, `local` this process, `shared` Redis, `origin` Clerk (the longest
//! wait where a batch waits for many), `apply` an eviction, `total` everything up to the answer. Only what was measured is told:
//! nothing that was not needed, no `local` of a batch, and of an inspection no tier.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::cache::{Behind, Waits};
use crate::clock;
use crate::domain::Moment;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Who is told how long a call took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TimedFor {
    /// Nobody.
    #[default]
    Nobody,
    /// Who calls with one of these service keys, by name.
    Keys(Vec<String>),
    /// Everybody.
    Everybody,
}

/// Times one call; does nothing where nobody is told.
pub struct Stopwatch<'a>(Option<Box<Running<'a>>>);

struct Running<'a> {
    timed_for: &'a TimedFor,
    is_told: Cell<bool>,
    began: Moment,
    lap_began: Cell<Moment>,
    told: RefCell<String>,
    waits: Waits,
}

impl<'a> Stopwatch<'a> {
    /// Runs from `began` on.
    pub fn start(timed_for: &'a TimedFor, began: Moment) -> Self {
        if *timed_for == TimedFor::Nobody {
            return Self(None);
        }
        Self(Some(Box::new(Running {
            timed_for,
            is_told: Cell::new(*timed_for == TimedFor::Everybody),
            began,
            lap_began: Cell::new(began),
            told: RefCell::default(),
            waits: Waits::watched(),
        })))
    }

    /// The caller is known.
    pub fn called_with(&self, key_name: &str) {
        let Some(running) = &self.0 else { return };
        if let TimedFor::Keys(names) = running.timed_for {
            running.is_told.set(names.iter().any(|name| name == key_name));
        }
    }

    /// A stage ends, that began when the one before it did.
    pub fn lap(&self, stage: &str) {
        let Some(running) = &self.0 else { return };
        let now = clock::now();
        running.note(stage, now.since(running.lap_began.replace(now)));
    }

    /// What a search notes its waits in.
    pub fn waits(&self) -> Waits {
        self.0.as_ref().map(|running| running.waits.clone()).unwrap_or_default()
    }

    /// Writes the header.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Some(running) = self.0.as_ref().filter(|running| running.is_told.get()) else { return };
        for (stage, behind) in [("shared", Behind::Shared), ("origin", Behind::Origin)] {
            if let Some(longest) = running.waits.longest(behind) {
                running.note(stage, longest);
            }
        }
        running.note("total", clock::now().since(running.began));
        let value = HeaderValue::from_str(&running.told.borrow()).expect("names, digits and commas are visible ASCII");
        headers.insert(SERVER_TIMING, value);
    }
}

impl Running<'_> {
    /// In milliseconds, as the header wants it.
    fn note(&self, stage: &str, took: Duration) {
        let mut told = self.told.borrow_mut();
        let comma = if told.is_empty() { "" } else { ", " };
        write!(told, "{comma}{stage};dur={:.3}", took.as_secs_f64() * 1_000.0).expect("a string takes it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(timed_for: &TimedFor, key_name: Option<&str>) -> Option<String> {
        let stopwatch = Stopwatch::start(timed_for, clock::now());
        if let Some(key_name) = key_name {
            stopwatch.called_with(key_name);
        }
        stopwatch.lap("auth");
        let mut headers = HeaderMap::new();
        stopwatch.tell(&mut headers);
        headers.get(SERVER_TIMING).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn only_those_are_told_for_whom_it_is_switched_on() {
        let keys = TimedFor::Keys(vec!["console".into()]);
        assert_eq!(told(&TimedFor::Nobody, Some("console")), None);
        assert_eq!(told(&keys, None), None);
        assert_eq!(told(&keys, Some("billing")), None);
        for text in [told(&keys, Some("console")), told(&TimedFor::Everybody, None), told(&TimedFor::Everybody, Some("x"))] {
            let text = text.expect("it is told");
            let stages: Vec<_> = text.split(", ").map(|stage| stage.split_once(";dur=").expect("a duration")).collect();
            assert_eq!(stages.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["auth", "total"], "{text}");
            assert!(stages.iter().all(|(_, took)| took.parse::<f64>().is_ok()), "{text}");
        }
    }
}
