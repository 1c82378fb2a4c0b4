//! Whom and what a message is about: ids only, as far as its body says. For the journal's filters; no decision rests on it.

use super::ids::{MembershipId, OrganizationId, SessionId, UserId};

/// Whom and what a message is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The user.
    pub user: Option<UserId>,
    /// The organization.
    pub organization: Option<OrganizationId>,
    /// The membership.
    pub membership: Option<MembershipId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The entity's own `updated_at`, in Clerk's milliseconds.
    pub updated_at_ms: Option<i64>,
}
