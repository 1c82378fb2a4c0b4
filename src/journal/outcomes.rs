//! What becomes of messages: record, settle, defer, claim. Statements only, all inside the caller's transaction. In Postgres,
//! whoever writes several rows takes them in the order of their ids, or passes over what others have.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::database::Dialect;
use crate::domain::MessageId;
use crate::ports::{AppliedBy, Claimed, Deferred, Message, Recorded, Settled, Which, Window};

/// A delivery of a message that was settled less than this ago is a retry whose answer got lost; later, somebody pressed
/// "resend", and it is applied again. The sender's own second try comes after 5 s, its third after 5 min.
const SETTLED_RECENTLY_MS: i64 = 10 * 60 * 1000;
/// While an inline try runs, the worker leaves the message alone for as long as the sender waits for an answer.
const INLINE_LEASE_MS: i64 = 15 * 1000;

/// A delivery `excluded` of a message `m` that is settled, and is to be applied again: it was settled long ago, or by a release
/// that saw nothing in it.
macro_rules! reopens {
    () => {
        "(excluded.state = 'pending' and (m.state = 'ignored' or (m.state <> 'pending' and m.applied_at_ms < {now} - $14)))"
    };
}

/// Inserts the message, or notes one more delivery of it; an open one is then this delivery's to apply. One statement
/// decides, so two deliveries at once cannot both believe to be the first.
pub(super) async fn record(on: &mut AnyConnection, dialect: Dialect, message: &Message) -> sqlx::Result<Recorded> {
    let sql = dialect.sql(concat!(
        "insert into webhook_messages as m (message_id, event_type, instance_id, user_id, org_id, membership_id, session_id,
            occurred_at_ms, entity_updated_at_ms, received_at_ms, last_seen_at_ms, deliveries, state, attempts, opened_at_ms,
            next_attempt_at_ms, payload)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, {now}, {now}, 1, $10, $11, {now},
            case when $11 > 0 then {now} + $12 end, $13)
        on conflict (message_id) do update set
            deliveries = m.deliveries + 1,
            last_seen_at_ms = excluded.last_seen_at_ms,
            state = case when ",
        reopens!(),
        " then 'pending' else m.state end,
            opened_at_ms = case when ",
        reopens!(),
        " then excluded.opened_at_ms else m.opened_at_ms end,
            replay_id = case when ",
        reopens!(),
        " then null else m.replay_id end,
            attempts = m.attempts + case when m.state = 'pending' or ",
        reopens!(),
        " then 1 else 0 end,
            next_attempt_at_ms = case when m.state = 'pending' or ",
        reopens!(),
        "
                then coalesce(excluded.next_attempt_at_ms, m.next_attempt_at_ms) else m.next_attempt_at_ms end,
            payload = case when ",
        reopens!(),
        " then excluded.payload else m.payload end
        returning state, deliveries",
    ));
    let (state, attempts) = if message.is_open { ("pending", 1_i64) } else { ("ignored", 0) };
    let subject = &message.subject;
    let row = sqlx::query(sql)
        .bind(message.id.as_str())
        .bind(plain(&message.event_type))
        .bind(message.instance_id.as_deref().map(plain))
        .bind(subject.user.as_ref().map(|id| id.as_str().to_owned()))
        .bind(subject.organization.as_ref().map(|id| id.as_str().to_owned()))
        .bind(subject.membership.as_ref().map(|id| id.as_str().to_owned()))
        .bind(subject.session.as_ref().map(|id| id.as_str().to_owned()))
        .bind(message.occurred_at_ms)
        .bind(subject.updated_at_ms)
        .bind(state)
        .bind(attempts)
        .bind(INLINE_LEASE_MS)
        .bind(message.payload.clone())
        .bind(SETTLED_RECENTLY_MS)
        .fetch_one(on)
        .await?;
    let (state, deliveries): (String, i64) = (row.try_get("state")?, row.try_get("deliveries")?);
    let is_repeated = deliveries > 1;
    Ok(if state == "pending" { Recorded::Open { is_repeated } } else { Recorded::Settled { is_repeated } })
}

/// Takes the rows of several messages in one order, so that two nodes that write the same ones cannot wait for each other.
pub(super) async fn take(on: &mut AnyConnection, dialect: Dialect, ids: &str) -> sqlx::Result<()> {
    if dialect.locks_rows() {
        let sql = dialect.sql("select 1 from webhook_messages where message_id in {ids} order by message_id for update");
        sqlx::query(sql).bind(ids.to_owned()).execute(on).await?;
    }
    Ok(())
}

