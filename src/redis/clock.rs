//! The server's clock against this machine's, from the bracket of a question: sent, its TIME, received. Written by the tail
//! and read by the shared tier. No two machines' clocks are compared: only durations travel (I6, I7).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::clock;
use crate::domain::Moment;
use crate::protocol::facts::FACTS_WINDOW;
use crate::protocol::rules::{self, Rule};

use super::stamps::Stamps;

/// A step smaller than this is drift or a slow answer.
const STEP_MIN: Duration = Duration::from_millis(100);
/// Two clocks may drift apart by this part of the time between two questions.
const DRIFT: u32 = 1000;
/// How far the server's clock has come is noted this often.
const NOTED_EVERY: Duration = Duration::from_secs(1);
/// What is further ahead of now than this is from before a step of the server's clock.
const AHEAD_MAX: Duration = Duration::from_millis(5);

/// The last known relation of the two clocks, shared between the tail and the shared tier.
#[derive(Debug, Clone, Default)]
pub struct StreamClock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sample: ArcSwapOption<Sample>,
    /// Stamps that may be from before the clock was set back: they would make a reading younger than it is. No reading is
    /// kept for longer than this is long.
    twofold: ArcSwap<Stamps>,
}

/// What is noted of the server's clock beside the stream, for nodes that were not there. Stamps are in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// The latest it ever said, but for the time since it was last noted.
    pub latest: Option<u64>,
    /// What it says twice, because it was set back.
    pub twofold: Stamps,
}

impl Noted {
    /// As it lies in Redis.
    pub(super) fn of(latest: Option<u64>, twofold: Option<&str>) -> Self {
        Self { latest, twofold: twofold.map(Stamps::parse).unwrap_or_default() }
    }
}

/// One question: the server's TIME was read between `sent` and `received`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Before the question was sent.
    pub sent: Moment,
    /// After its answer was received.
    pub received: Moment,
    /// The server's TIME, in microseconds.
    pub time: u64,
    /// The epoch of the server that was asked.
    pub epoch: u64,
}

impl StreamClock {
    /// Notes a question.
    pub fn set(&self, sample: Sample) {
        self.0.sample.store(Some(Arc::new(sample)));
    }

    /// Notes that the clock was found set back, between two questions: what it said before it says once more. Answers whether
    /// that is news.
    pub fn was_set_back(&self, earlier: &Sample, later: &Sample) -> bool {
        let mut stamps = Stamps::default();
        stamps.add(up_to(earlier.time + later.received.since(earlier.sent).as_micros() as u64));
        self.says_twice(&stamps)
    }

    /// Learns what others noted, from the answer that said `time`: a step that this node was not there to see. Answers whether
    /// there was news.
    pub fn learn(&self, noted: &Noted, time: u64) -> bool {
        let mut stamps = noted.twofold.clone();
        if let Some(latest) = noted.latest.filter(|latest| is_ahead(*latest, time)) {
            // It went on for a while after it was last noted.
            stamps.add(up_to(latest + 2 * NOTED_EVERY.as_micros() as u64));
        }
        self.says_twice(&stamps)
    }

    /// The stamps said twice, if they are to be noted for others: not all are, or how far the clock has come is not.
    pub fn to_note(&self, noted: &Noted, time: u64) -> Option<Arc<Stamps>> {
        let twofold = self.0.twofold.load_full();
        let is_due = |latest: u64| latest + NOTED_EVERY.as_micros() as u64 <= time || is_ahead(latest, time);
        (*twofold != noted.twofold || noted.latest.is_none_or(is_due)).then_some(twofold)
    }

    fn says_twice(&self, stamps: &Stamps) -> bool {
        let known = self.0.twofold.load();
        let both = known.with(stamps);
        let is_news = both != **known;
        if is_news {
            self.0.twofold.store(Arc::new(both));
        }
        is_news
    }

    /// The TIME of the server of `epoch`, in microseconds: never later than it is. None as below.
    pub fn time(&self, epoch: u64) -> Option<u64> {
        let sample = self.0.sample.load();
        let sample = sample.as_ref().filter(|sample| sample.epoch == epoch)?;
        Some(sample.time_at(clock::now()))
    }

    /// When a reading stamped by the server of `epoch` began, on this machine's clock: never later than it did. None when
    /// that server answered no question yet, when the stamp lies in the future or may be from before its clock was set back, or
    /// before this machine started: a moment cannot say so, and zero would be later than the truth.
    pub fn as_of_to_moment(&self, stamp: u64, epoch: u64) -> Option<Moment> {
        let sample = self.0.sample.load();
        let sample = sample.as_ref().filter(|sample| sample.epoch == epoch)?;
        if self.0.twofold.load().contain(stamp) && rules::is_on(Rule::StampsSaidTwiceDateNothing) {
            return None;
        }
        sample.as_of_to_moment(stamp, clock::now())
    }
}

