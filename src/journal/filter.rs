//! Which messages an operator means: a filter as one part of a statement, and a place in the order of arrival. `rows` and
//! `replays` ask with it. Every value is a parameter, and a part that is not asked for is null.

use serde::{Deserialize, Serialize};
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use crate::domain::{OrganizationId, UserId};

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
#[serde(rename_all = "camelCase", default)]
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
    /// In one of these states, two at most; empty: in any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
    /// Received at or after this moment, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Received before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

/// What a [`Filter`] asks of a row; [`Filter::bind`] gives its parameters, `$1` to `$8`.
macro_rules! matching {
    () => {
        "($1 is null or event_type = $1) and ($2 is null or substr(event_type, 1, length($2)) = $2)
            and ($3 is null or user_id = $3) and ($4 is null or org_id = $4) and ($5 is null or state in ($5, $6))
            and received_at_ms >= $7 and received_at_ms < $8"
    };
}
pub(super) use matching;

/// A statement that is being given its parameters.
pub(super) type Question<'q> = Query<'q, Any, AnyArguments>;

impl Filter {
    pub(super) fn bind<'q>(&self, question: Question<'q>) -> Question<'q> {
        let beginning = self.event_type.as_deref().and_then(|text| text.strip_suffix('*'));
        let whole = self.event_type.as_deref().filter(|_| beginning.is_none());
        let first = self.states.first().map(|state| state.as_str());
        let second = self.states.get(1).map(|state| state.as_str()).or(first);
        question
            .bind(whole.map(str::to_owned))
            .bind(beginning.map(str::to_owned))
            .bind(self.user.as_ref().map(|id| id.as_str().to_owned()))
            .bind(self.organization.as_ref().map(|id| id.as_str().to_owned()))
            .bind(first)
            .bind(second)
            .bind(self.since_ms.unwrap_or(i64::MIN))
            .bind(self.until_ms.unwrap_or(i64::MAX))
    }
}

/// A place in the order of arrival: behind this message. The default is before all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) received_at_ms: i64,
    pub(super) message_id: String,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { received_at_ms: -1, message_id: String::new() }
    }
}
