//! The reader of the change stream: one task, one connection, one question every fortieth of the staleness bound. It feeds
//! the cache and moves the fence. Upholds I6.
//!
//! The fence moves only when the answer shows that nothing was missed, and only to the moment the question was *sent*. A
//! lost connection alone is no break: the next answer proves by id, count and replication id whether the stream went on, and
//! meanwhile the fence ages. Entries are applied before the fence that covers them moves, and doubt is told before either.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_redis::redis::Pipeline;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use crate::clock;
use crate::domain::Moment;
use crate::ports::{Break, Doubt, Fence, SharedError, StreamSink};
use crate::protocol::continuity::{EntryId, Position, Tailed, judge};
use crate::protocol::rules::{self, Rule};

use super::clock::{Noted, Sample, StreamClock};
use super::counts::{Cause, Counts};
use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read, unavailable};
use super::question::{Answer, Entry, History, answer, question};
use super::scripts;
use super::shared::one;
use super::stamps::Stamps;
use super::start::check_instance;
use super::stream::Standing;

/// The epoch of who is no primary.
const NO_PRIMARY: u64 = 0;
/// What a Redis refuses to note it is asked again after this.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// Everything the tail needs, and where it stands.
pub(super) struct Tail {
    pub link: Link,
    pub keys: Arc<Keys>,
    pub clock: StreamClock,
    pub fence: Fence,
    pub standing: Arc<Standing>,
    /// This reader, in what it writes for replicas to confirm.
    pub token: String,
    pub counts: Counts,
    pub sink: Arc<dyn StreamSink>,
    /// The Clerk instance the prefix must belong to, once known.
    pub instance: Arc<OnceLock<String>>,
    /// What of the history is in doubt, for whoever puts it back.
    pub doubts: watch::Sender<Option<Doubt>>,
    pub place: Place,
}

/// Where the tail stands.
#[derive(Default)]
pub(super) struct Place {
    /// What was applied; none: the facts window is to be loaded.
    position: Option<Position>,
    /// The last question, to see the server's clock step.
    sample: Option<Sample>,
    /// The history's `since` as last seen, whatever was told of it.
    since: Option<u64>,
    /// The history's `since` and `whole` as the sink was told.
    told: Option<(Option<u64>, bool)>,
    /// A shorter stream was seen, or none, and the history does not say so yet.
    is_shorter: bool,
    /// Whose stream was last read to its end.
    replid: Option<String>,
    /// When this node last began to append to another server than the one it asks now, as far as it can tell.
    left_at: Moment,
    /// What it left there may be applied nowhere else, and the history does not say so yet.
    has_left_something: bool,
    /// What Redis refused to note of its clock, and when.
    unnoted: Option<(Arc<Stamps>, Moment)>,
    /// The stamps of what is loaded are from before a step of the server's clock, and say nothing.
    is_after_step: bool,
    is_lost: bool,
    is_refused: bool,
}

/// How one question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ToTheEnd,
    More,
    Broken,
    Unavailable,
}

