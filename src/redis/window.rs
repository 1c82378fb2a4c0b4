//! The facts window, read once: for an operator who wants to know what nodes remember. `rollcall inspect` asks.
//!
//! Plain commands that write nothing: no fence is moved, no continuity judged, no history set right, and nobody hears a beat.

use std::time::Duration;

use deadpool_redis::redis::{self, Pipeline, Value};

use super::Redis;
use super::clock::{Noted, Sample};
use super::link::{read, unavailable};
use super::question::{Entry, History, entries, entries_after};
use crate::clock;
use crate::ports::{SharedError, StreamSink};
use crate::protocol::continuity::{ENTRIES_MAX, EntryId};

/// An operator can wait a little; the connection is made within it too.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

impl Redis {
    /// Feeds everything in the stream to `sink`, and learns the server's clock: from then on readings in Redis have an age.
    pub async fn read_window(&self, sink: &dyn StreamSink) -> Result<(), SharedError> {
        let mut last = self.read_beginning(sink).await?;
        while let Some(after) = last {
            let (_, next) = self.read_entries(Pipeline::new(), Some(after), sink).await?;
            last = next;
        }
        Ok(())
    }

    /// The first entries, with what lies beside the stream.
    async fn read_beginning(&self, sink: &dyn StreamSink) -> Result<Option<EntryId>, SharedError> {
        let mut beside = redis::pipe();
        let fields: [&[&str]; 2] = [&["replid", "since", "whole", "instance"], &["clock", "twofold"]];
        for fields in fields {
            beside.cmd("HMGET").arg(self.shared.keys.history()).arg(fields);
        }
        let ((sample, replies), last) = self.read_entries(beside, None, sink).await?;
        let [history, noted] = <[Value; 2]>::try_from(replies).map_err(|_| unavailable("an answer that cannot be read"))?;
        let history = History::read(history)?;
        let (latest, twofold) = read::<(Option<u64>, Option<String>)>(noted)?;
        self.shared.clock.learn(&Noted::of(latest, twofold.as_deref()), sample.time);
        if let Some(since) = history.since.filter(|_| !history.is_whole) {
            sink.doubt_before(sample.stamp_to_moment(since));
        }
        Ok(last)
    }

    /// Asks for what follows an entry, and whatever else is in the pipeline; its replies, and the last entry if there may be more.
    async fn read_entries(
        &self,
        mut question: Pipeline,
        after: Option<EntryId>,
        sink: &dyn StreamSink,
    ) -> Result<((Sample, Vec<Value>), Option<EntryId>), SharedError> {
        question.cmd("TIME").add_command(entries_after(&self.shared.keys, after));
        let (link, sent) = (&self.shared.stream, clock::now());
        let mut replies = link.ask(&question, ANSWER_TIME_MAX).await?;
        let received = clock::now();
        let (Some(found), Some(time)) = (replies.pop(), replies.pop()) else {
            return Err(unavailable("an answer that cannot be read"));
        };
        let (seconds, micros) = read::<(u64, u64)>(time)?;
        let sample = Sample { sent, received, time: seconds * 1_000_000 + micros, epoch: link.epoch() };
        self.shared.clock.set(sample);
        let found = entries(found)?;
        let last = found.last().map(|(id, _)| *id).filter(|_| found.len() >= ENTRIES_MAX);
        for (id, entry) in found {
            match entry {
                Entry::Change(change) => sink.apply(&change, sample.entry_to_moment(id.ms)),
                Entry::Unreadable => sink.apply_unreadable(),
                Entry::Bookkeeping => {}
            }
        }
        Ok(((sample, replies), last))
    }
}
