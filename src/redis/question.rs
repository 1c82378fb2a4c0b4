//! The one question of the tail: how it is asked, and its answer as values. Called by the tail alone.

use deadpool_redis::redis::{self, Cmd, Value};

use crate::domain::Change;
use crate::ports::SharedError;
use crate::protocol::continuity::{ENTRIES_MAX, EntryId, Left, Position, Reply, missing_up_to};
use crate::protocol::facts::FACTS_WINDOW;
use crate::protocol::rules::{self, Rule};

use super::clock::Noted;
use super::keys::Keys;
use super::link::{read, unavailable};
use super::scripts;
use super::shared::millis;

/// The server's answer, in one piece.
pub(super) struct Answer {
    /// TIME, in microseconds.
    pub time: u64,
    /// What continuity is judged by.
    pub reply: Reply,
    /// What is left of the stream.
    pub left: Left,
    /// Whose stream this is.
    pub history: History,
    /// What is noted of the server's clock.
    pub noted: Noted,
    /// The id that was asked after: when loading, the server's own idea of the window.
    pub after: EntryId,
    /// The entries, in order.
    pub entries: Vec<(EntryId, Entry)>,
}

/// Whose stream this is, and whether it is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    /// The replication id it was last seen under.
    pub replid: Option<String>,
    /// When it was last found to be incomplete, in microseconds of the server's clock.
    pub since: Option<u64>,
    /// Whether what was lost was applied again.
    pub is_whole: bool,
    /// The Clerk instance the prefix belongs to.
    pub instance: Option<String>,
}

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A change to apply.
    Change(Change),
    /// It was written to make the stream exist.
    Bookkeeping,
    /// A later release may know.
    Unreadable,
}

type HistoryFields = (Option<String>, Option<u64>, Option<String>, Option<String>);
type StreamFields = (String, u64, u64, String, String);
type NotedFields = (Option<u64>, Option<String>);
type RawEntries = Vec<(String, Vec<Vec<u8>>)>;
type RawAnswer = (u64, u64, String, String, Option<StreamFields>, HistoryFields, NotedFields, String, RawEntries);

/// Asks for what follows a position, or for the facts window.
pub(super) fn question(keys: &Keys, position: Option<&Position>) -> Cmd {
    let mut call = scripts::TAIL.on(&[keys.changes(), keys.history()]);
    let after = position.map(|position| position.last.to_string()).unwrap_or_default();
    call.arg(after).arg(millis(FACTS_WINDOW)).arg(ENTRIES_MAX);
    call
}

/// Reads the answer.
pub(super) fn answer(reply: Value) -> Result<Answer, SharedError> {
    let (seconds, micros, role, replid, stream, history, noted, after, entries) = read::<RawAnswer>(reply)?;
    let stream = stream.map(extent).transpose()?;
    let left = stream.map(|(_, left)| left).unwrap_or_default();
    let entries = entries.into_iter().map(|(text, fields)| Ok((id(&text)?, entry(&fields)))).collect::<Result<Vec<_>, _>>()?;
    let reply = Reply {
        returned: entries.len(),
        last_returned: entries.last().map(|(id, _)| *id),
        stream: stream.map(|(end, _)| end),
        is_primary: role == "master" || !rules::is_on(Rule::OnlyAPrimaryVouches),
        replid,
    };
    let (latest, twofold) = noted;
    let noted = Noted::of(latest, twofold.as_deref());
    let (time, history) = (seconds * 1_000_000 + micros, History::of(history));
    Ok(Answer { time, reply, left, history, noted, after: id(&after)?, entries })
}

impl Answer {
    /// Up to which entry some may be missing to a node that was loading.
    pub(super) fn missing_up_to(&self) -> Option<EntryId> {
        missing_up_to(self.after, self.reply.stream?, &self.left)
    }
}

/// Where the stream ends, and what is left of it.
fn extent((last, added, length, first, deleted_max): StreamFields) -> Result<((EntryId, u64), Left), SharedError> {
    let first = (!first.is_empty()).then(|| id(&first)).transpose()?;
    Ok(((id(&last)?, added), Left { length, first, deleted_max: id(&deleted_max)? }))
}

/// Asks for entries as any server answers them, without a script: those after an id, or from the beginning.
pub(super) fn entries_after(keys: &Keys, last: Option<EntryId>) -> Cmd {
    let mut question = redis::cmd("XRANGE");
    let after = last.map_or("-".to_owned(), |last| format!("({last}"));
    question.arg(keys.changes()).arg(after).arg("+").arg("COUNT").arg(ENTRIES_MAX);
    question
}

/// Reads them.
pub(super) fn entries(reply: Value) -> Result<Vec<(EntryId, Entry)>, SharedError> {
    let entries = read::<Vec<(String, Vec<Vec<u8>>)>>(reply)?;
    entries.into_iter().map(|(text, fields)| Ok((id(&text)?, entry(&fields)))).collect()
}

impl History {
    fn of((replid, since, whole, instance): HistoryFields) -> Self {
        Self { replid, since, is_whole: whole.as_deref() == Some("1"), instance }
    }

    /// Reads what the history script answers.
    pub(super) fn read(reply: Value) -> Result<Self, SharedError> {
        read::<HistoryFields>(reply).map(Self::of)
    }
}

fn id(text: &str) -> Result<EntryId, SharedError> {
    EntryId::parse(text).ok_or_else(|| unavailable("an entry id that cannot be read"))
}

/// Unknown fields are skipped: a release never narrows a shape.
fn entry(fields: &[Vec<u8>]) -> Entry {
    let of = |name: &[u8]| fields.chunks_exact(2).find_map(|pair| (pair[0] == name).then_some(&pair[1]));
    match (of(b"change"), of(b"history")) {
        (Some(change), _) => match serde_json::from_slice(change) {
            Ok(read) if rules::is_on(Rule::UnknownMembersAreIgnored) || is_all_of(&read, change) => Entry::Change(read),
            Ok(_) | Err(_) => Entry::Unreadable,
        },
        (None, Some(_)) => Entry::Bookkeeping,
        (None, None) => Entry::Unreadable,
    }
}

/// Whether the text holds nothing more than what was read.
fn is_all_of(read: &Change, text: &[u8]) -> bool {
    serde_json::to_vec(read).is_ok_and(|written| written == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    fn check(fields: &[&str], expected: Entry) {
        let fields: Vec<_> = fields.iter().map(|field| field.as_bytes().to_vec()).collect();
        assert_eq!(entry(&fields), expected, "{fields:?}");
    }

    #[test]
    fn an_entry_is_a_change_or_bookkeeping_or_for_a_later_release() {
        let created = Change::UserCreated { user: UserId::parse("u").expect("id") };
        let text = serde_json::to_string(&created).expect("json");
        check(&["change", &text], Entry::Change(created.clone()));
        check(&["later", "1", "change", &text], Entry::Change(created));
        check(&["history", "abc"], Entry::Bookkeeping);
        check(&["change", "{\"kind\":\"later\"}"], Entry::Unreadable);
        check(&["change", "\u{fffd}"], Entry::Unreadable);
        check(&["later", "1"], Entry::Unreadable);
        check(&[], Entry::Unreadable);
    }
}