impl Tail {
    /// Asks until told to stop. A tick that took long is not made up for: a burst would tell nothing new.
    pub(super) async fn run(mut self, period: Duration, stop: watch::Receiver<bool>) {
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            ticks.tick().await;
            while !*stop.borrow() && self.step().await == Step::More {}
        }
    }

    async fn step(&mut self) -> Step {
        let step = match self.ask().await {
            Ok((answer, sample)) => {
                let noted = answer.noted.clone();
                let step = self.take(answer, sample).await;
                if matches!(step, Step::ToTheEnd | Step::More) {
                    self.note_clock(&noted, sample.time).await;
                }
                step
            }
            Err(error) => {
                self.note_lost(&error);
                Step::Unavailable
            }
        };
        let is_continuous = matches!(step, Step::ToTheEnd | Step::More);
        self.standing.is_continuous.store(is_continuous, Ordering::Relaxed);
        step
    }

    async fn ask(&mut self) -> Result<(Answer, Sample), SharedError> {
        let mut pipeline = Pipeline::with_capacity(2);
        let awaited = self.link.awaited();
        if awaited > 0 {
            // Who confirms what is written now follows this primary now: a deposed one has nobody to confirm it.
            let mut fence = scripts::FENCE.on(&[self.keys.fence()]);
            fence.arg(&self.token);
            pipeline.add_command(fence);
        }
        pipeline.add_command(question(&self.keys, self.place.position.as_ref()));
        let sent = clock::now();
        let vouched = self.link.vouch(&pipeline, ANSWER_TIME_MAX).await;
        let mut replies = vouched.inspect_err(|error| self.standing.following.note_failure(error, &self.counts))?;
        let received = clock::now();
        let reply = replies.pop().ok_or_else(|| unavailable("no reply"))?;
        if let Some(written) = replies.pop() {
            // What was not written nobody can have confirmed.
            self.standing.following.note_confirmed(awaited, read::<u32>(written)?, &self.counts);
        }
        let answer = answer(reply)?;
        let epoch = self.link.observe(&answer.reply.replid, answer.reply.is_primary).unwrap_or(NO_PRIMARY);
        if self.place.sample.is_none_or(|last| last.epoch != epoch) {
            // From here on nothing is accepted from where this node was before.
            self.place.left_at = Moment::from_micros(self.standing.appended_at.load(Ordering::Relaxed));
        }
        let sample = Sample { sent, received, time: answer.time, epoch };
        Ok((answer, sample))
    }

    async fn take(&mut self, answer: Answer, sample: Sample) -> Step {
        if !self.is_of_our_instance(&answer.history) {
            return Step::Unavailable;
        }
        self.note_reached();
        // A replica has a clock of its own, and its copy may be behind.
        if answer.reply.is_primary && self.clock.learn(&answer.noted, sample.time) {
            self.note_set_back();
        }
        if answer.history.instance.is_none() && self.instance.get().is_some() {
            // Not claimed at start, or lost since.
            self.try_set_history().await;
        }
        let is_loading = self.place.position.as_ref().is_none_or(|position| position.counted.is_none());
        let judged = self.judge(&answer, &sample);
        let missing = answer.missing_up_to().filter(|_| is_loading && rules::is_on(Rule::MissingEntriesAreAFloor));
        if let (Some(id), Tailed::More(_) | Tailed::ToTheEnd(_)) = (missing, &judged) {
            // Trimmed past this node, or by somebody else: what is gone cannot outrank anything.
            self.sink.missed_before(self.moment(&sample, id.ms));
        }
        match judged {
            Tailed::Broken(cause) => self.break_off(cause).await,
            Tailed::More(next) => {
                self.tell_doubt(&answer.history, &sample, false);
                self.apply(answer.entries, &sample, next);
                Step::More
            }
            Tailed::ToTheEnd(next) => {
                self.tell_doubt(&answer.history, &sample, !rules::is_on(Rule::EntriesBeforeDoubtIsLifted));
                if !rules::is_on(Rule::EntriesBeforeFence) {
                    self.fence.advance(sample.sent);
                }
                self.apply(answer.entries, &sample, next);
                self.tell_doubt(&answer.history, &sample, true);
                self.place.is_after_step = false;
                // Values of another server can be dated only from here on: after the doubt was told and the facts were loaded.
                self.clock.set(sample);
                self.fence.advance(if rules::is_on(Rule::FenceMovesToTheQuestion) { sample.sent } else { sample.received });
                self.place.replid = Some(answer.reply.replid);
                Step::ToTheEnd
            }
        }
    }

    /// The judgement of the protocol, and what it cannot see: the server's clock, and the history beside the stream.
    fn judge(&mut self, answer: &Answer, sample: &Sample) -> Tailed {
        let earlier = self.place.sample.replace(*sample);
        let loading = Position { last: answer.after, counted: None, replid: answer.reply.replid.clone() };
        let judged = judge(self.place.position.as_ref().unwrap_or(&loading), &answer.reply);
        let stepped = earlier.filter(|earlier| earlier.epoch == sample.epoch && sample.has_stepped_since(earlier));
        // Also from one primary to another: what lies in Redis was stamped by either.
        let both_are_primaries = |earlier: &Sample| earlier.epoch != NO_PRIMARY && sample.epoch != NO_PRIMARY;
        let set_back = earlier.filter(|earlier| both_are_primaries(earlier) && sample.is_set_back_since(earlier));
        if set_back.is_some_and(|earlier| self.clock.was_set_back(&earlier, sample)) {
            self.note_set_back();
        }
        // Whatever else is broken: what is loaded next is dated by the clock as it is now.
        self.place.is_after_step |= stepped.is_some();
        if matches!(judged, Tailed::Broken(_)) {
            return judged;
        }
        if stepped.is_some() {
            return Tailed::Broken(Break::ClockStepped);
        }
        let is_told = answer.history.replid.as_ref() == Some(&answer.reply.replid);
        self.place.has_left_something |= is_told && self.has_left_something(answer, sample);
        let is_same = is_told || !rules::is_on(Rule::HistoryIsCompared);
        match is_same && !self.place.is_shorter && !self.place.has_left_something {
            true => judged,
            false => Tailed::Broken(Break::PrimaryChanged),
        }
    }

    /// Whether this node comes from another primary and appended there after this one's history was last doubted. It may have
    /// been confirmed there, and whoever put the history back since then has not found it in the journal.
    fn has_left_something(&self, answer: &Answer, sample: &Sample) -> bool {
        let comes_from_another = self.place.replid.as_ref().is_some_and(|replid| *replid != answer.reply.replid);
        let doubted_at = answer.history.since.and_then(|since| sample.as_of_to_moment(since, sample.received));
        let was_elsewhere = comes_from_another && rules::is_on(Rule::LeftElsewhereIsDoubted);
        was_elsewhere && doubted_at.is_none_or(|doubted_at| self.place.left_at >= doubted_at)
    }

    /// Continuity is lost: the sink is told, the facts window is to be loaded again, and the history is set right.
    async fn break_off(&mut self, cause: Break) -> Step {
        // While loading there is nothing yet to lose: an empty Redis is how everything begins.
        let is_first = self.place.position.is_none() && cause != Break::ClockStepped;
        if !is_first {
            warn!(cause = cause.as_str(), "the change stream is not continuous");
            self.counts.breaks.get_or_create(&Cause { cause: cause.as_str() }).inc();
            self.standing.breaks.fetch_add(1, Ordering::Relaxed);
            self.sink.broke(cause);
        }
        self.place.position = None;
        // A stream that was missing may be there again before this is told: then nobody else can see that it was shorter.
        self.place.is_shorter |= !is_first && matches!(cause, Break::StreamShorter | Break::StreamMissing);
        if cause.may_have_lost_history() {
            self.try_set_history().await;
        }
        Step::Broken
    }

    /// Failing leaves everything as it was; the next answer shows that it is still to be done.
    async fn try_set_history(&mut self) {
        if let Err(error) = self.set_history().await {
            debug!(%error, "the history is set right later");
        }
    }

    async fn set_history(&mut self) -> Result<(), SharedError> {
        let known = self.place.since;
        let mut call = scripts::HISTORY.on(&[self.keys.changes(), self.keys.history()]);
        let seen = if self.place.has_left_something {
            "2"
        } else if self.place.is_shorter {
            "1"
        } else {
            "0"
        };
        call.arg(seen).arg(known.map(|since| since.to_string()).unwrap_or_default());
        call.arg(self.instance.get().map_or("", String::as_str));
        let history = History::read(one(&self.link, call, ANSWER_TIME_MAX).await?)?;
        self.place.is_shorter = false;
        if std::mem::take(&mut self.place.has_left_something) {
            // Whatever it was, it was in the journal before this doubt.
            self.place.left_at = Moment::ZERO;
        }
        if !history.is_whole && history.since != known {
            warn!("acknowledged changes may be lost: readings begun before now are no answers");
        }
        Ok(())
    }

    fn note_set_back(&self) {
        warn!("the clock of Redis was set back: readings in it that may be from before are none");
    }

    /// Where it fails, a later answer shows that it is still to be done.
    async fn note_clock(&mut self, noted: &Noted, time: u64) {
        let Some(twofold) = self.clock.to_note(noted, time) else { return };
        let now = clock::now();
        let is_refused = self.place.unnoted.as_ref().is_some_and(|(tried, at)| *tried == twofold && now.since(*at) < NOTE_AGAIN);
        if is_refused {
            return;
        }
        let mut call = scripts::CLOCK.on(&[self.keys.history()]);
        call.arg(twofold.to_string()).arg(twofold.last().unwrap_or_default());
        let written = one(&self.link, call, ANSWER_TIME_MAX).await.and_then(read::<u64>);
        self.place.unnoted = written.is_err().then_some((twofold, now));
        if let Err(error) = written {
            debug!(%error, "the clock is noted later");
        }
    }

    fn apply(&mut self, entries: Vec<(EntryId, Entry)>, sample: &Sample, next: Position) {
        for (id, entry) in entries {
            match entry {
                Entry::Change(change) => {
                    self.counts.entries_applied.inc();
                    self.sink.apply(&change, self.moment(sample, id.ms));
                }
                Entry::Unreadable => {
                    self.counts.entries_unreadable.inc();
                    warn!(entry = %id, "an entry of the change stream cannot be read");
                    self.sink.apply_unreadable();
                }
                Entry::Bookkeeping => {}
            }
        }
        self.place.position = Some(next);
    }

    fn moment(&self, sample: &Sample, entry_ms: u64) -> Moment {
        match self.place.is_after_step {
            // The latest it can have been: a fact that outranks too much costs a reading, one that outranks too little is wrong.
            true => sample.received,
            false => sample.entry_to_moment(entry_ms),
        }
    }

    /// Doubt is raised before the entries of an answer are applied, and lifted after all are: what was put back is among them.
    fn tell_doubt(&mut self, history: &History, sample: &Sample, may_lift: bool) {
        self.place.since = history.since;
        let standing = (history.since, history.is_whole);
        if self.place.told == Some(standing) || (history.is_whole && !may_lift) {
            return;
        }
        self.place.told = Some(standing);
        let in_doubt = history.replid.clone().zip(history.since).filter(|_| !history.is_whole);
        self.doubts.send_replace(in_doubt.map(|(replid, since)| Doubt { replid, since }));
        match (history.since, history.is_whole) {
            (Some(since), false) => self.sink.doubt_before(sample.stamp_to_moment(since)),
            (_, true) | (None, _) => self.sink.doubt_before(Moment::ZERO),
        }
    }

    /// Another instance's stream is never applied, and never vouches for anything (I13).
    fn is_of_our_instance(&mut self, history: &History) -> bool {
        let (Some(found), Some(ours)) = (&history.instance, self.instance.get()) else { return true };
        let checked = check_instance(&self.keys, found, ours);
        if let Err(error) = &checked
            && !std::mem::replace(&mut self.place.is_refused, true)
        {
            error!(%error, "this Redis is not used");
        }
        checked.is_ok()
    }

    fn note_lost(&mut self, error: &SharedError) {
        if !std::mem::replace(&mut self.place.is_lost, true) {
            warn!(%error, "the change stream cannot be asked");
        }
    }

    fn note_reached(&mut self) {
        if std::mem::replace(&mut self.place.is_lost, false) {
            info!("the change stream is asked again");
        }
    }
}
