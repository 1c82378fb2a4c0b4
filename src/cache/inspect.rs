//! What every tier says of a user, side by side, for an operator: the local entry, the shared value and the origin as they are, and
//! apart from them what is remembered that may outrank them.
//!
//! It answers no caller's read: nothing is judged, landed, promoted or refreshed by it, and an entry looked at is not in use for
//! that. It costs a read of the origin.

use std::time::Duration;

use super::Cache;
use super::answer::Content;
use super::facts::Recalled;
use crate::clock;
use crate::domain::{Membership, Moment, OrganizationId, UserId};
use crate::ports::{OriginAnswer, OriginError, Priority, SharedError};

/// What was found.
#[derive(Debug)]
pub struct Inspection {
    /// When.
    pub at: Moment,
    /// How far behind the stream this node was; none where nobody can say.
    pub lag: Option<Duration>,
    /// The entry of this process; none: there is none.
    pub local: Option<Seen>,
    /// The value in Redis; none: there is no Redis. In it none: nothing that its guard vouches for.
    pub shared: Option<Result<Option<Seen>, SharedError>>,
    /// The origin's answer just now.
    pub origin: Result<Seen, OriginError>,
    /// What is remembered of the user and of everything named above.
    pub recalled: Recalled,
}

/// A reading as it was found.
#[derive(Debug)]
pub struct Seen {
    /// When it began.
    pub as_of: Moment,
    /// None: the origin knew no such user.
    pub memberships: Option<Vec<Membership>>,
}

impl Cache {
    /// Asks everybody. What is remembered of `organization` is told even where nobody names it any more. Takes as long as the
    /// origin does, four seconds at most.
    pub async fn inspect(&self, user: &UserId, organization: Option<&OrganizationId>) -> Inspection {
        let (parts, began) = (&self.inner.parts, clock::now());
        let local = self.inner.local.get(user).map(|entry| Seen::of(&entry.content, entry.as_of));
        let shared = async {
            let found = parts.shared.as_ref()?.get(user).await;
            Some(found.map(|value| value.map(|value| Seen { as_of: value.as_of, memberships: Some(value.list.memberships()) })))
        };
        let (shared, origin) = tokio::join!(shared, parts.origin.read(user, Priority::NoCache));
        let origin = origin.map(|answer| match answer {
            OriginAnswer::Memberships(memberships) => Seen { as_of: began, memberships: Some(memberships) },
            OriginAnswer::UserUnknown => Seen { as_of: began, memberships: None },
        });
        let found = [local.as_ref(), shared.as_ref().and_then(|found| found.as_ref().ok()?.as_ref()), origin.as_ref().ok()];
        let rows = found.into_iter().flatten().filter_map(|seen| seen.memberships.as_deref()).flatten();
        let recalled = self.inner.facts.recall(user, rows, organization);
        let lag = self.knows_its_lag().then(|| self.lag());
        Inspection { at: clock::now(), lag, local, shared, origin, recalled }
    }
}

impl Seen {
    fn of(content: &Content, as_of: Moment) -> Self {
        let memberships = match content {
            Content::List(list) => Some(list.memberships()),
            Content::Unknown => None,
        };
        Self { as_of, memberships }
    }
}
