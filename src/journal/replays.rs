//! Replays that an operator asks for: settled messages are made open again, a step at a time, and the worker of a running
//! service applies them like any other. How far a replay came is written with each step, in one transaction, so that one
//! that was interrupted goes on with exactly the rest.
//!
//! A message that is open when the replay passes it is left alone: it is applied anyway. One that is received after the
//! replay was begun is not in it. Upholds I12: whoever asks decides how far to run ahead of what is applied.

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::SqlJournal;
use super::database::{Dialect, unavailable};
use super::filter::{Cursor, Filter, State, matching};
use super::outcomes;
use super::rows::{OPERATOR_TIME_MAX, next, texts};
use crate::ports::JournalError;

/// Replays that are looked through for one of the same selection: an operator's acts of years.
const LOOKED_AT_MAX: i64 = 1_000;

/// What is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// As it was typed: asking for the same again means the same replay. Whoever names a moment as "two hours ago" looks at
    /// when that one was begun.
    pub typed: String,
    /// Which messages.
    pub filter: Filter,
}

/// A replay, begun or gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its number.
    pub id: i64,
    /// When it was begun, by the database's clock, in milliseconds since the Unix epoch.
    pub begun_at_ms: i64,
    filter: Filter,
}

/// How a replay stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayStanding {
    /// How many messages were asked for.
    pub requested: u64,
    /// How many of these are still open.
    pub pending: u64,
}

impl Selection {
    /// Of these messages, those that were applied or buried.
    pub fn new(typed: String, filter: Filter) -> Self {
        Self { typed, filter: Filter { states: vec![State::Applied, State::Buried], ..filter } }
    }
}

impl ReplayStanding {
    /// How many have an outcome once more: applied, or buried again.
    pub fn settled(&self) -> u64 {
        self.requested.saturating_sub(self.pending)
    }
}

impl SqlJournal {
    /// How many messages a selection holds now.
    pub async fn count_replay(&self, selection: &Selection) -> Result<u64, JournalError> {
        self.count_behind(&selection.filter, &Cursor::default()).await
    }

    /// The latest replay of the same selection, if it is unfinished.
    pub async fn unfinished_replay(&self, selection: &Selection) -> Result<Option<Replay>, JournalError> {
        let sql = "select replay_id, selection, begun_at_ms, finished_at_ms from replays order by replay_id desc limit $1";
        let rows = self.database.read(sqlx::query(sql).bind(LOOKED_AT_MAX).fetch_all(self.database.pool())).await?;
        let mut replays = rows.iter().filter_map(|row| Some((row, stored(row)?)));
        let Some((row, same)) = replays.find(|(_, stored)| stored.typed == selection.typed) else { return Ok(None) };
        let finished_at_ms: Option<i64> = row.try_get("finished_at_ms").map_err(unavailable)?;
        let id = row.try_get("replay_id").map_err(unavailable)?;
        let begun_at_ms = row.try_get("begun_at_ms").map_err(unavailable)?;
        Ok(finished_at_ms.is_none().then_some(Replay { id, begun_at_ms, filter: same.filter }))
    }

    /// Begins a replay of what was received up to now.
    pub async fn begin_replay(&self, selection: &Selection) -> Result<Replay, JournalError> {
        let now_ms = i64::try_from(self.now().await?.as_millis()).unwrap_or(i64::MAX);
        let until_ms = selection.filter.until_ms.map_or(now_ms, |until_ms| until_ms.min(now_ms));
        let filter = Filter { until_ms: Some(until_ms), ..selection.filter.clone() };
        let selection = Selection { filter: filter.clone(), ..selection.clone() };
        let messages = i64::try_from(self.count_replay(&selection).await?).unwrap_or(i64::MAX);
        let text = serde_json::to_string(&selection).expect("ids, words and numbers always serialise");
        let dialect = self.database.dialect();
        let writing = self.database.write(move |on| async move { begin(on, dialect, text, until_ms, messages).await }.boxed());
        Ok(Replay { id: writing.await?, begun_at_ms: now_ms, filter })
    }

    /// Asks for the next messages of a replay, at most `rows_max`, in order of arrival; how many. None are left at 0. Several
    /// who ask at once take turns.
    pub async fn request_replay(&self, replay: &Replay, rows_max: u32) -> Result<u64, JournalError> {
        let (replay, dialect) = (replay.clone(), self.database.dialect());
        self.database.write(move |on| async move { request(on, dialect, &replay, rows_max).await }.boxed()).await
    }

