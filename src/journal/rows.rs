//! What an operator reads: rows by filter, one row, and asking for rows again.

use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, QueryBuilder, Row as _, SqlSafeStr};

use super::SqlJournal;
use super::database::Dialect;
use crate::domain::{MessageId, OrganizationId, UserId};
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

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is described at the column in migrations/")]
pub enum State {
    Pending,
    Applied,
    Ignored,
    Buried,
}

impl State {
    /// Its word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Buried => "buried",
        }
    }
}

/// Which messages; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Clerk's type; one that ends with `*` is a beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// About this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// About this organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationId>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Received at or after this moment, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Received before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

impl Filter {
    /// Adds what must hold, each part behind an `and`.
    pub(super) fn push(&self, query: &mut QueryBuilder<Any>) {
        match self.event_type.as_deref().map(|text| text.strip_suffix('*').ok_or(text)) {
            Some(Ok(beginning)) => {
                query.push(" and event_type like ").push_bind(format!("{}%", escaped(beginning))).push(" escape '|'");
            }
            Some(Err(event_type)) => {
                query.push(" and event_type = ").push_bind(event_type.to_owned());
            }
            None => {}
        }
        if let Some(user) = &self.user {
            query.push(" and user_id = ").push_bind(user.as_str().to_owned());
        }
        if let Some(organization) = &self.organization {
            query.push(" and org_id = ").push_bind(organization.as_str().to_owned());
        }
        if let Some(state) = self.state {
            query.push(" and state = ").push_bind(state.as_str());
        }
        if let Some(since_ms) = self.since_ms {
            query.push(" and received_at_ms >= ").push_bind(since_ms);
        }
        if let Some(until_ms) = self.until_ms {
            query.push(" and received_at_ms < ").push_bind(until_ms);
        }
    }
}

/// `_` and `%` as themselves.
fn escaped(text: &str) -> String {
    text.replace('|', "||").replace('%', "|%").replace('_', "|_")
}

const COLUMNS: &str = "message_id, event_type, instance_id, user_id, org_id, membership_id, session_id, occurred_at_ms, \
    entity_updated_at_ms, received_at_ms, last_seen_at_ms, deliveries, state, reason, attempts, opened_at_ms, \
    next_attempt_at_ms, applied_at_ms, applied_by, replay_id";

impl SqlJournal {
    /// Messages by filter, the latest received first, at most `rows_max`.
    pub async fn list(&self, filter: &Filter, rows_max: u32) -> Result<Vec<Row>, JournalError> {
        let mut query = QueryBuilder::new(format!("select {COLUMNS} from webhook_messages where 1 = 1"));
        filter.push(&mut query);
        query.push(" order by received_at_ms desc, message_id desc limit ").push_bind(i64::from(rows_max));
        let rows = self.database.read(query.build().fetch_all(self.database.pool())).await?;
        rows.iter().map(|row| read(row, None)).collect::<sqlx::Result<_>>().map_err(super::database::unavailable)
    }

    /// One message with its payload, if it is there.
    pub async fn show(&self, id: &MessageId) -> Result<Option<Row>, JournalError> {
        let sql = AssertSqlSafe(format!("select {COLUMNS}, payload from webhook_messages where message_id = $1")).into_sql_str();
        let reading = sqlx::query(sql).bind(id.as_str().to_owned()).fetch_optional(self.database.pool());
        let row = self.database.read(reading).await?;
        let row = row.map(|row| read(&row, row.try_get("payload")?)).transpose();
        row.map_err(super::database::unavailable)
    }

    /// Makes these messages open and due, whatever became of them; how many there were. An ignored one stays ignored.
    pub async fn retry(&self, ids: &[MessageId]) -> Result<u64, JournalError> {
        let (ids, dialect) = (ids.to_vec(), self.database.dialect());
        self.database.write(move |on| async move { reopen(on, dialect, &ids).await }.boxed()).await
    }

    /// The database's time since the Unix epoch.
    pub async fn now(&self) -> Result<Duration, JournalError> {
        let sql = self.database.dialect().sql("select {now}");
        let row = self.database.read(sqlx::query(sql).fetch_one(self.database.pool())).await?;
        let ms: i64 = row.try_get(0).map_err(super::database::unavailable)?;
        Ok(Duration::from_millis(ms.max(0).unsigned_abs()))
    }
}

async fn reopen(on: &mut AnyConnection, dialect: Dialect, ids: &[MessageId]) -> sqlx::Result<u64> {
    let mut reopened = 0;
    for id in ids {
        let sql = dialect.sql(
            "update webhook_messages set state = 'pending', next_attempt_at_ms = {now},
                opened_at_ms = case when state = 'pending' then opened_at_ms else {now} end
            where message_id = $1 and state <> 'ignored'",
        );
        reopened += sqlx::query(sql).bind(id.as_str().to_owned()).execute(&mut *on).await?.rows_affected();
    }
    Ok(reopened)
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
