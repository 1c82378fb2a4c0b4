//! What a webhook makes true: one entry of the change stream. It carries nothing of a person: no name, e-mail, picture.

use serde::{Deserialize, Serialize};

use super::ids::{MembershipId, OrganizationId, SessionId, UserId};

/// An entry of the change stream. Times inside are Clerk's, in milliseconds.
///
/// A membership event without a user id (Clerk's schema allows it) is filed under the membership alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// A user joined. Readings that lack the membership are kept only briefly for a while.
    MembershipCreated { membership: MembershipId, user: Option<UserId> },
    /// A membership changed: its role as of `updated_at`.
    MembershipUpdated { membership: MembershipId, user: Option<UserId>, role: String, updated_at: i64 },
    /// A membership ended. Its id is dead for ever.
    MembershipDeleted { membership: MembershipId, user: Option<UserId> },
    /// A user appeared: a remembered "user unknown" is void.
    UserCreated { user: UserId },
    /// A user is gone.
    UserDeleted { user: UserId },
    /// A user was banned: tokens issued up to `tokens_until` (seconds) are dead; memberships are unaffected.
    UserBanned { user: UserId, tokens_until: i64 },
    /// An organization's name, slug and picture as of `updated_at`.
    OrganizationUpdated {
        organization: OrganizationId,
        name: String,
        slug: Option<String>,
        image_url: Option<String>,
        updated_at: i64,
    },
    /// An organization is gone, and with it every membership of it.
    OrganizationDeleted { organization: OrganizationId },
    /// A session ended, was removed or revoked.
    SessionEnded { session: SessionId, user: Option<UserId> },
    /// What is cached of these users and organizations is in doubt: asked for by an operator, or all that could be told of
    /// a message that did not parse.
    Evicted { users: Vec<UserId>, organizations: Vec<OrganizationId> },
    /// What is cached of anybody is in doubt, and nothing of it is left in Redis: every entry of every node must pass the
    /// shared tier once more. A release that does not know it does the same with an entry it cannot read.
    AllEvicted,
}

impl Change {
    /// The users whose values and leases this change voids.
    pub fn users(&self) -> &[UserId] {
        match self {
            Self::MembershipCreated { user, .. }
            | Self::MembershipUpdated { user, .. }
            | Self::MembershipDeleted { user, .. } => user.as_slice(),
            Self::UserCreated { user } | Self::UserDeleted { user } => std::slice::from_ref(user),
            Self::Evicted { users, .. } => users,
            Self::UserBanned { .. }
            | Self::OrganizationUpdated { .. }
            | Self::OrganizationDeleted { .. }
            | Self::SessionEnded { .. }
            | Self::AllEvicted => &[],
        }
    }

    /// Whether the change touches readings without naming their users: each node then looks at an entry once more before
    /// it answers from it.
    pub fn is_unfiled(&self) -> bool {
        match self {
            Self::MembershipUpdated { user, .. }
            | Self::MembershipDeleted { user, .. }
            | Self::MembershipCreated { user, .. } => user.is_none(),
            Self::OrganizationUpdated { .. } | Self::OrganizationDeleted { .. } | Self::AllEvicted => true,
            Self::Evicted { organizations, .. } => !organizations.is_empty(),
            Self::UserCreated { .. } | Self::UserDeleted { .. } | Self::UserBanned { .. } | Self::SessionEnded { .. } => false,
        }
    }

    /// The kind as written in the stream, for logs and counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MembershipCreated { .. } => "membershipCreated",
            Self::MembershipUpdated { .. } => "membershipUpdated",
            Self::MembershipDeleted { .. } => "membershipDeleted",
            Self::UserCreated { .. } => "userCreated",
            Self::UserDeleted { .. } => "userDeleted",
            Self::UserBanned { .. } => "userBanned",
            Self::OrganizationUpdated { .. } => "organizationUpdated",
            Self::OrganizationDeleted { .. } => "organizationDeleted",
            Self::SessionEnded { .. } => "sessionEnded",
            Self::Evicted { .. } => "evicted",
            Self::AllEvicted => "allEvicted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_written_as_a_tagged_object_and_read_back() {
        let change = Change::MembershipUpdated {
            membership: MembershipId::parse("orgmem_1").expect("id"),
            user: Some(UserId::parse("user_1").expect("id")),
            role: "org:admin".to_owned(),
            updated_at: 17,
        };
        let text = serde_json::to_string(&change).expect("json");
        assert_eq!(
            text,
            r#"{"kind":"membershipUpdated","membership":"orgmem_1","user":"user_1","role":"org:admin","updatedAt":17}"#
        );
        assert_eq!(serde_json::from_str::<Change>(&text).expect("reads"), change);
    }

    #[test]
    fn members_of_a_later_release_are_ignored() {
        for text in [r#"{"kind":"userCreated","user":"user_1","later":{"a":1}}"#, r#"{"kind":"allEvicted","later":1}"#] {
            assert!(serde_json::from_str::<Change>(text).is_ok(), "{text}");
        }
    }
}
