//! What an operator reads: rows by filter, one row, and asking for rows again.

use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::database::{Dialect, unavailable};
use super::filter::{Cursor, Filter, matching};
use super::{SqlJournal, outcomes};
use crate::domain::MessageId;
use crate::ports::JournalError;

/// One message, as it stands in the journal. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "each is the column of the same name, described in migrations/")]
pub struct Row {
    pub message_id: String,
    pub event_type: String,
    pub instance_id: Option<String>,
    pub user_id: Option<String>,
    pub org_id: Option<String>,
    pub membership_id: Option<String>,
    pub session_id: Option<String>,
    pub occurred_at_ms: Option<i64>,
    pub entity_updated_at_ms: Option<i64>,
    pub received_at_ms: i64,
    pub last_seen_at_ms: i64,
    pub deliveries: i64,
    pub state: String,
    pub reason: Option<String>,
    pub attempts: i64,
    pub opened_at_ms: i64,
    pub next_attempt_at_ms: Option<i64>,
    pub applied_at_ms: Option<i64>,
    pub applied_by: Option<String>,
    pub replay_id: Option<i64>,
    /// JSON; only where one message is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
}

macro_rules! columns {
    () => {
        "message_id, event_type, instance_id, user_id, org_id, membership_id, session_id, occurred_at_ms, \
        entity_updated_at_ms, received_at_ms, last_seen_at_ms, deliveries, state, reason, attempts, opened_at_ms, \
        next_attempt_at_ms, applied_at_ms, applied_by, replay_id"
    };
}

/// How long reads may take that only an operator waits for: they may look at every message.
pub(super) const OPERATOR_TIME_MAX: Duration = Duration::from_secs(30);
/// Messages made due in one transaction: no delivery waits long behind it.
const RETRY_BATCH_MAX: u32 = 500;

impl SqlJournal {
    /// Messages by filter, the latest received first, at most `rows_max`.
    pub async fn list(&self, filter: &Filter, rows_max: u32) -> Result<Vec<Row>, JournalError> {
        let sql = concat!(
            "select ",
            columns!(),
            " from webhook_messages where ",
            matching!(),
            " order by received_at_ms desc, message_id desc limit $9"
        );
        let question = filter.bind(sqlx::query(sql)).bind(i64::from(rows_max));
        let rows = self.database.read_within(OPERATOR_TIME_MAX, question.fetch_all(self.database.pool())).await?;
        rows.iter().map(|row| read(row, None)).collect::<sqlx::Result<_>>().map_err(unavailable)
    }

    /// One message with its payload, if it is there.
    pub async fn show(&self, id: &MessageId) -> Result<Option<Row>, JournalError> {
        let sql = concat!("select ", columns!(), ", payload from webhook_messages where message_id = $1");
        let reading = sqlx::query(sql).bind(id.as_str().to_owned()).fetch_optional(self.database.pool());
        let row = self.database.read(reading).await?;
        row.map(|row| read(&row, row.try_get("payload")?)).transpose().map_err(unavailable)
    }

    /// Makes these messages open and due, whatever became of them; answers which. One that is ignored stays ignored: there is
    /// nothing to apply.
    pub async fn retry(&self, ids: &[MessageId]) -> Result<Vec<String>, JournalError> {
        let (ids, dialect) = (ids.iter().map(ToString::to_string).collect::<Vec<_>>(), self.database.dialect());
        self.database.write(move |on| async move { reopen(on, dialect, &ids).await }.boxed()).await
    }

    /// The same for every message of a filter that was received by now, in order of arrival; how many. A drop leaves those
    /// due that were reached.
    pub async fn retry_all(&self, filter: &Filter) -> Result<u64, JournalError> {
        let dialect = self.database.dialect();
        let now_ms = i64::try_from(self.now().await?.as_millis()).unwrap_or(i64::MAX);
        let until_ms = Some(filter.until_ms.map_or(now_ms, |until_ms| until_ms.min(now_ms)));
        let (mut from, mut reopened) = (Cursor::default(), 0);
        loop {
            let (filter, behind) = (Filter { until_ms, ..filter.clone() }, from.clone());
            let writing = self.database.write(move |on| async move { retry_next(on, dialect, &filter, &behind).await }.boxed());
            let (last, count) = writing.await?;
            let Some(last) = last else { return Ok(reopened) };
            (from, reopened) = (last, reopened + count);
        }
    }

