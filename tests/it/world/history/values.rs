//! Whether what lies in Redis, for anybody to read, agrees with the history. Whoever reads it there asks no fence: an
//! acknowledged change of a user has taken the value away, on the spot. Of an organization's end only the TTL tells, and of its
//! name nothing is promised but the same.

use std::time::Instant;

use super::judge::check;
use super::{Event, History, Membership, Row};

/// What lay there.
#[derive(Debug)]
pub struct Value {
    pub user: String,
    pub rows: Vec<Row>,
    /// When it was asked for.
    pub began: Instant,
}

impl History {
    /// What is wrong with these values; nothing, when nothing is.
    pub fn judge_values(&self, values: &[Value]) -> Vec<String> {
        let judge = |value: &Value| value.rows.iter().try_for_each(|row| self.judge_value_row(value, row));
        let tell = |what: String, value: &Value| {
            format!("Redis, asked after {:?}: {what}\n    in {value:?}", value.began - self.began())
        };
        values.iter().filter_map(|value| judge(value).err().map(|what| tell(what, value))).collect()
    }

    fn judge_value_row(&self, value: &Value, row: &Row) -> Result<(), String> {
        let membership = self.memberships.get(&row.membership_id).ok_or("a value that never was")?;
        check(membership.user == value.user, || "somebody else's value".into())?;
        if let Some(ended) = membership.ended {
            let is_late = self.is_past(ended, value) || (!self.ended_with_all(membership) && self.was_taken_away(ended, value));
            check(!is_late, || format!("a late value: it ended by {}", self.tell(ended)))?;
        }
        let at = membership.roles.iter().position(|(at, role, _)| (*at, role) == (row.updated_at, &row.role));
        let later = &membership.roles[at.ok_or("a role that never was")? + 1..];
        let is_late = later.iter().any(|(.., event)| self.is_past(*event, value) || self.was_taken_away(*event, value));
        check(!is_late, || format!("a late role in a value: {later:?}"))
    }

    /// Whether it ended with its organization, which takes no value away.
    fn ended_with_all(&self, membership: &Membership) -> bool {
        membership.ended == self.dissolved.get(&membership.organization).copied()
    }

    /// Who landed it since may have read an origin that lags, and not have heard.
    fn was_taken_away(&self, event: Event, value: &Value) -> bool {
        self.events[event.0].acknowledged.is_some_and(|at| at + self.origin_lag < value.began)
    }

    /// Whether it happened so long ago that no value is older.
    fn is_past(&self, event: Event, value: &Value) -> bool {
        self.ages_max.is_some_and(|(ttl, _)| self.events[event.0].done + ttl + self.origin_lag < value.began)
    }
}
