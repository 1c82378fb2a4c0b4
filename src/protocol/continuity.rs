//! Whether a node has read the change stream to its end without a gap. Upholds I6.
//!
//! The node asks one question: the entries after the last it applied, the stream's last id and its count of entries ever
//! added, the server's role and replication id, in one piece. Here is what each answer means. Nothing is assumed of the
//! connection: a stream that was trimmed past us, replaced, or read from another server shows in the numbers.

use std::fmt;

use super::rules::{self, Rule};

/// The id of a stream entry: milliseconds of the server's clock, and a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct EntryId {
    /// Milliseconds of Redis time.
    pub ms: u64,
    /// Sequence within the millisecond.
    pub seq: u64,
}

/// Entries that one question returns at most.
pub const ENTRIES_MAX: usize = 1000;

/// Where a node stands in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The last entry applied.
    pub last: EntryId,
    /// Entries ever added up to `last`, once known: taken at the end of loading, checked from then on.
    pub counted: Option<u64>,
    /// The replication id of the server it was read from.
    pub replid: String,
}

/// The server's answer, without the entries themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// How many entries were returned, and the id of the last of them.
    pub returned: usize,
    /// Id of the last returned entry.
    pub last_returned: Option<EntryId>,
    /// The stream's own last id and count of entries ever added; none when there is no stream.
    pub stream: Option<(EntryId, u64)>,
    /// Whether the server is a primary.
    pub is_primary: bool,
    /// The server's replication id.
    pub replid: String,
}

/// What is left of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// How many entries.
    pub length: u64,
    /// The first of them; none when the stream is empty.
    pub first: Option<EntryId>,
    /// The latest entry that was deleted by its id; zero when none was.
    pub deleted_max: EntryId,
}

/// What a reply means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tailed {
    /// Everything is applied: the fence moves to the moment the question was sent.
    ToTheEnd(Position),
    /// There is more: apply these, ask again, the fence stays.
    More(Position),
    /// Continuity is lost.
    Broken(Break),
}

/// Why continuity is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// There is no stream.
    StreamMissing,
    /// The server is not a primary.
    NotPrimary,
    /// Another server, or another history of the same one.
    PrimaryChanged,
    /// Fewer entries were ever added than we applied.
    StreamShorter,
    /// Entries were added that we did not see: trimmed past us, or deleted.
    EntriesMissed,
    /// The server's clock stepped against ours.
    ClockStepped,
    /// The connection failed; asked again on a new one.
    ConnectionLost,
}

impl Break {
    /// Whether acknowledged changes may be lost with it, and old values back.
    pub fn may_have_lost_history(self) -> bool {
        match self {
            Self::StreamMissing | Self::PrimaryChanged | Self::StreamShorter => true,
            Self::NotPrimary | Self::EntriesMissed | Self::ClockStepped | Self::ConnectionLost => false,
        }
    }

    /// A word for logs and counts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StreamMissing => "stream-missing",
            Self::NotPrimary => "not-primary",
            Self::PrimaryChanged => "primary-changed",
            Self::StreamShorter => "stream-shorter",
            Self::EntriesMissed => "entries-missed",
            Self::ClockStepped => "clock-stepped",
            Self::ConnectionLost => "connection-lost",
        }
    }
}

/// Judges a reply to the question asked from `position`.
pub fn judge(position: &Position, reply: &Reply) -> Tailed {
    let Some((stream_last, added)) = reply.stream else { return Tailed::Broken(Break::StreamMissing) };
    if !reply.is_primary {
        return Tailed::Broken(Break::NotPrimary);
    }
    if reply.replid != position.replid && rules::is_on(Rule::HistoryIsCompared) {
        return Tailed::Broken(Break::PrimaryChanged);
    }
    let last = reply.last_returned.unwrap_or(position.last);
    let counted = position.counted.map(|counted| counted + reply.returned as u64);
    if counted.is_some_and(|counted| counted > added) {
        return Tailed::Broken(Break::StreamShorter);
    }
    let next = |last, counted| Position { last, counted, replid: reply.replid.clone() };
    if reply.returned >= ENTRIES_MAX {
        let is_end = !rules::is_on(Rule::FullPageIsAskedAgain);
        return if is_end { Tailed::ToTheEnd(next(last, counted)) } else { Tailed::More(next(last, counted)) };
    }
    match counted {
        // Loading ends: from here on every entry is counted.
        None => Tailed::ToTheEnd(next(stream_last, Some(added))),
        Some(counted) if counted == added && last == stream_last => Tailed::ToTheEnd(next(last, Some(counted))),
        Some(_) if !rules::is_on(Rule::EntriesAreCounted) => Tailed::ToTheEnd(next(stream_last, Some(added))),
        Some(_) => Tailed::Broken(Break::EntriesMissed),
    }
}