/// Whether the clock said this before it was set back to `time`.
fn is_ahead(latest: u64, time: u64) -> bool {
    time + (STEP_MIN.as_micros() as u64) < latest
}

/// Every stamp up to this one that a reading which is still kept may have.
fn up_to(last: u64) -> RangeInclusive<u64> {
    last.saturating_sub(FACTS_WINDOW.as_micros() as u64)..=last
}

impl Sample {
    /// The same by this question.
    pub fn as_of_to_moment(&self, stamp: u64, now: Moment) -> Option<Moment> {
        let micros = (self.sent.as_micros() + stamp).checked_sub(self.time)?;
        let at = Moment::from_micros(micros);
        (at <= now + AHEAD_MAX).then_some(at.min(now))
    }

    /// The server read its clock before it was heard of, so at least so much has passed on it since.
    fn time_at(&self, now: Moment) -> u64 {
        let passed = now.since(self.received);
        self.time + (passed - passed / DRIFT).as_micros() as u64
    }

    /// When something that the server stamped happened, on this machine's clock: never earlier than it did. It happened
    /// before the answer that told of it, whatever the server's clock says.
    pub fn stamp_to_moment(&self, stamp: u64) -> Moment {
        let micros = (self.received.as_micros() + stamp).saturating_sub(self.time);
        Moment::from_micros(micros).min(self.received)
    }

    /// The same for the id of an entry, which has milliseconds only.
    pub fn entry_to_moment(&self, entry_ms: u64) -> Moment {
        self.stamp_to_moment((entry_ms + 1) * 1000)
    }

    /// Whether the server's clock says less than it must: it was set back since, by more than drift can be.
    pub fn is_set_back_since(&self, earlier: &Sample) -> bool {
        let passed_min = self.sent.since(earlier.received);
        self.time + (STEP_MIN.as_micros() as u64) < earlier.time + passed_min.as_micros() as u64
    }

