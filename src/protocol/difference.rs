//! Whether a later reading says that something changed and no message told of it. Upholds I8.
//!
//! Called where a reading replaces a list, and again with a second reading before anything is counted. What is said here
//! must hold although the origin answers from replicas that lag, and although messages come late or not at all:
//!
//! - Both lists are looked at with the same facts, at one moment. What a remembered message says then stands in both.
//! - A row whose time is *older* in the later reading proves that the replica lags: such a reading says nothing at all.
//!   Neither does one that lacks a membership announced a moment ago, nor one that names an organization in doubt.
//! - Another role counts only with a newer `updatedAt`, another name, slug or picture only with a newer
//!   `organizationUpdatedAt`. Under the same time no message was due: a role whose key was changed, a picture that moved.
//! - A row that came or went carries no time to compare. That the reading is no older than the list is then the caller's
//!   part: it must have begun so long after it that no replica lags so far.
//! - A new row that was announced, or whose deletion is remembered and no longer believed, is no news.
//! - The order of rows does not count: it follows from the set, and rows of the same moment may stand either way.

use std::collections::HashMap;

use super::facts::{FACTS_WINDOW, Remembered, outrank};
use crate::domain::{Membership, MembershipId, Moment, UserId};

/// What the later reading says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Nothing that counts is different.
    Same,
    /// Something changed, and no remembered message explains it.
    Different,
    /// It says nothing: it is older, or a message explains why it would differ.
    Unclear,
}

/// Compares a list, read at `earlier.0`, with a reading begun at `later.0`; none: the origin knows no such user.
pub fn compare(
    user: &UserId,
    earlier: (Moment, Vec<Membership>),
    later: (Moment, Option<Vec<Membership>>),
    facts: &impl Remembered,
) -> Compared {
    let ((earlier_as_of, mut before), (later_as_of, after)) = (earlier, later);
    if later_as_of.since(earlier_as_of) > FACTS_WINDOW {
        // What would explain it may be forgotten.
        return Compared::Unclear;
    }
    let Some(mut after) = after else {
        let is_announced = facts.user(user).is_some_and(|fact| fact.dead_at.is_some());
        return if is_announced { Compared::Unclear } else { Compared::Different };
    };
    let outranked_before = outrank(user, earlier_as_of, &mut before, facts);
    let outranked_after = outrank(user, later_as_of, &mut after, facts);
    if outranked_before.is_void || outranked_after.is_void || outranked_after.lacks_expected {
        return Compared::Unclear;
    }
    let mut gone: HashMap<&MembershipId, &Membership> = before.iter().map(|row| (&row.membership_id, row)).collect();
    let mut outcome = Compared::Same;
    for row in &after {
        let compared = match gone.remove(&row.membership_id) {
            Some(known) => compare_rows(known, row),
            None if is_explained(user, row, facts) => Compared::Same,
            None => Compared::Different,
        };
        match compared {
            Compared::Unclear => return Compared::Unclear,
            Compared::Different => outcome = Compared::Different,
            Compared::Same => {}
        }
    }
    if gone.is_empty() { outcome } else { Compared::Different }
}

fn compare_rows(known: &Membership, row: &Membership) -> Compared {
    if row.updated_at < known.updated_at || row.organization_updated_at < known.organization_updated_at {
        return Compared::Unclear;
    }
    let has_other_role = row.updated_at > known.updated_at && row.role != known.role;
    let has_other_profile = row.organization_updated_at > known.organization_updated_at && profile(row) != profile(known);
    if has_other_role || has_other_profile { Compared::Different } else { Compared::Same }
}

fn profile(row: &Membership) -> (&str, Option<&str>, Option<&str>) {
    (&row.organization_name, row.organization_slug.as_deref(), row.image_url.as_deref())
}

