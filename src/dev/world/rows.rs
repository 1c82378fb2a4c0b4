//! What the world is made of: a user, an organization, a membership, a session. Values only; names are invented.

use bytes::Bytes;

/// A user of the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `user_…`
    pub id: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// E-mail address, in a domain that cannot exist.
    pub email: String,
    /// Whether sign-in is forbidden.
    pub is_banned: bool,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// `org_…`
    pub id: String,
    /// Display name.
    pub name: String,
    /// Slug; instances may have them switched off.
    pub slug: Option<String>,
    /// The user who created it.
    pub created_by: Option<String>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// A membership: never re-used, who joins again gets a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// `orgmem_…`
    pub id: String,
    /// Whose.
    pub user: String,
    /// Of which organization, its id.
    pub organization: String,
    /// Role key with prefix, `org:admin`.
    pub role: String,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// `sess_…`
    pub id: String,
    /// Whose.
    pub user: String,
    /// `active` until it is `ended`, `removed` or `revoked`.
    pub status: &'static str,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionEnd {
    /// Signed out.
    #[default]
    Ended,
    /// Signed out and taken off the client.
    Removed,
    /// Ended by the application.
    Revoked,
}

impl SessionEnd {
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Removed => "removed",
            Self::Revoked => "revoked",
        }
    }

    pub(super) fn event_type(self) -> &'static str {
        match self {
            Self::Ended => "session.ended",
            Self::Removed => "session.removed",
            Self::Revoked => "session.revoked",
        }
    }
}

/// A user to create; what is left empty is made up.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewUser {
    /// Its id; a KSUID-like one if none.
    pub id: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
}

/// An organization to create.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewOrganization {
    /// Its id; a KSUID-like one if none.
    pub id: Option<String>,
    /// Display name.
    pub name: String,
    /// Slug, if it gets one.
    pub slug: Option<String>,
    /// The user who creates it and becomes its admin.
    pub created_by: Option<String>,
}

/// A webhook message: one id through all its deliveries, and the whole body as Clerk shapes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `msg_…`
    pub id: String,
    /// `organizationMembership.deleted` and the like.
    pub event_type: &'static str,
    /// The bare body, JSON.
    pub body: Bytes,
}

/// What a verb did: whom it touched, and what Clerk would send about it. Nothing is sent by the world itself.
#[derive(Debug, Clone)]
pub struct Done {
    /// The id of what was made, changed or ended.
    pub id: String,
    /// The messages, in the order in which they came to be.
    pub messages: Vec<Message>,
}

/// One page of a user's memberships.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Memberships in Clerk's shape, newest first.
    pub data: Vec<serde_json::Value>,
    /// How many there are on all pages.
    pub total_count: i64,
}

/// Why a verb was refused. The world is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// No such user.
    #[error("there is no user `{0}`")]
    UserUnknown(String),
    /// No such organization, by id or slug.
    #[error("there is no organization `{0}`")]
    OrganizationUnknown(String),
    /// No such session.
    #[error("there is no session `{0}`")]
    SessionUnknown(String),
    /// The user is not in the organization.
    #[error("user `{user}` is not a member of `{organization}`")]
    NotAMember {
        /// Whose membership was looked for.
        user: String,
        /// Of which organization.
        organization: String,
    },
    /// The user is in the organization already.
    #[error("user `{user}` is a member of `{organization}` already")]
    AlreadyAMember {
        /// Who was to be added.
        user: String,
        /// To which organization.
        organization: String,
    },
    /// An id or slug that is somebody's, or once was.
    #[error("`{0}` is taken")]
    Taken(String),
    /// A value that Clerk would not take.
    #[error("`{value}` is not {what}")]
    Malformed {
        /// What was given.
        value: String,
        /// What it should have been, with its article.
        what: &'static str,
    },
    /// A limit of the stand-in, not of Clerk.
    #[error("the stand-in holds no more than {limit} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
}