/// Up to which entry some may be missing to a node that loads what follows `after` of a stream that ends at `last` and had
/// `added` entries: readings begun before that entry may have been outranked by one that nobody can read any more. None:
/// everything is there. It errs to the safe side: a stream trimmed by age may begin a little after the window does.
pub fn missing_up_to(after: EntryId, (last, added): (EntryId, u64), left: &Left) -> Option<EntryId> {
    if left.length >= added {
        return None;
    }
    let trimmed_to = left.first.unwrap_or(last);
    [trimmed_to, left.deleted_max].into_iter().filter(|id| *id > after).max()
}

impl EntryId {
    /// Parses `ms-seq`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn at(last: u64, counted: Option<u64>) -> Position {
        Position { last: id(last), counted, replid: "a".into() }
    }

    fn reply(returned: usize, last_returned: u64, stream: Option<(u64, u64)>) -> Reply {
        Reply {
            returned,
            last_returned: (returned > 0).then(|| id(last_returned)),
            stream: stream.map(|(last, added)| (id(last), added)),
            is_primary: true,
            replid: "a".into(),
        }
    }

    #[test]
    fn the_fence_moves_only_when_ids_and_counts_agree() {
        assert_eq!(judge(&at(5, Some(10)), &reply(0, 0, Some((5, 10)))), Tailed::ToTheEnd(at(5, Some(10))));
        assert_eq!(judge(&at(5, Some(10)), &reply(2, 7, Some((7, 12)))), Tailed::ToTheEnd(at(7, Some(12))));
        // trimmed past us: two more were added than we were given
        assert_eq!(judge(&at(5, Some(10)), &reply(2, 9, Some((9, 14)))), Tailed::Broken(Break::EntriesMissed));
        // the last entry was deleted, or the stream was made anew with as many entries
        assert_eq!(judge(&at(5, Some(10)), &reply(0, 0, Some((6, 10)))), Tailed::Broken(Break::EntriesMissed));
        assert_eq!(judge(&at(5, Some(10)), &reply(0, 0, Some((1, 3)))), Tailed::Broken(Break::StreamShorter));
    }

    #[test]
    fn loading_takes_the_count_at_its_end() {
        assert_eq!(judge(&at(5, None), &reply(3, 8, Some((8, 300)))), Tailed::ToTheEnd(at(8, Some(300))));
        assert_eq!(judge(&at(5, None), &reply(0, 0, Some((2, 300)))), Tailed::ToTheEnd(at(2, Some(300))));
        assert_eq!(judge(&at(5, None), &reply(ENTRIES_MAX, 8, Some((9, 2000)))), Tailed::More(at(8, None)));
    }

    #[test]
    fn a_full_page_is_applied_and_asked_again() {
        assert_eq!(judge(&at(5, Some(10)), &reply(ENTRIES_MAX, 8, Some((9, 1500)))), Tailed::More(at(8, Some(1010))));
    }

    #[test]
    fn i5_what_is_gone_from_the_window_is_known_to_be_missing() {
        let check = |left: (u64, Option<u64>, u64), expected: Option<u64>| {
            let left = Left { length: left.0, first: left.1.map(id), deleted_max: id(left.2) };
            assert_eq!(missing_up_to(id(100), (id(150), 10), &left), expected.map(id), "{left:?}");
        };
        check((10, Some(120), 0), None); // nothing ever went
        check((4, Some(90), 0), None); // what went is from before the window
        check((4, Some(120), 0), Some(120));
        check((0, None, 0), Some(150));
        check((9, Some(90), 130), Some(130)); // one of the middle was deleted
        check((9, Some(90), 80), None);
    }

    #[test]
    fn another_server_and_no_stream_are_breaks() {
        assert_eq!(judge(&at(5, Some(1)), &reply(0, 0, None)), Tailed::Broken(Break::StreamMissing));
        assert_eq!(
            judge(&at(5, Some(1)), &Reply { replid: "b".into(), ..reply(0, 0, Some((5, 1))) }),
            Tailed::Broken(Break::PrimaryChanged)
        );
        assert_eq!(
            judge(&at(5, Some(1)), &Reply { is_primary: false, ..reply(0, 0, Some((5, 1))) }),
            Tailed::Broken(Break::NotPrimary)
        );
    }

    #[test]
    fn ids_are_read_as_redis_writes_them() {
        assert_eq!(EntryId::parse("17-3"), Some(EntryId { ms: 17, seq: 3 }));
        assert_eq!(EntryId { ms: 17, seq: 3 }.to_string(), "17-3");
        for bad in ["", "17", "a-1", "1-", "-1"] {
            assert_eq!(EntryId::parse(bad), None, "{bad}");
        }
    }
}
