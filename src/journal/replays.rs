//! Replays that an operator asks for: settled messages are made open again, a step at a time, and the worker of a running
//! service applies them like any other. How far a replay came is written with each step, so one that was interrupted goes
//! on with exactly the rest.

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, QueryBuilder, Row};

use super::SqlJournal;
use super::database::{Dialect, unavailable};
use super::rows::Filter;
use crate::ports::JournalError;

/// What is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// As it was typed: asking for the same again means the same replay.
    pub typed: String,
    /// Which messages; of them, those that were applied or buried.
    pub filter: Filter,
}

/// A replay, begun or gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its number.
    pub id: i64,
    /// How many messages there were when it was begun.
    pub messages: u64,
    /// How many were asked for already.
    pub requested: u64,
    filter: Filter,
}

/// How a replay stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayStanding {
    /// Asked for, and still open.
    pub pending: u64,
}

impl SqlJournal {
    /// How many messages a selection holds now.
    pub async fn count_replay(&self, selection: &Selection) -> Result<u64, JournalError> {
        let mut query = QueryBuilder::new("select count(*) from webhook_messages where state in ('applied', 'buried')");
        selection.filter.push(&mut query);
        let row = self.database.read(query.build().fetch_one(self.database.pool())).await?;
        row.try_get::<i64, _>(0).map(i64::unsigned_abs).map_err(unavailable)
    }

    /// The unfinished replay of the same selection, if there is one.
    pub async fn unfinished_replay(&self, selection: &Selection) -> Result<Option<Replay>, JournalError> {
        let sql = "select replay_id, messages, requested, until_ms, selection from replays
            where finished_at_ms is null order by replay_id desc limit 100";
        let rows = self.database.read(sqlx::query(sql).fetch_all(self.database.pool())).await?;
        let same = rows.iter().find(|row| typed_of(row).as_deref() == Some(&selection.typed));
        same.map(|row| replay(row)).transpose().map_err(unavailable)
    }

    /// Begins a replay of what was received up to now.
    pub async fn begin_replay(&self, selection: &Selection) -> Result<Replay, JournalError> {
        let now_ms = i64::try_from(self.now().await?.as_millis()).unwrap_or(i64::MAX);
        let until_ms = selection.filter.until_ms.map_or(now_ms, |until_ms| until_ms.min(now_ms));
        let filter = Filter { until_ms: Some(until_ms), ..selection.filter.clone() };
        let selection = Selection { filter: filter.clone(), ..selection.clone() };
        let messages = self.count_replay(&selection).await?;
        let text = serde_json::to_string(&selection).expect("ids, words and numbers always serialise");
        let dialect = self.database.dialect();
        let begun = (text, until_ms, i64::try_from(messages).unwrap_or(i64::MAX));
        let id = self.database.write(move |on| async move { begin(on, dialect, begun).await }.boxed()).await?;
        Ok(Replay { id, messages, requested: 0, filter })
    }

    /// Asks for the next messages of a replay, at most `rows_max`, in order of arrival; how many. None are left at 0, and the
    /// replay is finished.
    pub async fn request_replay(&self, replay: &Replay, rows_max: u32) -> Result<u64, JournalError> {
        let (id, filter, dialect) = (replay.id, replay.filter.clone(), self.database.dialect());
        self.database.write(move |on| async move { request(on, dialect, id, &filter, rows_max).await }.boxed()).await
    }

    /// How many of its messages are still to be applied.
    pub async fn replay_standing(&self, replay: &Replay) -> Result<ReplayStanding, JournalError> {
        let sql = "select count(*) from webhook_messages where replay_id = $1 and state = 'pending'";
        let row = self.database.read(sqlx::query(sql).bind(replay.id).fetch_one(self.database.pool())).await?;
        let pending = row.try_get::<i64, _>(0).map_err(unavailable)?.unsigned_abs();
        Ok(ReplayStanding { pending })
    }
}

async fn begin(
    on: &mut AnyConnection,
    dialect: Dialect,
    (selection, until_ms, messages): (String, i64, i64),
) -> sqlx::Result<i64> {
    let sql = dialect.sql(
        "insert into replays (selection, begun_at_ms, until_ms, messages, requested, cursor_received_at_ms, cursor_message_id)
        values ($1, {now}, $2, $3, 0, -1, '') returning replay_id",
    );
    sqlx::query(sql).bind(selection).bind(until_ms).bind(messages).fetch_one(on).await?.try_get(0)
}

/// The messages are opened and the cursor moves in one transaction: nothing is asked for twice, or passed over.
async fn request(on: &mut AnyConnection, dialect: Dialect, id: i64, filter: &Filter, rows_max: u32) -> sqlx::Result<u64> {
    let sql = "select cursor_received_at_ms, cursor_message_id from replays where replay_id = $1";
    let cursor = sqlx::query(sql).bind(id).fetch_one(&mut *on).await?;
    let (at_ms, last): (i64, String) = (cursor.try_get(0)?, cursor.try_get(1)?);

    let mut query = QueryBuilder::<Any>::new(
        "select message_id, received_at_ms from webhook_messages where state in ('applied', 'buried') and (received_at_ms > ",
    );
    query.push_bind(at_ms).push(" or (received_at_ms = ").push_bind(at_ms).push(" and message_id > ").push_bind(last).push("))");
    filter.push(&mut query);
    query.push(" order by received_at_ms, message_id limit ").push_bind(i64::from(rows_max));
    let rows = query.build().fetch_all(&mut *on).await?;
    let Some(last) = rows.last() else {
        let sql = dialect.sql("update replays set finished_at_ms = {now} where replay_id = $1");
        return sqlx::query(sql).bind(id).execute(on).await.map(|_| 0);
    };

    let ids = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<sqlx::Result<Vec<_>>>()?;
    let sql = dialect.sql(
        "update webhook_messages set state = 'pending', opened_at_ms = {now}, next_attempt_at_ms = {now}, replay_id = $2
        where message_id in {ids} and state in ('applied', 'buried')",
    );
    let texts = serde_json::to_string(&ids).expect("strings always serialise");
    sqlx::query(sql).bind(texts).bind(id).execute(&mut *on).await?;
    let sql = dialect.sql(
        "update replays set requested = requested + $2, cursor_received_at_ms = $3, cursor_message_id = $4 where replay_id = $1",
    );
    let requested = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let (at_ms, last): (i64, String) = (last.try_get(1)?, last.try_get(0)?);
    sqlx::query(sql).bind(id).bind(requested).bind(at_ms).bind(last).execute(on).await?;
    Ok(requested.unsigned_abs())
}

fn typed_of(row: &AnyRow) -> Option<String> {
    let selection: serde_json::Value = serde_json::from_str(&row.try_get::<String, _>("selection").ok()?).ok()?;
    selection["typed"].as_str().map(str::to_owned)
}

fn replay(row: &AnyRow) -> sqlx::Result<Replay> {
    let text: String = row.try_get("selection")?;
    let selection: Stored = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Replay {
        id: row.try_get("replay_id")?,
        messages: row.try_get::<i64, _>("messages")?.unsigned_abs(),
        requested: row.try_get::<i64, _>("requested")?.unsigned_abs(),
        filter: selection.filter,
    })
}

#[derive(serde::Deserialize)]
struct Stored {
    filter: Filter,
}
