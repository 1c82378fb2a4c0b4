//! What the scripts do: to the value and its guard, by `protocol::lease::Guard` itself; to the stream and its history.

use rollcall::protocol::continuity::{self, EntryId, Left};
use rollcall::protocol::lease::{self, Landed};

use super::life::Rows;
use super::rules::Rules;
use super::state::{Changes, Entry, Guard, History, Position, Redis, Reply, Stream, Value};

/// The entry that is there from the beginning: bookkeeping.
pub const FIRST_ENTRY: u8 = 1;
/// What everything comes after that is in the window.
pub const BEFORE_THE_WINDOW: u8 = 0;

/// An entry's id for the protocol.
pub fn entry_id(id: u8) -> EntryId {
    EntryId { ms: id.into(), seq: 0 }
}

impl Guard {
    /// Does to the guard what production does to its own.
    fn with<T>(&mut self, act: impl FnOnce(&mut lease::Guard) -> T) -> T {
        let mut guard = lease::Guard {
            lease: self.lease.map(|lease| lease.to_string()),
            as_of: self.as_of.map(u64::from),
            digest: self.digest.map(|digest| digest.to_string()),
            begun: self.begun.into(),
        };
        let done = act(&mut guard);
        let number = |text: String| text.parse().expect("a number was put in");
        self.lease = guard.lease.map(number);
        self.as_of = guard.as_of.map(|as_of| u8::try_from(as_of).expect("a tick was put in"));
        self.digest = guard.digest.map(number);
        // Beside a value it decides nothing, and above this it is not counted: who did not land may have died.
        self.begun = if self.as_of.is_some() { 0 } else { guard.begun.min(2) as u8 };
        done
    }
}

impl Stream {
    /// Where the oldest change is that is left.
    pub fn first_change(&self) -> Option<usize> {
        self.entries.iter().position(|entry| entry.change.is_some())
    }

    /// Until when something is missing to who loads the window.
    fn missing_up_to(&self) -> Option<u8> {
        let first = self.entries.first();
        let left = Left {
            length: self.entries.len() as u64,
            first: first.map(|entry| entry_id(entry.id)),
            deleted_max: EntryId::default(),
        };
        let missing = continuity::missing_up_to(entry_id(BEFORE_THE_WINDOW), (entry_id(self.last), self.added.into()), &left)?;
        Some(first.filter(|first| entry_id(first.id) == missing).map_or(self.last_at, |first| first.at))
    }
}

impl Redis {
    /// `begin.lua`.
    pub fn begin(&mut self, fresh: u8) -> u8 {
        let lease = self.guard.with(|guard| guard.begin(&fresh.to_string()));
        lease.parse().expect("a number was put in")
    }

    /// `release.lua`.
    pub fn release(&mut self, lease: u8) {
        self.guard.with(|guard| guard.release(&lease.to_string()));
    }

    /// `land.lua`.
    pub fn land(&mut self, rules: &Rules, lease: u8, as_of: u8, value: Value) -> Landed {
        if !rules.missing_guard_refuses && self.guard.lease.is_none() {
            self.guard.lease = Some(lease);
        }
        let landed = self.guard.with(|guard| guard.land(&lease.to_string(), as_of.into(), &value.rows.to_string()));
        if landed == Landed::Landed {
            self.value = Some(value);
        }
        landed
    }

    /// `invalidate.lua`.
    pub fn invalidate(&mut self, rules: &Rules, fresh: u8, changes: Changes) {
        if rules.invalidation_takes_value {
            self.value = None;
        }
        if rules.invalidation_renews_lease {
            self.guard.with(|guard| guard.invalidate(&fresh.to_string()));
        }
        self.passed |= changes;
    }

    /// The value, if the guard vouches for it: with its as-of and its lease.
    pub fn get(&self, rules: &Rules) -> Option<(Value, u8, Option<u8>)> {
        let value = self.value?;
        if rules.digest_ties_value_to_guard {
            return (self.guard.digest == Some(value.rows)).then_some((value, self.guard.as_of?, self.guard.lease));
        }
        Some((value, self.guard.as_of.unwrap_or_default(), self.guard.lease))
    }

    /// `append.lua`.
    pub fn append(&mut self, change: Option<u8>, at: u8) {
        self.clock += 1;
        let id = self.clock;
        let stream = self.stream.get_or_insert_default();
        stream.entries.push(Entry { id, change, at });
        stream.added += 1;
        stream.last = id;
        stream.last_at = at;
    }

    /// `tail.lua`, asked by a node that stands at `position`.
    pub fn tail(&self, position: Option<Position>, sent: u8) -> Reply {
        let after = position.map_or(BEFORE_THE_WINDOW, |position| position.last);
        let entries = |stream: &Stream| stream.entries.iter().filter(|entry| entry.id > after).copied().collect();
        Reply {
            sent,
            entries: self.stream.as_ref().map(entries).unwrap_or_default(),
            stream: self.stream.as_ref().map(|stream| (stream.last, stream.added)),
            missing: self.stream.as_ref().filter(|_| position.is_none()).and_then(Stream::missing_up_to),
            is_continued: position.is_some(),
            replid: self.replid,
            history: self.history,
        }
    }

    /// `history.lua`.
    pub fn set_history(&mut self, is_shorter: bool, known: Option<u8>, now: u8) {
        let is_missing = self.stream.is_none();
        let is_shorter = is_shorter && self.history.since == known;
        if is_missing || is_shorter || self.history.replid != self.replid {
            self.history = History { replid: self.replid, since: Some(now), is_whole: false };
        }
        if is_missing {
            self.append(None, now);
        }
    }

    /// Somebody else writes the value, and knows of no guard.
    pub fn set_foreign(&mut self, rows: Rows) {
        self.value = Some(Value { rows, is_brief: false, knows: 0 });
    }
}