    /// The database's time since the Unix epoch.
    pub async fn now(&self) -> Result<Duration, JournalError> {
        let sql = self.database.dialect().sql("select {now}");
        let row = self.database.read(sqlx::query(sql).fetch_one(self.database.pool())).await?;
        let ms: i64 = row.try_get(0).map_err(unavailable)?;
        Ok(Duration::from_millis(ms.max(0).unsigned_abs()))
    }
}

/// The next messages of a filter behind a place, in order of arrival: their ids, and the last one's place.
pub(super) async fn next(
    on: &mut AnyConnection,
    filter: &Filter,
    behind: &Cursor,
    rows_max: u32,
) -> sqlx::Result<(Vec<String>, Option<Cursor>)> {
    let sql = concat!(
        "select message_id, received_at_ms from webhook_messages
        where (received_at_ms, message_id) > ($9, $10) and ",
        matching!(),
        " order by received_at_ms, message_id limit $11"
    );
    let question = filter.bind(sqlx::query(sql)).bind(behind.received_at_ms).bind(behind.message_id.clone());
    let rows = question.bind(i64::from(rows_max)).fetch_all(on).await?;
    let ids = rows.iter().map(|row| row.try_get("message_id")).collect::<sqlx::Result<_>>()?;
    let place = |row: &AnyRow| {
        Ok::<_, sqlx::Error>(Cursor { received_at_ms: row.try_get("received_at_ms")?, message_id: row.try_get("message_id")? })
    };
    Ok((ids, rows.last().map(place).transpose()?))
}

async fn retry_next(
    on: &mut AnyConnection,
    dialect: Dialect,
    filter: &Filter,
    behind: &Cursor,
) -> sqlx::Result<(Option<Cursor>, u64)> {
    let (ids, last) = next(on, filter, behind, RETRY_BATCH_MAX).await?;
    Ok((last, reopen(on, dialect, &ids).await?.len() as u64))
}

/// What was settled belongs to no replay any more: this is asked for by itself.
async fn reopen(on: &mut AnyConnection, dialect: Dialect, ids: &[String]) -> sqlx::Result<Vec<String>> {
    outcomes::take(&mut *on, dialect, &texts(ids)).await?;
    let sql = dialect.sql(
        "update webhook_messages set state = 'pending', next_attempt_at_ms = {now},
            opened_at_ms = case when state = 'pending' then opened_at_ms else {now} end,
            replay_id = case when state = 'pending' then replay_id end
        where message_id in {ids} and state <> 'ignored' returning message_id",
    );
    let rows = sqlx::query(sql).bind(texts(ids)).fetch_all(on).await?;
    rows.iter().map(|row| row.try_get("message_id")).collect()
}

/// Ids as a JSON array.
pub(super) fn texts(ids: &[String]) -> String {
    serde_json::to_string(ids).expect("strings always serialise")
}

fn read(row: &AnyRow, payload: Option<String>) -> sqlx::Result<Row> {
    Ok(Row {
        message_id: row.try_get("message_id")?,
        event_type: row.try_get("event_type")?,
        instance_id: row.try_get("instance_id")?,
        user_id: row.try_get("user_id")?,
        org_id: row.try_get("org_id")?,
        membership_id: row.try_get("membership_id")?,
        session_id: row.try_get("session_id")?,
        occurred_at_ms: row.try_get("occurred_at_ms")?,
        entity_updated_at_ms: row.try_get("entity_updated_at_ms")?,
        received_at_ms: row.try_get("received_at_ms")?,
        last_seen_at_ms: row.try_get("last_seen_at_ms")?,
        deliveries: row.try_get("deliveries")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        opened_at_ms: row.try_get("opened_at_ms")?,
        next_attempt_at_ms: row.try_get("next_attempt_at_ms")?,
        applied_at_ms: row.try_get("applied_at_ms")?,
        applied_by: row.try_get("applied_by")?,
        replay_id: row.try_get("replay_id")?,
        payload: payload.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
    })
}
