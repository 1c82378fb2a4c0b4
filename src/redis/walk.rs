//! A walk over the users of whom Redis holds something, a value or a guard alone: for evicting everybody. Nothing that
//! answers a read walks.
//!
//! SCAN answers every key that is there from the walk's beginning to its end at least once. What is made meanwhile may be
//! missed: its reading began after the walk did. A guard is made before its reading begins and outlives it, so no reading
//! begun before the walk can land after it (I5). Upholds I12: one step looks at about a thousand keys.

use std::sync::Arc;

use deadpool_redis::redis;

use crate::domain::UserId;
use crate::ports::SharedError;

use super::Redis;
use super::keys::Keys;
use super::link::{ANSWER_TIME_MAX, Link, read};
use super::links::Links;
use super::shared::one;

/// Keys looked at in one step, as Redis counts them.
const STEP_KEYS: usize = 1_000;

/// What one step came by.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// The users, each once; in a later step one may come again.
    pub users: Vec<UserId>,
    /// How many of the keys were values.
    pub values: usize,
}

/// A walk, wherever it stands.
pub struct Walk {
    links: Links,
    keys: Arc<Keys>,
    /// The servers that are left, this one last; none: not begun.
    left: Option<Vec<Link>>,
    cursor: u64,
}

impl Redis {
    /// Begins a walk.
    pub fn walk(&self) -> Walk {
        Walk { links: self.shared.values.clone(), keys: self.shared.keys.clone(), left: None, cursor: 0 }
    }
}

impl Walk {
    /// The next step, maybe by nobody; none when the walk is over. After an error the same step is taken again.
    pub async fn step(&mut self) -> Result<Option<Step>, SharedError> {
        let left = match &mut self.left {
            Some(left) => left,
            None => self.left.insert(self.links.everywhere().await),
        };
        let Some(link) = left.last() else { return Ok(None) };
        let mut scan = redis::cmd("SCAN");
        scan.arg(self.cursor).arg("MATCH").arg(self.keys.pattern()).arg("COUNT").arg(STEP_KEYS);
        let (next, keys) = read::<(u64, Vec<Vec<u8>>)>(one(link, scan, ANSWER_TIME_MAX).await?)?;
        self.cursor = next;
        if next == 0 {
            left.pop();
        }
        let owner = |key: &Vec<u8>| Some((self.keys.user_of(std::str::from_utf8(key).ok()?)?, key.starts_with(b"{")));
        let found: Vec<(UserId, bool)> = keys.iter().filter_map(owner).collect();
        let values = found.iter().filter(|(_, is_guard)| !is_guard).count();
        let mut users: Vec<UserId> = found.into_iter().map(|(user, _)| user).collect();
        users.sort();
        users.dedup();
        Ok(Some(Step { users, values }))
    }
}
