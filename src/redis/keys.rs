//! Every key's spelling, and nothing else. Used by this room alone; whoever else needs a key asks here. Upholds I13: a user
//! id was parsed at the edge and holds no brace, so one user's keys are one user's, and lie in one slot.

use crate::domain::UserId;

use super::start_error::StartError;

/// The keys under one prefix, which belongs to one Clerk instance.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    changes: String,
    history: String,
    repair: String,
    fence: String,
    nodes: String,
}

/// Longer prefixes are a mistake.
const PREFIX_LENGTH_MAX: usize = 128;

impl Keys {
    /// Takes a prefix: 1 to 128 visible ASCII characters without braces, which would move keys to other slots.
    pub fn new(prefix: &str) -> Result<Self, StartError> {
        let is_valid = (1..=PREFIX_LENGTH_MAX).contains(&prefix.len())
            && prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'{' && byte != b'}');
        match is_valid {
            true => Ok(Self {
                prefix: prefix.to_owned(),
                changes: format!("{prefix}~changes"),
                history: format!("{{{prefix}~changes}}:history"),
                repair: format!("{{{prefix}~changes}}:repair"),
                fence: format!("{{{prefix}~changes}}:fence"),
                nodes: format!("{prefix}~nodes"),
            }),
            false => Err(StartError::Prefix { prefix: prefix.to_owned() }),
        }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The value of a user: the documented contract. No user id holds a `~`, so no user is called like the keys below.
    pub fn value(&self, user: &UserId) -> String {
        format!("{}{user}", self.prefix)
    }

    /// The guard of a user's value, in the same slot.
    pub fn guard(&self, user: &UserId) -> String {
        format!("{{{}{user}}}:guard", self.prefix)
    }

    /// What each question of a reader writes where replicas are waited for; beside the stream, in its slot.
    pub fn fence(&self) -> &str {
        &self.fence
    }

    /// A pattern that both keys of every user match, for SCAN; other keys may match it too.
    pub fn pattern(&self) -> String {
        let is_special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\');
        let literal: String = self.prefix.chars().flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c])).collect();
        format!("*{literal}*")
    }

    /// Whose value or guard a key is.
    pub fn user_of(&self, key: &str) -> Option<UserId> {
        let of_guard = || key.strip_prefix('{')?.strip_suffix("}:guard")?.strip_prefix(&self.prefix);
        let user = key.strip_prefix(&self.prefix).or_else(of_guard)?;
        UserId::parse(user).ok()
    }

    /// The change stream.
    pub fn changes(&self) -> &str {
        &self.changes
    }

    /// Whose stream this is, in the same slot.
    pub fn history(&self) -> &str {
        &self.history
    }

    /// Who puts a lost history back, in the same slot.
    pub fn repair(&self) -> &str {
        &self.repair
    }

    /// The nodes alive.
    pub fn nodes(&self) -> &str {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_as_documented() {
        let keys = Keys::new("user-orgs:").expect("prefix");
        let ada = UserId::parse("user_ada").expect("id");
        assert_eq!(keys.value(&ada), "user-orgs:user_ada");
        assert_eq!(keys.guard(&ada), "{user-orgs:user_ada}:guard");
        assert_eq!(keys.changes(), "user-orgs:~changes");
        assert_eq!(keys.history(), "{user-orgs:~changes}:history");
        assert_eq!(keys.nodes(), "user-orgs:~nodes");
    }

    #[test]
    fn a_key_tells_whose_it_is() {
        let keys = Keys::new("p[*]:").expect("prefix");
        let ada = UserId::parse("user_ada").expect("id");
        assert_eq!(keys.user_of(&keys.value(&ada)), Some(ada.clone()));
        assert_eq!(keys.user_of(&keys.guard(&ada)), Some(ada));
        for other in
            [keys.changes(), keys.history(), keys.nodes(), "p[*]:", "user_ada", "xp[*]:user_ada", "{p[*]:user_ada}:other"]
        {
            assert_eq!(keys.user_of(other), None, "{other}");
        }
        assert_eq!(keys.pattern(), r"*p\[\*\]:*");
    }

    #[test]
    fn a_prefix_with_braces_spaces_or_without_characters_is_refused() {
        for bad in ["", "a{b", "a}b", "a b", "a\n", "ü", &"x".repeat(129)] {
            assert!(Keys::new(bad).is_err(), "{bad}");
        }
        assert!(Keys::new(&"x".repeat(128)).is_ok());
    }
}
