//! The reader of the change stream where nobody can say how current an answer is (`ROLLCALL_CONSISTENCY=eventual`): once per
//! staleness bound it asks for what is new and feeds it to the cache, by plain commands that any Redis service answers.
//!
//! It proves nothing: what it misses stays missed, until readings age out. It moves no fence, judges no continuity and puts no
//! history in doubt. What it feeds still counts: a change that is known outranks an older reading here too (I4, I5).

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_redis::redis;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::clock;
use crate::ports::{Fence, SharedError, StreamSink};
use crate::protocol::continuity::{ENTRIES_MAX, EntryId};

use super::clock::{Sample, StreamClock};
use super::counts::Counts;
use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read, unavailable};
use super::question::{Entry, entries, entries_after};
use super::start::{check_instance, claim};
use super::stream::Standing;

/// Everything the reader needs, and where it stands.
pub(super) struct Reader {
    pub link: Link,
    pub keys: Arc<Keys>,
    /// What readings in Redis are dated by; by whichever server answered TIME.
    pub clock: StreamClock,
    /// Moved whenever the stream was read to its end: for readiness, and for tokens, which are in doubt until it was once.
    pub heard: Fence,
    pub standing: Arc<Standing>,
    pub counts: Counts,
    pub sink: Arc<dyn StreamSink>,
    /// The Clerk instance the prefix must belong to, once known.
    pub instance: Arc<OnceLock<String>>,
    pub place: Place,
}

/// Where the reader stands.
#[derive(Default)]
pub(super) struct Place {
    last: Option<EntryId>,
    is_claimed: bool,
    is_refused: bool,
    is_lost: bool,
}

impl Reader {
    /// Asks until told to stop.
    pub(super) async fn run(mut self, period: Duration, stop: watch::Receiver<bool>) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            ticks.tick().await;
            while !*stop.borrow() && self.step().await {}
        }
    }

    /// One question; true when there may be more.
    async fn step(&mut self) -> bool {
        let asked = self.ask().await;
        self.standing.is_continuous.store(asked.is_ok(), Ordering::Relaxed);
        match asked {
            Ok(is_more) => {
                if std::mem::replace(&mut self.place.is_lost, false) {
                    info!("the change stream is asked again");
                }
                is_more
            }
            Err(error) => {
                if !std::mem::replace(&mut self.place.is_lost, true) {
                    warn!(%error, "the change stream cannot be asked");
                }
                false
            }
        }
    }

    async fn ask(&mut self) -> Result<bool, SharedError> {
        self.claim().await?;
        let mut question = redis::pipe();
        question.cmd("TIME").add_command(entries_after(&self.keys, self.place.last));
        let sent = clock::now();
        let replies = self.link.ask(&question, ANSWER_TIME_MAX).await?;
        let received = clock::now();
        let [time, found] = replies.try_into().map_err(|_| unavailable("an answer that cannot be read"))?;
        let (seconds, micros) = read::<(u64, u64)>(time)?;
        let sample = Sample { sent, received, time: seconds * 1_000_000 + micros, epoch: self.link.epoch() };
        let found = entries(found)?;
        let is_more = found.len() >= ENTRIES_MAX;
        for (id, entry) in found {
            self.apply(id, entry, &sample);
        }
        self.clock.set(sample);
        if !is_more {
            self.heard.advance(sent);
        }
        Ok(is_more)
    }

    fn apply(&mut self, id: EntryId, entry: Entry, sample: &Sample) {
        match entry {
            Entry::Change(change) => {
                self.counts.entries_applied.inc();
                self.sink.apply(&change, sample.entry_to_moment(id.ms));
            }
            Entry::Unreadable => {
                self.counts.entries_unreadable.inc();
                warn!(entry = %id, "an entry of the change stream cannot be read");
                self.sink.apply_unreadable();
            }
            Entry::Bookkeeping => {}
        }
        self.place.last = Some(id);
    }

    /// Another instance's stream is never applied, and its values are never dated, so never answered (I13).
    async fn claim(&mut self) -> Result<(), SharedError> {
        let Some(ours) = self.instance.get().filter(|_| !self.place.is_claimed) else { return Ok(()) };
        let found = claim(&self.link, &self.keys, ours, ANSWER_TIME_MAX).await?;
        match check_instance(&self.keys, &found, ours) {
            Ok(()) => self.place.is_claimed = true,
            Err(refused) => {
                if !std::mem::replace(&mut self.place.is_refused, true) {
                    error!(error = %refused, "this Redis is not used");
                }
                return Err(unavailable("the prefix is another instance's"));
            }
        }
        Ok(())
    }
}