/// Compare-and-set: only what is open gets an outcome.
pub(super) async fn settle(on: &mut AnyConnection, dialect: Dialect, settled: &[Settled], by: AppliedBy) -> sqlx::Result<()> {
    if settled.len() > 1 {
        take(&mut *on, dialect, &ids(settled.iter().map(|one| &one.id))).await?;
    }
    let applied = settled.iter().filter(|one| one.buried_because.is_none()).map(|one| &one.id);
    if applied.clone().next().is_some() {
        let sql = dialect.sql(
            "update webhook_messages set state = 'applied', reason = null, next_attempt_at_ms = null, applied_at_ms = {now},
                applied_by = $2
            where message_id in {ids} and {is_open}",
        );
        sqlx::query(sql).bind(ids(applied)).bind(by.as_str()).execute(&mut *on).await?;
    }
    let mut buried: BTreeMap<&str, Vec<&MessageId>> = BTreeMap::new();
    for one in settled {
        let Some(because) = &one.buried_because else { continue };
        buried.entry(because).or_default().push(&one.id);
    }
    for (because, messages) in buried {
        let sql = dialect.sql(
            "update webhook_messages set state = 'buried', reason = $3, next_attempt_at_ms = null, applied_at_ms = {now},
                applied_by = $2
            where message_id in {ids} and {is_open}",
        );
        let burying = sqlx::query(sql).bind(ids(messages.into_iter())).bind(by.as_str()).bind(because.to_owned());
        burying.execute(&mut *on).await?;
    }
    Ok(())
}

/// What was applied once more after a lost history: open ones are settled by it, the others only dated anew.
pub(super) async fn reaffirm(on: &mut AnyConnection, dialect: Dialect, settled: &[Settled]) -> sqlx::Result<()> {
    let all = ids(settled.iter().map(|one| &one.id));
    take(&mut *on, dialect, &all).await?;
    settle(&mut *on, dialect, settled, AppliedBy::Failover).await?;
    let sql = dialect.sql(
        "update webhook_messages set applied_at_ms = {now}, applied_by = $2
        where message_id in {ids} and {is_done}",
    );
    sqlx::query(sql).bind(all).bind(AppliedBy::Failover.as_str()).execute(on).await.map(|_| ())
}

/// Only what is still open; somebody may have settled it meanwhile.
pub(super) async fn defer(on: &mut AnyConnection, dialect: Dialect, deferred: &[Deferred], reason: &str) -> sqlx::Result<()> {
    if deferred.len() > 1 {
        take(&mut *on, dialect, &ids(deferred.iter().map(|one| &one.id))).await?;
    }
    let delays = deferred.iter().map(|one| format!("\"{}\":{}", one.id, one.retry_in.as_millis())).collect::<Vec<_>>();
    let sql = dialect.sql(
        "update webhook_messages set next_attempt_at_ms = {now} + delays.delay_ms, reason = $2
        from {delays} as delays where message_id = delays.id and {is_open}",
    );
    let delays = format!("{{{}}}", delays.join(","));
    sqlx::query(sql).bind(delays).bind(reason.to_owned()).execute(on).await.map(|_| ())
}

/// The columns of a [`Claimed`], in its order.
macro_rules! claimed_columns {
    () => {
        "message_id, event_type, attempts, state, replay_id, payload, reason, {now} - opened_at_ms as open_for_ms"
    };
}

/// Takes what is due and puts it out of the others' reach for the lease; a holder that dies loses it when that ends.
pub(super) async fn claim(
    on: &mut AnyConnection,
    dialect: Dialect,
    (which, rows_max, lease_ms): (Which, i64, i64),
) -> sqlx::Result<Vec<Claimed>> {
    let sql = dialect.sql(match which {
        Which::Due => {
            concat!(
                "with due as (select message_id as due_id from webhook_messages
                    where state = 'pending' and next_attempt_at_ms <= {now}
                    order by next_attempt_at_ms limit $1 {skip_locked})
                update webhook_messages set attempts = attempts + 1, next_attempt_at_ms = {now} + $2
                where message_id in (select due_id from due) returning ",
                claimed_columns!()
            )
        }
        Which::Probe => {
            concat!(
                "with due as (select message_id as due_id from webhook_messages where state = 'pending'
                    order by next_attempt_at_ms limit $1 {skip_locked})
                update webhook_messages set attempts = attempts + 1, next_attempt_at_ms = {now} + $2
                where message_id in (select due_id from due) returning ",
                claimed_columns!()
            )
        }
    });
    let rows = sqlx::query(sql).bind(rows_max).bind(lease_ms).fetch_all(on).await?;
    rows.iter().map(claimed).collect()
}