    /// How a replay stands.
    pub async fn replay_standing(&self, replay: &Replay) -> Result<ReplayStanding, JournalError> {
        let sql =
            "select requested, (select count(*) from webhook_messages where state = 'pending' and replay_id = $1) as pending
            from replays where replay_id = $1";
        let row = self.database.read(sqlx::query(sql).bind(replay.id).fetch_one(self.database.pool())).await?;
        let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs).map_err(unavailable);
        Ok(ReplayStanding { requested: number("requested")?, pending: number("pending")? })
    }

    /// How many of the messages that a replay asked for are buried again: what was done once more is their eviction.
    pub async fn replay_buried(&self, replay: &Replay) -> Result<u64, JournalError> {
        let sql = "select count(*) from webhook_messages where state = 'buried' and replay_id = $1";
        let reading = sqlx::query(sql).bind(replay.id).fetch_one(self.database.pool());
        count(&self.database.read_within(OPERATOR_TIME_MAX, reading).await?)
    }

    /// How many messages of a replay are still to be asked for.
    pub async fn replay_left(&self, replay: &Replay) -> Result<u64, JournalError> {
        let sql = "select cursor_received_at_ms, cursor_message_id from replays where replay_id = $1";
        let row = self.database.read(sqlx::query(sql).bind(replay.id).fetch_one(self.database.pool())).await?;
        self.count_behind(&replay.filter, &cursor(&row).map_err(unavailable)?).await
    }

    /// Notes that everything was asked for and applied: the next replay of the same selection is a new one.
    pub async fn finish_replay(&self, replay: &Replay) -> Result<(), JournalError> {
        let (id, dialect) = (replay.id, self.database.dialect());
        self.database.write(move |on| async move { finish(on, dialect, id).await }.boxed()).await
    }

    async fn count_behind(&self, filter: &Filter, behind: &Cursor) -> Result<u64, JournalError> {
        let sql =
            concat!("select count(*) from webhook_messages where (received_at_ms, message_id) > ($9, $10) and ", matching!());
        let question = filter.bind(sqlx::query(sql)).bind(behind.received_at_ms).bind(behind.message_id.clone());
        count(&self.database.read_within(OPERATOR_TIME_MAX, question.fetch_one(self.database.pool())).await?)
    }
}

async fn begin(on: &mut AnyConnection, dialect: Dialect, selection: String, until_ms: i64, messages: i64) -> sqlx::Result<i64> {
    let sql = dialect.sql(
        "insert into replays (selection, begun_at_ms, until_ms, messages, requested, cursor_received_at_ms, cursor_message_id)
        values ($1, {now}, $2, $3, 0, $4, $5) returning replay_id",
    );
    let start = Cursor::default();
    let question = sqlx::query(sql).bind(selection).bind(until_ms).bind(messages);
    question.bind(start.received_at_ms).bind(start.message_id).fetch_one(on).await?.try_get(0)
}

/// The messages are opened and the cursor moves in one transaction: nothing is asked for twice, or passed over.
async fn request(on: &mut AnyConnection, dialect: Dialect, replay: &Replay, rows_max: u32) -> sqlx::Result<u64> {
    let from = hold(on, replay.id).await?;
    let (ids, last) = next(on, &replay.filter, &from, rows_max).await?;
    let Some(last) = last else { return Ok(0) };
    outcomes::take(on, dialect, &texts(&ids)).await?;
    let opened = open(on, dialect, replay.id, &ids).await?;
    advance(on, replay.id, opened, last).await?;
    // The cursor has moved, which is not the end, even if others opened all of these in between.
    Ok(opened.max(1))
}

/// How far it came. The write keeps others of the same replay out until this transaction ends; a read would not.
async fn hold(on: &mut AnyConnection, id: i64) -> sqlx::Result<Cursor> {
    let sql = "update replays set requested = requested where replay_id = $1 returning cursor_received_at_ms, cursor_message_id";
    cursor(&sqlx::query(sql).bind(id).fetch_one(on).await?)
}

async fn open(on: &mut AnyConnection, dialect: Dialect, id: i64, ids: &[String]) -> sqlx::Result<u64> {
    let sql = dialect.sql(
        "update webhook_messages set state = 'pending', opened_at_ms = {now}, next_attempt_at_ms = {now}, replay_id = $2
        where message_id in {ids} and {is_done}",
    );
    sqlx::query(sql).bind(texts(ids)).bind(id).execute(on).await.map(|done| done.rows_affected())
}

async fn advance(on: &mut AnyConnection, id: i64, opened: u64, last: Cursor) -> sqlx::Result<()> {
    let sql =
        "update replays set requested = requested + $2, cursor_received_at_ms = $3, cursor_message_id = $4 where replay_id = $1";
    let question = sqlx::query(sql).bind(id).bind(i64::try_from(opened).unwrap_or(i64::MAX));
    question.bind(last.received_at_ms).bind(last.message_id).execute(on).await.map(|_| ())
}

async fn finish(on: &mut AnyConnection, dialect: Dialect, id: i64) -> sqlx::Result<()> {
    let sql = dialect.sql("update replays set finished_at_ms = {now} where replay_id = $1 and finished_at_ms is null");
    sqlx::query(sql).bind(id).execute(on).await.map(|_| ())
}

fn count(row: &AnyRow) -> Result<u64, JournalError> {
    row.try_get::<i64, _>(0).map(i64::unsigned_abs).map_err(unavailable)
}

fn cursor(row: &AnyRow) -> sqlx::Result<Cursor> {
    Ok(Cursor { received_at_ms: row.try_get("cursor_received_at_ms")?, message_id: row.try_get("cursor_message_id")? })
}

/// One that a later release wrote in another way is not ours to go on with.
fn stored(row: &AnyRow) -> Option<Selection> {
    serde_json::from_str(&row.try_get::<String, _>("selection").ok()?).ok()
}
