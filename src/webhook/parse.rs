//! From a verified delivery to what it makes true. The intake calls it.
//!
//! Every body has an outcome: a change, nothing that concerns us, or, when a type we know or the body itself cannot be read,
//! the eviction of everybody it names. Never a panic and never an error, because a message that can be neither applied nor
//! acknowledged would come back for a day. Upholds I1 by what it asks for, and I12.

use serde_json::Value;

use super::ids::Ids;
use super::subject::subject;
use super::verify::VerifiedDelivery;
use super::wire::{Envelope, Kind};
use crate::domain::{Change, Subject};

/// Clerk's longest type has 34 bytes.
const TYPE_BYTES_MAX: usize = 128;

/// A message, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// Clerk's type, `organizationMembership.deleted`; empty when there is none, at most 128 bytes of it.
    pub event_type: String,
    /// The instance it says it comes from. Decides nothing: the secret says whose message it is.
    pub instance_id: Option<String>,
    /// When it happened, in Clerk's milliseconds.
    pub occurred_at_ms: Option<i64>,
    /// Whom and what it is about.
    pub subject: Subject,
    /// What it comes to.
    pub outcome: Outcome,
    /// The eviction would have had to name more ids than it can: for a count.
    pub is_cut: bool,
}

/// What a message comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It makes this true.
    Change(Change),
    /// It is of a kind that changes no answer.
    Ignored,
    /// It should have made something true and cannot be read: everybody it names is evicted.
    Unparsable {
        /// The eviction; it may name nobody.
        evict: Change,
        /// A phrase for the log: no body, no name.
        what: &'static str,
    },
}

/// Parses a verified delivery.
pub fn parse(delivery: &VerifiedDelivery) -> Parsed {
    parse_body(delivery.body())
}

/// Parses a body. For bodies whose signature was checked before, or that are our own: I1 is the caller's to hold.
pub fn parse_body(body: &[u8]) -> Parsed {
    match serde_json::from_slice::<Value>(body) {
        Ok(event) => parse_event(&event),
        Err(_) => unparsable("", Envelope::default(), Ids::in_bytes(body), "a body that is no JSON"),
    }
}

fn parse_event(event: &Value) -> Parsed {
    let envelope = Envelope::of(event);
    let Some(event_type) = event["type"].as_str() else {
        return unparsable("", envelope, Ids::in_value(event), "an event without a type");
    };
    let subject = subject(event_type, &event["data"]);
    let Some(kind) = Kind::of(event_type) else {
        return Parsed { subject, ..parsed(event_type, envelope, Outcome::Ignored) };
    };
    let parsed = match kind.change(&event["data"], envelope.occurred_at_ms) {
        Ok(Some(change)) => parsed(event_type, envelope, Outcome::Change(change)),
        Ok(None) => parsed(event_type, envelope, Outcome::Ignored),
        Err(_) => unparsable(event_type, envelope, Ids::in_value(event), "data that lacks what its type needs"),
    };
    Parsed { subject, ..parsed }
}

fn unparsable(event_type: &str, envelope: Envelope, ids: Ids, what: &'static str) -> Parsed {
    let is_cut = ids.is_cut();
    Parsed { is_cut, ..parsed(event_type, envelope, Outcome::Unparsable { evict: ids.into_change(), what }) }
}

fn parsed(event_type: &str, envelope: Envelope, outcome: Outcome) -> Parsed {
    Parsed {
        event_type: event_type[..event_type.floor_char_boundary(TYPE_BYTES_MAX)].to_owned(),
        instance_id: envelope.instance_id,
        occurred_at_ms: envelope.occurred_at_ms,
        subject: Subject::default(),
        outcome,
        is_cut: false,
    }
}

#[cfg(test)]
mod tests;
