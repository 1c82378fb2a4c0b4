//! What is asked of the cache and what it answers: enough of the how for headers, logs and tests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::waits::Waits;
use crate::domain::{Found, List, Moment, OrganizationRef, UserId};
use crate::protocol::denial::Denied;
use crate::protocol::freshness::{Candidate, Wants};

/// What a caller wants to know of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// All memberships.
    List,
    /// One membership.
    Member(OrganizationRef),
}

/// A question on its way past the local tier.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whom it is about.
    pub user: UserId,
    /// What is asked.
    pub question: Question,
    /// How fresh the answer must be.
    pub wants: Wants,
    /// When the request arrived.
    pub arrived: Moment,
    /// When it must be answered, be it with "could not find out".
    pub deadline: Moment,
    /// Origin reads that the batch it belongs to may still start; none: no such limit.
    pub allowance: Option<Arc<AtomicUsize>>,
    /// Notes how long it waits for others.
    pub waits: Waits,
}

/// What a reading says of a user.
#[derive(Debug, Clone)]
pub enum Content {
    /// The complete list.
    List(List),
    /// The origin knows no such user.
    Unknown,
}

/// An answer, and where it comes from.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What is known.
    pub content: Content,
    /// When the reading began, and the fence it was judged by.
    pub candidate: Candidate,
    /// When it was decided.
    pub decided_at: Moment,
    /// How it was found.
    pub source: Source,
}

/// How an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// In this process.
    Local,
    /// In Redis.
    Shared,
    /// Asked of the origin for this request.
    Origin,
    /// Asked of the origin for somebody else at the same time.
    Collapsed,
    /// Asked of the origin because the caller demanded it.
    Demanded,
    /// Asked of the origin because a "no" needed checking.
    Checked,
    /// Past its bounds, because the origin could not be asked.
    Grace,
}

/// Why there is no answer. None of these says anything about the user (I8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The caller forbade asking the origin, and nothing known would do.
    #[error("not cached")]
    NotCached,
    /// The origin's limit or our budget.
    #[error("the origin's rate limit is reached")]
    RateLimited {
        /// When asking again has a chance.
        retry_after: Duration,
    },
    /// The batch has started as many origin reads as it may.
    #[error("the batch may ask the origin no more")]
    AllowanceSpent,
    /// The origin could not be asked.
    #[error("the origin is unavailable")]
    OriginUnavailable {
        /// When asking again has a chance.
        retry_after: Duration,
    },
}

impl Content {
    /// The "no" that this content is to a question, if it is one.
    pub fn denies(&self, question: &Question) -> Option<Denied> {
        match (self, question) {
            (Self::Unknown, _) => Some(Denied::User),
            (Self::List(list), Question::List) => list.is_empty().then_some(Denied::EmptyList),
            (Self::List(list), Question::Member(organization)) => match list.find(organization) {
                Found::At(_) | Found::Ambiguous(_) => None,
                Found::Absent => Some(Denied::Organization(organization.clone())),
            },
        }
    }

    /// Whether the question names a slug that two memberships carry: the origin is asked before one is chosen.
    pub fn is_ambiguous(&self, question: &Question) -> bool {
        match (self, question) {
            (Self::List(list), Question::Member(organization)) => matches!(list.find(organization), Found::Ambiguous(_)),
            (Self::List(_), Question::List) | (Self::Unknown, _) => false,
        }
    }
}