/// Makes the next open messages behind `after` due, in the order of their ids; the last of them. None: there are no more.
/// Waits for whoever is writing to one of them: what is not open afterwards has its outcome, for everybody to see.
pub(super) async fn make_due(
    on: &mut AnyConnection,
    dialect: Dialect,
    (after, rows_max): (String, i64),
) -> sqlx::Result<Option<(String, u64)>> {
    let sql = dialect.sql(
        "with open as (select message_id as open_id from webhook_messages {by_open_ids} where state = 'pending' and message_id > $1
            order by message_id limit $2 {for_update})
        update webhook_messages set next_attempt_at_ms = {now}
        where message_id in (select open_id from open) and {is_open} returning message_id",
    );
    let rows = sqlx::query(sql).bind(after).bind(rows_max).fetch_all(on).await?;
    let ids = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<sqlx::Result<Vec<_>>>()?;
    let count = ids.len() as u64;
    Ok(ids.into_iter().max().map(|last| (last, count)))
}

/// What was applied between two moments of the database, in that order; also what was opened again since, which says as much.
pub(super) async fn applied(
    on: &mut AnyConnection,
    dialect: Dialect,
    window: &Window,
    rows_max: i64,
) -> sqlx::Result<Vec<(i64, Claimed)>> {
    let sql = dialect.sql(concat!(
        "select applied_at_ms, ",
        claimed_columns!(),
        " from webhook_messages
        where applied_at_ms >= $1 and applied_at_ms <= $2 and (applied_at_ms > $1 or message_id > $3)
            and state <> 'ignored'
        order by applied_at_ms, message_id limit $4"
    ));
    let question = sqlx::query(sql).bind(window.from_ms).bind(window.until_ms).bind(window.after.clone()).bind(rows_max);
    let rows = question.fetch_all(on).await?;
    rows.iter().map(|row| Ok((row.try_get("applied_at_ms")?, claimed(row)?))).collect()
}

/// Open messages are never deleted, nor what was applied lately: a lost history is put back from it.
pub(super) async fn prune(on: &mut AnyConnection, dialect: Dialect, keep_ms: (i64, i64), rows_max: i64) -> sqlx::Result<u64> {
    let sql = dialect.sql(
        "with old as (select message_id as old_id from webhook_messages
            where ((state in ('applied', 'ignored') and last_seen_at_ms < {now} - $1)
                or (state = 'buried' and last_seen_at_ms < {now} - $2))
                and (applied_at_ms is null or applied_at_ms < {now} - $1)
            limit $3 {skip_locked})
        delete from webhook_messages where message_id in (select old_id from old) and state <> 'pending'",
    );
    let done = sqlx::query(sql).bind(keep_ms.0).bind(keep_ms.1).bind(rows_max).execute(on).await?;
    Ok(done.rows_affected())
}

fn claimed(row: &AnyRow) -> sqlx::Result<Claimed> {
    let (id, state): (String, String) = (row.try_get("message_id")?, row.try_get("state")?);
    Ok(Claimed {
        id: MessageId::parse(&id).map_err(|error| sqlx::Error::Decode(error.into()))?,
        event_type: row.try_get("event_type")?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        is_open: state == "pending",
        is_replayed: row.try_get::<Option<i64>, _>("replay_id")?.is_some(),
        payload: row.try_get("payload")?,
        reason: row.try_get("reason")?,
        open_for: std::time::Duration::from_millis(row.try_get::<i64, _>("open_for_ms")?.max(0).unsigned_abs()),
    })
}

/// Ids as a JSON array: no id holds a character that JSON would escape.
fn ids<'a>(ids: impl Iterator<Item = &'a MessageId>) -> String {
    let quoted: Vec<String> = ids.map(|id| format!("\"{id}\"")).collect();
    format!("[{}]", quoted.join(","))
}

/// Without control characters, which no type or instance has and Postgres would refuse.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
