//! Every user and organization named in a payload that could not be understood: they are evicted, so that nothing stale
//! stays because we could not read what changed. `parse` calls it.
//!
//! Upholds I12: at most a thousand ids, and no recursion, however deep the payload.

use std::collections::HashSet;

use serde_json::Value;

use crate::domain::{Change, OrganizationId, UserId};

/// A payload of Clerk's names a handful; more than this is somebody's experiment.
pub(super) const IDS_MAX: usize = 1_000;

/// The ids found so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    users: Vec<UserId>,
    organizations: Vec<OrganizationId>,
    seen: HashSet<String>,
    is_cut: bool,
}

impl Ids {
    /// Those in the strings of a JSON value. Names of members are no strings of it: `user_id` is not a user.
    pub(super) fn in_value(value: &Value) -> Self {
        let mut ids = Self::default();
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => ids.find_in(text),
                Value::Array(values) => open.extend(values.iter().rev()),
                Value::Object(members) => open.extend(members.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        ids
    }

    /// Those in bytes that are no JSON. What looks like the name of a member is passed over.
    pub(super) fn in_bytes(bytes: &[u8]) -> Self {
        let mut ids = Self::default();
        let text = String::from_utf8_lossy(bytes);
        let mut quoted = text.split('"').peekable();
        while let Some(part) = quoted.next() {
            let is_name = quoted.peek().is_some_and(|next| next.trim_start().starts_with(':'));
            if !is_name {
                ids.find_in(part);
            }
        }
        ids
    }

    /// Whether more ids were found than one eviction names.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn into_change(self) -> Change {
        Change::Evicted { users: self.users, organizations: self.organizations }
    }

    fn find_in(&mut self, text: &str) {
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
            let is_user = word.len() > "user_".len() && word.starts_with("user_");
            let is_organization = word.starts_with("org_");
            if (is_user || is_organization) && !self.seen.contains(word) {
                self.keep(word, is_user);
            }
        }
    }

    fn keep(&mut self, word: &str, is_user: bool) {
        if self.seen.len() >= IDS_MAX {
            self.is_cut = true;
            return;
        }
        let is_id = match is_user {
            true => UserId::parse(word).map(|id| self.users.push(id)).is_ok(),
            false => OrganizationId::parse(word).map(|id| self.organizations.push(id)).is_ok(),
        };
        if is_id {
            self.seen.insert(word.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(ids: Ids) -> Vec<String> {
        let users = ids.users.iter().map(|id| id.as_str().to_owned());
        users.chain(ids.organizations.iter().map(|id| id.as_str().to_owned())).collect()
    }

    #[test]
    fn ids_are_found_in_strings_at_any_depth_and_once() {
        let value = json!({
            "user_id": "user_1", "data": [{"a": ["user_2", "user_1"]}, "see user_3, org_1; and orgmem_9"], "org_slug": "acme", "n": 1,
            "org_key": "user_agent: none", "bad": ["user_", "org_", "xuser_4", format!("user_{}", "x".repeat(200))],
        });
        let mut found = texts(Ids::in_value(&value));
        found.sort();
        assert_eq!(found, ["org_1", "user_1", "user_2", "user_3", "user_agent"]);
    }

    #[test]
    fn ids_are_found_in_bytes_that_are_no_json() {
        let cut = br#"{"user_id" : "user_1", "organization":{"id":"org_1","name":"x","user_name": "user_2 "#;
        assert_eq!(texts(Ids::in_bytes(cut)), ["user_1", "user_2", "org_1"]);
        assert_eq!(texts(Ids::in_bytes(b"\xff\xfeuser_1\xffuser_2")), ["user_1", "user_2"]);
        assert!(texts(Ids::in_bytes(b"")).is_empty());
    }

    #[test]
    fn at_most_a_thousand_are_named_and_more_are_admitted_to() {
        let many = |count: usize| json!((0..count).map(|n| format!("user_{n}")).collect::<Vec<_>>());
        assert!(!Ids::in_value(&many(IDS_MAX)).is_cut());
        let ids = Ids::in_value(&many(IDS_MAX + 1));
        assert!(ids.is_cut());
        assert_eq!(ids.users.len(), IDS_MAX);
    }
}
