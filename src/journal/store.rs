//! The journal's port, on a database. Each call is one transaction; what they do is in `outcomes`.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::Row;

use super::{SqlJournal, outcomes};
use crate::ports::{
    AppliedBy, Backlog, Claimed, Deferred, Journal, JournalError, JournalStats, Message, Recorded, Retention, Settled, Which,
    Window,
};

/// Every message is looked at; four million take about two seconds.
const COUNT_TIME_MAX: Duration = Duration::from_secs(30);

/// Rows that one transaction writes at most: no delivery waits long behind it.
const STEP_MAX: i64 = 2_000;

impl Journal for SqlJournal {
    fn record<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<Recorded, JournalError>> {
        let (message, dialect) = (message.clone(), self.database.dialect());
        self.database.write(move |on| async move { outcomes::record(on, dialect, &message).await }.boxed()).boxed()
    }

    fn settle<'a>(&'a self, settled: &'a [Settled], by: AppliedBy) -> BoxFuture<'a, Result<(), JournalError>> {
        let (settled, dialect) = (settled.to_vec(), self.database.dialect());
        self.database.write(move |on| async move { outcomes::settle(on, dialect, &settled, by).await }.boxed()).boxed()
    }

    fn defer<'a>(&'a self, deferred: &'a [Deferred], reason: &'a str) -> BoxFuture<'a, Result<(), JournalError>> {
        let (deferred, reason, dialect) = (deferred.to_vec(), reason.to_owned(), self.database.dialect());
        self.database.write(move |on| async move { outcomes::defer(on, dialect, &deferred, &reason).await }.boxed()).boxed()
    }

    fn claim(&self, which: Which, rows_max: u32, lease: Duration) -> BoxFuture<'_, Result<Vec<Claimed>, JournalError>> {
        let (dialect, asked) = (self.database.dialect(), (which, i64::from(rows_max), millis(lease)));
        self.database.write(move |on| async move { outcomes::claim(on, dialect, asked).await }.boxed()).boxed()
    }

    fn make_all_due(&self) -> BoxFuture<'_, Result<u64, JournalError>> {
        async move {
            let (dialect, mut after, mut count) = (self.database.dialect(), String::new(), 0);
            loop {
                let step = (after, STEP_MAX);
                let made = self.database.write(move |on| async move { outcomes::make_due(on, dialect, step).await }.boxed());
                let Some((last, messages)) = made.await? else { return Ok(count) };
                (after, count) = (last, count + messages);
                if messages < STEP_MAX.unsigned_abs() {
                    // What comes in meanwhile is due by itself.
                    return Ok(count);
                }
            }
        }
        .boxed()
    }

    fn window(&self, age: Duration) -> BoxFuture<'_, Result<Window, JournalError>> {
        async move {
            let until_ms = millis(self.now().await?);
            Ok(Window { from_ms: until_ms.saturating_sub(millis(age)), until_ms, after: String::new() })
        }
        .boxed()
    }

    fn applied<'a>(&'a self, window: &'a mut Window, rows_max: u32) -> BoxFuture<'a, Result<Vec<Claimed>, JournalError>> {
        async move {
            let walk = window.clone();
            let reading = async move {
                let mut on = self.database.pool().acquire().await?;
                outcomes::applied(&mut on, self.database.dialect(), &walk, i64::from(rows_max)).await
            };
            let rows = self.database.read(reading).await?;
            if let Some((applied_at_ms, last)) = rows.last() {
                (window.from_ms, window.after) = (*applied_at_ms, last.id.to_string());
            }
            Ok(rows.into_iter().map(|(_, claimed)| claimed).collect())
        }
        .boxed()
    }

    fn reaffirm<'a>(&'a self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), JournalError>> {
        let (settled, dialect) = (settled.to_vec(), self.database.dialect());
        self.database.write(move |on| async move { outcomes::reaffirm(on, dialect, &settled).await }.boxed()).boxed()
    }

    fn prune(&self, keep: Retention, rows_max: u32) -> BoxFuture<'_, Result<u64, JournalError>> {
        let (dialect, rows_max) = (self.database.dialect(), i64::from(rows_max));
        let keep_ms = (millis(keep.settled), millis(keep.buried));
        self.database.write(move |on| async move { outcomes::prune(on, dialect, keep_ms, rows_max).await }.boxed()).boxed()
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, JournalError>> {
        async move {
            self.database.check_writes()?;
            self.database.read(self.count_backlog()).await
        }
        .boxed()
    }

    fn last_seen_ms(&self) -> BoxFuture<'_, Result<Option<i64>, JournalError>> {
        self.database.read(self.find_last_seen()).boxed()
    }

    fn stats(&self) -> BoxFuture<'_, Result<JournalStats, JournalError>> {
        async move {
            self.database.check_writes()?;
            self.database.read_within(COUNT_TIME_MAX, self.count()).await
        }
        .boxed()
    }
}

impl SqlJournal {
    /// State by state, which an index answers.
    async fn find_last_seen(&self) -> sqlx::Result<Option<i64>> {
        let sql = "select max(seen_at_ms) from (
            select max(last_seen_at_ms) as seen_at_ms from webhook_messages where state = 'pending'
            union all select max(last_seen_at_ms) from webhook_messages where state = 'applied'
            union all select max(last_seen_at_ms) from webhook_messages where state = 'ignored'
            union all select max(last_seen_at_ms) from webhook_messages where state = 'buried') as seen";
        sqlx::query(sql).fetch_one(self.database.pool()).await?.try_get(0)
    }

    async fn count_backlog(&self) -> sqlx::Result<Backlog> {
        let sql = self.database.dialect().sql(
            "select count(*) as pending, {now} - min(opened_at_ms) as open_ms,
                (select count(*) from webhook_messages where state = 'buried') as buried
            from webhook_messages where state = 'pending'",
        );
        let row = sqlx::query(sql).fetch_one(self.database.pool()).await?;
        let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
        Ok(Backlog { pending: number("pending")?, buried: number("buried")?, oldest_open: age(row.try_get("open_ms")?) })
    }

    async fn count(&self) -> sqlx::Result<JournalStats> {
        let sql = self.database.dialect().sql(
            "select state, count(*) as messages, {now} - min(case when state = 'pending' then opened_at_ms end) as open_ms
            from webhook_messages group by state",
        );
        let mut stats = JournalStats::default();
        for row in sqlx::query(sql).fetch_all(self.database.pool()).await? {
            let messages = row.try_get::<i64, _>("messages")?.unsigned_abs();
            match row.try_get::<String, _>("state")?.as_str() {
                "pending" => {
                    stats.pending = messages;
                    stats.oldest_open = age(row.try_get("open_ms")?);
                }
                "applied" => stats.applied = messages,
                "ignored" => stats.ignored = messages,
                _ => stats.buried = messages,
            }
        }
        Ok(stats)
    }
}

fn age(ms: Option<i64>) -> Option<Duration> {
    ms.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
