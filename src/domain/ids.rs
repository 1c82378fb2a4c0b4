//! Ids, parsed once at the edge; whoever holds one needs no second look. Upholds I13.
//!
//! Every id is a shared string: a clone is a counter, not a copy.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What was wrong with the text of an id. `accepted` is fit to be shown to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {what}")]
pub struct IdError {
    /// The kind of id, with its article: `a user id`.
    pub what: &'static str,
    /// The accepted form, as a pattern.
    pub accepted: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $accepted:literal, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The accepted form, as a pattern.
            pub const ACCEPTED: &'static str = $accepted;

            /// Parses the text; refuses what is not of the accepted form.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let is_valid: fn(&str) -> bool = $is_valid;
                match is_valid(text) {
                    true => Ok(Self(Arc::from(text))),
                    false => Err(IdError { what: $what, accepted: $accepted }),
                }
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

id!(
    /// A Clerk user, `user_…`. The prefix is not demanded: imported users may carry others.
    UserId, "a user id", "[A-Za-z0-9_-]{1,128}", |text| is_word(text, 128)
);
id!(
    /// A Clerk organization, `org_…`. The id is the truth; a slug is an alias that may change.
    OrganizationId, "an organization id", "org_[A-Za-z0-9_-]{1,124}",
    |text| text.strip_prefix("org_").is_some_and(|rest| is_word(rest, 124))
);
id!(
    /// A slug: 1 to 256 unreserved characters, neither `.` nor `..`. Looked up only among a user's own memberships.
    Slug, "a slug", "[A-Za-z0-9._~-]{1,256}",
    |text| text != "." && text != ".." && (1..=256).contains(&text.len()) && text.bytes().all(is_unreserved)
);
id!(
    /// A membership, `orgmem_…`. Never re-used: who joins again gets a new one.
    MembershipId, "a membership id", "[A-Za-z0-9_-]{1,128}", |text| is_word(text, 128)
);
id!(
    /// A session, `sess_…`.
    SessionId, "a session id", "[A-Za-z0-9_-]{1,128}", |text| is_word(text, 128)
);
id!(
    /// The id of a webhook message (`svix-id`), the same through all its deliveries.
    MessageId, "a message id", "[A-Za-z0-9_-]{1,128}", |text| is_word(text, 128)
);
id!(
    /// A role key as Clerk writes it, `org:admin`: any text up to 128 characters, compared exactly.
    Role, "a role", "1 to 128 characters", |text| !text.is_empty() && text.chars().count() <= 128
);

/// An organization as a caller names it: what begins with `org_` is an id, all else a slug.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum OrganizationRef {
    /// By id.
    Id(OrganizationId),
    /// By slug.
    Slug(Slug),
}

impl OrganizationRef {
    /// Parses either form.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text.starts_with("org_") {
            true => OrganizationId::parse(text).map(Self::Id),
            false => Slug::parse(text).map(Self::Slug),
        }
    }

    /// The id, if it is named by it.
    pub fn id(&self) -> Option<&OrganizationId> {
        match self {
            Self::Id(id) => Some(id),
            Self::Slug(_) => None,
        }
    }

    /// The text as the caller wrote it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Slug(slug) => slug.as_str(),
        }
    }
}

impl fmt::Debug for OrganizationRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_word(text: &str, length_max: usize) -> bool {
    (1..=length_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_a_word_of_at_most_128_bytes() {
        for good in ["user_2abc", "u", "A-b_9", &"x".repeat(128)] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a{b", "a}b", "a\n", "ü", "a%41", &"x".repeat(129)] {
            assert!(UserId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_begins_with_org_is_an_id_and_all_else_a_slug() {
        assert!(matches!(OrganizationRef::parse("org_1"), Ok(OrganizationRef::Id(_))));
        assert!(matches!(OrganizationRef::parse("acme.co~1"), Ok(OrganizationRef::Slug(_))));
        for bad in ["org_", "org_a.b", ".", "..", "a b", "", "a/b", &"s".repeat(257)] {
            assert!(OrganizationRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_role_is_any_short_text() {
        assert!(Role::parse("org:admin").is_ok());
        assert!(Role::parse("rôle with spaces").is_ok());
        assert!(Role::parse(&"ô".repeat(128)).is_ok());
        assert!(Role::parse("").is_err());
        assert!(Role::parse(&"r".repeat(129)).is_err());
    }
}