/// Whether messages have told of a row that was not there before: of its coming, or of an end that nobody believes any more.
fn is_explained(user: &UserId, row: &Membership, facts: &impl Remembered) -> bool {
    let is_expected =
        facts.user(user).is_some_and(|fact| fact.expected.iter().any(|(membership, _)| *membership == row.membership_id));
    let is_overruled = facts.membership(&row.membership_id).is_some_and(|fact| fact.dead_at.is_some())
        || facts.organization(&row.organization_id).is_some_and(|fact| fact.dead_at.is_some());
    is_expected || is_overruled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Change;
    use crate::protocol::facts::tests::{Memory, mem, org, user};

    const MINUTE: u64 = 60_000_000;
    const EARLIER: u64 = 1_000 * MINUTE;
    const LATER: u64 = EARLIER + MINUTE;

    fn row(n: u64) -> Membership {
        Membership {
            organization_id: org(n),
            organization_slug: Some(format!("s{n}")),
            organization_name: format!("N{n}"),
            role: "member".into(),
            image_url: None,
            membership_id: mem(n),
            created_at: 10,
            updated_at: 10,
            organization_updated_at: 10,
        }
    }
    fn with(n: u64, change: impl FnOnce(&mut Membership)) -> Membership {
        let mut row = row(n);
        change(&mut row);
        row
    }

    /// Compares with the first two rows after these changes passed.
    #[track_caller]
    fn check_after(changes: &[(Change, u64)], later: Option<Vec<Membership>>, expected: Compared) {
        let earlier = (Moment::from_micros(EARLIER), vec![row(1), row(2)]);
        let compared = compare(&user(), earlier, (Moment::from_micros(LATER), later), &Memory::of(changes));
        assert_eq!(compared, expected, "{changes:?}");
    }

    #[track_caller]
    fn check(later: Vec<Membership>, expected: Compared) {
        check_after(&[], Some(later), expected);
    }

    #[test]
    fn a_row_that_came_or_went_a_newer_role_and_a_newer_profile_count() {
        check(vec![row(1)], Compared::Different);
        check(vec![], Compared::Different);
        check(vec![row(1), row(2), row(3)], Compared::Different);
        let newer_role = with(2, |row| (row.role, row.updated_at) = ("admin".into(), 11));
        check(vec![row(1), newer_role], Compared::Different);
        let profiles: [fn(&mut Membership); 3] = [
            |row| row.organization_name = "Other".into(),
            |row| row.organization_slug = None,
            |row| row.image_url = Some("https://img.example.test/o.png".into()),
        ];
        for profile in profiles {
            check(vec![row(1), with(2, |row| (profile(row), row.organization_updated_at = 11).1)], Compared::Different);
        }
        // Left, and joined again under the same organization.
        check(vec![row(1), with(2, |row| row.membership_id = mem(9))], Compared::Different);
    }

    #[test]
    fn the_order_a_bare_time_and_a_change_without_one_do_not_count() {
        check(vec![row(1), row(2)], Compared::Same);
        check(vec![row(2), row(1)], Compared::Same);
        check(vec![row(1), with(2, |row| (row.updated_at, row.organization_updated_at) = (11, 11))], Compared::Same);
        check(vec![row(1), with(2, |row| row.role = "rekeyed".into())], Compared::Same);
        check(vec![row(1), with(2, |row| row.image_url = Some("https://elsewhere.example.test/o.png".into()))], Compared::Same);
    }

    #[test]
    fn i8_a_reading_with_an_older_row_says_nothing_of_any_other() {
        check(vec![with(1, |row| row.updated_at = 9)], Compared::Unclear);
        check(vec![row(3), with(1, |row| row.organization_updated_at = 9)], Compared::Unclear);
        let old_and_new = [with(1, |row| (row.role, row.updated_at) = ("admin".into(), 11)), with(2, |row| row.updated_at = 9)];
        check(old_and_new.to_vec(), Compared::Unclear);
    }

    #[test]
    fn a_user_whom_the_origin_does_not_know_any_more_counts_unless_announced() {
        check_after(&[], None, Compared::Different);
        check_after(&[(Change::UserDeleted { user: user() }, LATER)], None, Compared::Unclear);
    }

    #[test]
    fn what_a_remembered_message_says_stands_in_both_and_does_not_count() {
        let ended = (Change::MembershipDeleted { membership: mem(2), user: None }, LATER + 1);
        check_after(&[ended], Some(vec![row(1)]), Compared::Same);
        let ended = (Change::OrganizationDeleted { organization: org(2) }, LATER + 1);
        check_after(&[ended], Some(vec![row(1)]), Compared::Same);
        let role = Change::MembershipUpdated { membership: mem(2), user: None, role: "admin".into(), updated_at: 11 };
        let promoted = with(2, |row| (row.role, row.updated_at) = ("admin".into(), 11));
        check_after(&[(role.clone(), LATER)], Some(vec![row(1), promoted.clone()]), Compared::Same);
        check_after(&[(role, LATER)], Some(vec![promoted]), Compared::Different);
        let renamed =
            Change::OrganizationUpdated { organization: org(2), name: "New".into(), slug: None, image_url: None, updated_at: 11 };
        let new = |row: &mut Membership| {
            (row.organization_name, row.organization_slug, row.organization_updated_at) = ("New".into(), None, 11);
        };
        check_after(&[(renamed.clone(), LATER)], Some(vec![row(1), with(2, new)]), Compared::Same);
        check_after(&[(renamed, LATER)], Some(vec![row(1), row(2)]), Compared::Same);
    }

    #[test]
    fn an_announced_row_is_no_news_whether_it_shows_or_not() {
        let created = |n, at| (Change::MembershipCreated { membership: mem(n), user: Some(user()) }, at);
        check_after(&[created(3, EARLIER - 1)], Some(vec![row(1), row(2), row(3)]), Compared::Same);
        check_after(&[created(3, EARLIER - 1)], Some(vec![row(1), row(2), row(3), row(4)]), Compared::Different);
        // Just announced and gone again: the reading is older than the message.
        check_after(&[created(2, LATER - 1)], Some(vec![row(1)]), Compared::Unclear);
        check_after(&[created(2, LATER - 2 * MINUTE)], Some(vec![row(1)]), Compared::Different);
    }

    #[test]
    fn a_row_believed_again_after_its_deletion_is_no_news() {
        let ended = |n| (Change::MembershipDeleted { membership: mem(n), user: None }, LATER - 15 * MINUTE - 1);
        check_after(&[ended(3)], Some(vec![row(1), row(2), row(3)]), Compared::Same);
        let ended = (Change::OrganizationDeleted { organization: org(3) }, LATER - 15 * MINUTE - 1);
        check_after(&[ended], Some(vec![row(1), row(2), row(3)]), Compared::Same);
    }

    #[test]
    fn in_doubt_or_past_the_window_nothing_is_said() {
        let doubted = (Change::Evicted { users: vec![], organizations: vec![org(2)] }, EARLIER + 1);
        check_after(&[doubted], Some(vec![row(1)]), Compared::Unclear);
        let late = Moment::from_micros(EARLIER) + FACTS_WINDOW + std::time::Duration::from_micros(1);
        let earlier = (Moment::from_micros(EARLIER), vec![row(1)]);
        assert_eq!(compare(&user(), earlier, (late, Some(vec![])), &Memory::default()), Compared::Unclear);
    }
}
