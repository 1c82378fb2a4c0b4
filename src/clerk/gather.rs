//! From pages to a list: asks for page after page of one user's memberships, and answers only with all of them.
//!
//! Upholds I9: a list is whole, counted and free of doubles, or it is an error. Upholds I12: three gatherings, three tries of
//! a request, a hundred pages, 10,000 memberships and 16 MiB of a gathering.

use std::collections::HashSet;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::breaker::Health;
use super::client::Clerk;
use super::exchange::{ExchangeError, Reply};
use super::wire::Page;
use crate::domain::{Membership, UserId};
use crate::ports::{OriginAnswer, Priority};

/// Clerk's own limit of a page.
const PAGE_ROWS: u64 = 500;
/// Pages of one gathering: 10,000 memberships even if Clerk cuts its pages to a fifth.
const PAGES_MAX: usize = 100;
const MEMBERSHIPS_MAX: u64 = 10_000;
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;
/// A list that changes between its pages is gathered again, twice.
const GATHERINGS_MAX: usize = 3;
const RETRIES_MAX: usize = 2;

/// One attempt at a whole list.
enum Gathered {
    Whole(Vec<Membership>),
    Unknown,
    /// The pages do not add up: something changed between them.
    Torn,
}

impl Clerk {
    /// The whole list, gathered again when it changed in between.
    pub(super) async fn gather_whole(
        &self,
        user: &UserId,
        priority: Priority,
        until: Instant,
    ) -> Result<OriginAnswer, ExchangeError> {
        for gathering in 0..GATHERINGS_MAX {
            match self.gather(user, if gathering == 0 { priority } else { begun(priority) }, until).await? {
                Gathered::Whole(list) => return Ok(OriginAnswer::Memberships(list)),
                Gathered::Unknown => return Ok(OriginAnswer::UserUnknown),
                Gathered::Torn => self.counts.incomplete.inc(),
            };
        }
        Err(ExchangeError::Malformed { what: "pages that do not add up" })
    }

    /// Asks for page after page until as many rows have come as the first page announced.
    async fn gather(&self, user: &UserId, first: Priority, until: Instant) -> Result<Gathered, ExchangeError> {
        let mut rows: Vec<Membership> = Vec::new();
        let mut bytes_left = BYTES_MAX;
        let mut announced = None;
        let mut priority = first;
        for _ in 0..PAGES_MAX {
            let Some(body) = self.page(user, rows.len(), priority, until, bytes_left).await? else {
                return Ok(Gathered::Unknown);
            };
            bytes_left -= body.len();
            priority = begun(first);
            let (page, total) = self.parse(&body, user)?;
            if total > MEMBERSHIPS_MAX {
                return Err(ExchangeError::TooLarge { what: "more memberships than the limit" });
            }
            let is_last = page.is_empty() || (rows.len() + page.len()) as u64 >= total;
            rows.extend(page);
            if *announced.get_or_insert(total) != total {
                return Ok(Gathered::Torn);
            }
            if is_last {
                return Ok(whole(rows, total));
            }
        }
        Ok(Gathered::Torn)
    }

    /// The body of one page, by up to three requests; none when the origin knows no such user.
    async fn page(
        &self,
        user: &UserId,
        offset: usize,
        priority: Priority,
        until: Instant,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, ExchangeError> {
        let url = self.url(&format!("users/{user}/organization_memberships?limit={PAGE_ROWS}&offset={offset}"));
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(RETRIES_MAX)
            .with_jitter();
        let reply = (|| self.request(&url, priority, until, bytes_max))
            .retry(backoff)
            .when(ExchangeError::is_passing)
            .notify(|_, _| {
                self.counts.retries.inc();
            })
            .await?;
        match reply {
            Reply::Body(body) => Ok(Some(body)),
            Reply::NotFound => Ok(None),
        }
    }

    /// A page's rows and the count it announces. A body that came whole and says nothing counts as a failed request.
    fn parse(&self, body: &[u8], user: &UserId) -> Result<(Vec<Membership>, u64), ExchangeError> {
        let read = Page::parse(body).map_err(|_| "a page we cannot read").and_then(|page| {
            let total = page.total_count;
            page.memberships_of(user).map(|rows| (rows, total)).ok_or("a membership of another user")
        });
        let read = read.map_err(|what| ExchangeError::Malformed { what });
        self.counts.request(read.as_ref().map_or_else(ExchangeError::outcome, |_| "ok"));
        self.note(read.as_ref().map_or_else(ExchangeError::health, |_| Health::Answered));
        read
    }
}

/// The priority of the pages after the first: to finish a read costs less than to have begun it in vain, so it may wait.
fn begun(priority: Priority) -> Priority {
    priority.min(Priority::FirstDenial)
}

/// Whether the rows, without doubles, are as many as announced. A row that moved between two pages came twice, and
/// another one not at all.
fn whole(mut rows: Vec<Membership>, total: u64) -> Gathered {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.retain(|row| seen.insert(row.membership_id.clone()));
    match rows.len() as u64 == total {
        true => Gathered::Whole(rows),
        false => Gathered::Torn,
    }
}
