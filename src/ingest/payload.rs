//! What the journal keeps of a message, as JSON: the change it makes true, and with whole bodies asked for the body too. The
//! intake writes it, the worker and the repair read it. Nothing of a person is in a change.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::Change;
use crate::ports::Message;
use crate::webhook::{Outcome, Parsed, VerifiedDelivery, parse_body};

/// What is kept of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The change alone.
    Minimal,
    /// The body too.
    Full,
}

/// What the journal keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    /// None: the message changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
    /// The body could not be read, for this reason, and the change is the eviction of everybody it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// The body, as it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// What is to be applied of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Todo {
    /// The change.
    pub change: Change,
    /// It is the eviction of whomever an unreadable message names, and this is why: once applied, the message is buried.
    pub unreadable: Option<String>,
}

/// The message of a delivery, to be recorded; and what is to be done, if anything.
pub(super) fn message(delivery: &VerifiedDelivery, parsed: Parsed, keep: Keep) -> (Message, Option<Todo>) {
    let todo = todo(parsed.outcome);
    let body = match keep {
        Keep::Minimal => None,
        Keep::Full => Some(String::from_utf8_lossy(delivery.body()).into_owned()),
    };
    let payload = Payload {
        change: todo.as_ref().map(|todo| todo.change.clone()),
        unreadable: todo.as_ref().and_then(|todo| todo.unreadable.clone()),
        body,
    };
    let payload =
        (payload != Payload::default()).then(|| serde_json::to_string(&payload).expect("strings and integers always serialise"));
    let message = Message {
        id: delivery.id().clone(),
        event_type: parsed.event_type,
        instance_id: parsed.instance_id,
        subject: parsed.subject,
        occurred_at_ms: parsed.occurred_at_ms,
        is_open: todo.is_some(),
        payload,
    };
    (message, todo)
}

/// What a kept payload asks for; none when this release cannot tell. A body that an earlier release could not read is read
/// again.
pub(super) fn read(payload: Option<&str>) -> Option<Todo> {
    let payload: Payload = serde_json::from_str(payload?).ok()?;
    let again = payload.body.filter(|_| payload.unreadable.is_some()).map(|body| parse_body(&Bytes::from(body)).outcome);
    match again {
        Some(outcome @ Outcome::Change(_)) => todo(outcome),
        Some(_) | None => Some(Todo { change: payload.change?, unreadable: payload.unreadable }),
    }
}

fn todo(outcome: Outcome) -> Option<Todo> {
    match outcome {
        Outcome::Ignored => None,
        Outcome::Change(change) => Some(Todo { change, unreadable: None }),
        Outcome::Unparsable { evict, what } => Some(Todo { change: evict, unreadable: Some(what.to_owned()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    fn written(payload: &Payload) -> String {
        serde_json::to_string(payload).unwrap()
    }

    fn created() -> Change {
        Change::UserCreated { user: UserId::parse("user_1").unwrap() }
    }

    #[test]
    fn what_is_kept_is_done_again() {
        let kept = written(&Payload { change: Some(created()), ..Payload::default() });
        assert_eq!(read(Some(&kept)), Some(Todo { change: created(), unreadable: None }));
    }

    #[test]
    fn an_unreadable_body_that_was_kept_is_read_again_by_a_release_that_can() {
        let evict = Change::Evicted { users: vec![UserId::parse("user_1").unwrap()], organizations: Vec::new() };
        let kept = |body: &str| {
            let body = Some(body.to_owned());
            written(&Payload { change: Some(evict.clone()), unreadable: Some("why".to_owned()), body })
        };
        let readable = r#"{"type":"user.created","data":{"id":"user_1"}}"#;
        assert_eq!(read(Some(&kept(readable))), Some(Todo { change: created(), unreadable: None }));
        let todo = read(Some(&kept(r#"{"type":"user.created","data":{}}"#))).unwrap();
        assert_eq!(todo, Todo { change: evict.clone(), unreadable: Some("why".to_owned()) });
    }

    #[test]
    fn a_change_of_a_later_release_and_nothing_at_all_cannot_be_told() {
        for payload in [None, Some(""), Some("{}"), Some(r#"{"change":{"kind":"later"}}"#), Some("[1]")] {
            assert_eq!(read(payload), None, "{payload:?}");
        }
    }
}
