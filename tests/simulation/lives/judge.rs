//! What an answer must be, by what its node has heard. Upholds nothing; it says what is not upheld.

use std::time::Duration;

use rollcall::domain::{Change, Membership};
use rollcall::protocol::denial::{Denied, REPEAT_AGE_MAX};

use super::cache::{Answer, Ask, Content};
use super::town::{Truth, user};
use super::{BOUNDS, STALENESS};

/// What is wrong with the answer of a node that has heard this, to a question about user `n`.
pub fn judge(heard: &[Change], n: usize, ask: &Ask, answer: &Answer) -> Option<String> {
    let arrived = ask.arrived;
    let (as_of, fence, now) = (answer.candidate.as_of, answer.candidate.fence, answer.decided_at);
    if as_of < arrived && now.since(as_of.max(fence)) > STALENESS {
        return Some(format!("I6: nothing vouches for it, begun at {as_of:?}, under the fence of {fence:?}, given at {now:?}"));
    }
    if as_of < arrived && now.since(as_of) > BOUNDS.ttl {
        return Some(format!("I7: begun at {as_of:?} and given at {now:?}"));
    }
    let rows = match &answer.content {
        Content::List(list) => list.memberships(),
        Content::Unknown => vec![],
    };
    let no_age_max = match answer.content.denies(&ask.question) {
        None => Duration::MAX,
        Some(Denied::EmptyList) => BOUNDS.ttl,
        Some(Denied::Organization(_) | Denied::User) => REPEAT_AGE_MAX,
    };
    if arrived.since(as_of) > no_age_max {
        return Some("I10: a \"no\" that nobody has checked".into());
    }
    let is_unknown = matches!(answer.content, Content::Unknown);
    heard.iter().find_map(|change| breach(change, n, &rows, is_unknown).map(|what| format!("I5: {what} after {change:?}")))
}

/// What contradicts a change that was heard.
fn breach(change: &Change, n: usize, rows: &[Membership], is_unknown: bool) -> Option<String> {
    let is_wrong: Box<dyn Fn(&Membership) -> bool> = match change {
        Change::MembershipDeleted { membership, .. } => Box::new(move |row| row.membership_id == *membership),
        Change::OrganizationDeleted { organization } => Box::new(move |row| row.organization_id == *organization),
        Change::MembershipUpdated { membership, updated_at, .. } => {
            Box::new(move |row| row.membership_id == *membership && row.updated_at < *updated_at)
        }
        Change::OrganizationUpdated { organization, updated_at, .. } => {
            Box::new(move |row| row.organization_id == *organization && row.organization_updated_at < *updated_at)
        }
        Change::UserDeleted { user: dead } if *dead == user(n) && !is_unknown => return Some("a list of who is gone".into()),
        _ => return None,
    };
    rows.iter().find(|row| is_wrong(row)).map(|row| format!("{row:?}"))
}

/// Whether the answer is the truth.
pub fn is_true(answer: &Answer, truth: &Truth) -> bool {
    let sorted = |mut rows: Vec<Membership>| {
        rows.sort_by(|a, b| a.membership_id.cmp(&b.membership_id));
        rows
    };
    match (&answer.content, truth) {
        (Content::Unknown, None) => true,
        (Content::List(list), Some(rows)) => sorted(list.memberships()) == sorted(rows.clone()),
        (Content::Unknown, Some(_)) | (Content::List(_), None) => false,
    }
}

/// How long whatever is kept only briefly may still be there.
pub const BRIEFLY: Duration = Duration::from_secs(6);