    /// Whether the server's clock stepped between two questions to the same server: no offset fits both brackets.
    pub fn has_stepped_since(&self, earlier: &Sample) -> bool {
        let allowed = STEP_MIN + self.received.since(earlier.received) / DRIFT;
        let allowed = allowed.as_micros() as i128;
        let offset = |time: u64, moment: Moment| i128::from(time) - i128::from(moment.as_micros());
        let (low, high) = (offset(self.time, self.received), offset(self.time, self.sent));
        let (earlier_low, earlier_high) = (offset(earlier.time, earlier.received), offset(earlier.time, earlier.sent));
        low > earlier_high + allowed || high < earlier_low - allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn sample(sent: u64, received: u64, time: u64) -> Sample {
        Sample { sent: Moment::from_micros(sent), received: Moment::from_micros(received), time, epoch: 1 }
    }

    #[test]
    fn a_reading_is_never_younger_and_an_entry_never_older_than_it_was() {
        let asked = sample(100 * SECOND, 101 * SECOND, 5000 * SECOND);
        let now = Moment::from_micros(102 * SECOND);
        assert_eq!(asked.as_of_to_moment(4990 * SECOND, now), Some(Moment::from_micros(90 * SECOND)));
        assert_eq!(asked.entry_to_moment(4_990_000), Moment::from_micros(91 * SECOND + 1000));
    }

    #[test]
    fn the_time_of_another_machine_is_never_later_than_it_is() {
        let asked = sample(100 * SECOND, 101 * SECOND, 5000 * SECOND);
        assert_eq!(asked.time_at(Moment::from_micros(101 * SECOND)), 5000 * SECOND);
        // The clock was read at 100 s at the earliest and at 101 s at the latest: it is at 5010 or 5009 now, or a drift less.
        assert_eq!(asked.time_at(Moment::from_micros(110 * SECOND)), 5009 * SECOND - 9_000);
        assert_eq!(
            asked.as_of_to_moment(asked.time_at(Moment::from_micros(110 * SECOND)), Moment::from_micros(110 * SECOND)),
            Some(Moment::from_micros(109 * SECOND - 9_000))
        );
    }

    #[test]
    fn what_cannot_be_said_is_not_guessed() {
        let asked = sample(100 * SECOND, 101 * SECOND, 5000 * SECOND);
        let now = Moment::from_micros(102 * SECOND);
        let clock = StreamClock::default();
        assert_eq!(clock.as_of_to_moment(1, 1), None);
        clock.set(Sample { received: clock::now(), sent: clock::now(), time: 1, epoch: 1 });
        assert!(clock.as_of_to_moment(1, 1).is_some());
        assert_eq!(clock.as_of_to_moment(1, 2), None, "another server's clock");
        assert_eq!(asked.as_of_to_moment(4899 * SECOND, now), None, "before this machine started");
        assert_eq!(asked.as_of_to_moment(5003 * SECOND, now), None, "in the future");
        assert_eq!(asked.as_of_to_moment(5002 * SECOND, now), Some(now), "landed after the last question");
        assert_eq!(asked.entry_to_moment(9_000_000), asked.received, "it was there when the answer was given");
        assert_eq!(asked.entry_to_moment(1), Moment::ZERO);
    }

    #[test]
    fn a_step_is_told_from_a_slow_answer_and_from_drift() {
        let before = sample(100 * SECOND, 100 * SECOND + 500, 5000 * SECOND);
        let check = |after: Sample, expected: bool| assert_eq!(after.has_stepped_since(&before), expected, "{after:?}");
        check(sample(101 * SECOND, 101 * SECOND + 500, 5001 * SECOND), false);
        check(sample(101 * SECOND, 104 * SECOND, 5003 * SECOND), false);
        check(sample(101 * SECOND, 101 * SECOND + 500, 5001 * SECOND + 90_000), false);
        check(sample(101 * SECOND, 101 * SECOND + 500, 5001 * SECOND + 120_000), true);
        check(sample(101 * SECOND, 101 * SECOND + 500, 5001 * SECOND - 120_000), true);
        check(sample(701 * SECOND, 701 * SECOND + 500, 5601 * SECOND + 600_000), false);
    }

    #[test]
    fn i7_what_the_clock_says_twice_dates_nothing() {
        let before = Sample { epoch: 1, ..sample(100 * SECOND, 100 * SECOND + 500, 5000 * SECOND) };
        let after = sample(101 * SECOND, 101 * SECOND + 500, 4991 * SECOND);
        assert!(after.is_set_back_since(&before) && !before.is_set_back_since(&before));
        assert!(!sample(101 * SECOND, 101 * SECOND + 500, 5011 * SECOND).is_set_back_since(&before), "set forward");
        assert!(!sample(101 * SECOND, 109 * SECOND, 5001 * SECOND).is_set_back_since(&before), "slow");

        let clock = StreamClock::default();
        clock.set(Sample { received: clock::now(), sent: clock::now(), ..after });
        let is_told = |seconds: u64| clock.as_of_to_moment(seconds * SECOND, 1).is_some();
        assert!(is_told(4990));
        clock.was_set_back(&before, &after);
        assert_eq!([4990, 4991].map(is_told), [false, false], "before or after the step");
        assert_eq!(clock.0.twofold.load().last(), Some(5001 * SECOND + 500));
    }

    #[test]
    fn i7_what_others_noted_is_learned_and_what_they_do_not_know_is_noted() {
        let clock = StreamClock::default();
        let window = FACTS_WINDOW.as_secs();
        let up_to = |last: u64| format!("{}-{}", (last - window) * SECOND, last * SECOND);
        let noted = |latest: u64, twofold: &str| Noted { latest: Some(latest * SECOND), twofold: Stamps::parse(twofold) };
        let check = |noted: &Noted, time: u64, expected: Option<&str>| {
            let to_note = clock.to_note(noted, time).map(|stamps| stamps.to_string());
            assert_eq!(to_note.as_deref(), expected, "{noted:?} at {time}");
        };
        check(&Noted::default(), 1, Some(""));
        check(&noted(5000, ""), 5000 * SECOND + 900_000, None);
        check(&noted(5000, ""), 5001 * SECOND, Some(""));

        assert!(!clock.learn(&noted(5000, ""), 5000 * SECOND - 90_000), "a slow answer is no step");
        check(&noted(5000, ""), 5000 * SECOND - 90_000, None);
        assert!(clock.learn(&noted(5000, ""), 4999 * SECOND));
        check(&noted(5000, ""), 4999 * SECOND, Some(&up_to(5002)));
        // Noted ahead, it hides the next step: it is to come down.
        check(&noted(5000, &up_to(5002)), 4999 * SECOND, Some(&up_to(5002)));
        check(&noted(4999, &up_to(5002)), 4999 * SECOND, None);

        // The clock was hours ahead: that says nothing of the stamps between.
        assert!(clock.learn(&noted(4999, &up_to(20_000)), 4999 * SECOND));
        assert!(!clock.learn(&noted(4999, &up_to(20_000)), 4999 * SECOND));
        check(&noted(4999, &up_to(20_000)), 4999 * SECOND, Some(&format!("{},{}", up_to(5002), up_to(20_000))));
        clock.set(Sample { received: clock::now(), sent: clock::now(), time: 9_000 * SECOND, epoch: 1 });
        assert!(clock.as_of_to_moment(8_999 * SECOND, 1).is_some());
    }
}
