//! What the stream says outranks an older reading of the origin. Upholds I3, I4 and I5.
//!
//! A fact is a join of everything heard of one membership, organization or user: merging takes the later of each part, so
//! order and repetition never matter. A fact applies to a reading only when it is provably newer than it.

use std::time::Duration;

use super::rules::{self, Rule};
use crate::domain::{Change, Membership, MembershipId, Moment, OrganizationId, SessionId, UserId};

/// How long changes are remembered. TTL + grace + 1 min must fit into it.
pub const FACTS_WINDOW: Duration = Duration::from_secs(30 * 60);
/// A deletion also outranks readings that began this long after it: the origin's replicas may lag.
pub const DEAD_FOR: Duration = Duration::from_secs(15 * 60);
/// A new membership is expected in readings for this long.
pub const EXPECTED_FOR: Duration = Duration::from_secs(60);
/// A reading that lacks an expected membership is kept only for this long.
pub const KEPT_WITHOUT_EXPECTED: Duration = Duration::from_secs(5);

/// What is remembered of one membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipFact {
    /// It ended.
    pub dead_at: Option<Moment>,
    /// Its role, and the origin's time of it in milliseconds.
    pub role: Option<(i64, String)>,
}

/// What is remembered of one organization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrganizationFact {
    /// It was deleted.
    pub dead_at: Option<Moment>,
    /// What is known of it was put in doubt: readings begun before are no answers if they name it.
    pub doubted_at: Option<Moment>,
    /// What it is called.
    pub profile: Option<Profile>,
}

/// An organization's changeable part, ordered by the origin's time first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile {
    /// Milliseconds, the origin's.
    pub updated_at: i64,
    /// Display name.
    pub name: String,
    /// Slug.
    pub slug: Option<String>,
    /// Picture.
    pub image_url: Option<String>,
}

/// What is remembered of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFact {
    /// The user was deleted.
    pub dead_at: Option<Moment>,
    /// The last change of the user: a shared value read before it is no answer.
    pub changed_at: Option<Moment>,
    /// Memberships announced, and when.
    pub expected: Vec<(MembershipId, Moment)>,
    /// Tokens issued up to this second are dead: the user was banned.
    pub tokens_until: Option<i64>,
}

/// What is remembered of one session: that it ended. Its id is never used again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionEnded;

/// Expected memberships remembered per user; the oldest give way.
const EXPECTED_MAX: usize = 64;

impl MembershipFact {
    /// Joins two memories of the same membership.
    pub fn merge(&mut self, other: Self) {
        if !rules::is_on(Rule::FactsAreMerged) {
            return *self = other;
        }
        self.dead_at = self.dead_at.max(other.dead_at);
        self.role = self.role.take().max(other.role);
    }
}

impl OrganizationFact {
    /// Joins two memories of the same organization.
    pub fn merge(&mut self, other: Self) {
        self.dead_at = self.dead_at.max(other.dead_at);
        self.doubted_at = self.doubted_at.max(other.doubted_at);
        self.profile = self.profile.take().max(other.profile);
    }
}

impl UserFact {
    /// Joins two memories of the same user.
    pub fn merge(&mut self, other: Self) {
        self.dead_at = self.dead_at.max(other.dead_at);
        self.changed_at = self.changed_at.max(other.changed_at);
        self.tokens_until = self.tokens_until.max(other.tokens_until);
        for (membership, at) in other.expected {
            match self.expected.iter_mut().find(|(known, _)| *known == membership) {
                Some((_, known_at)) => *known_at = at.max(*known_at),
                None => self.expected.push((membership, at)),
            }
        }
        // Kept in an order of their own, so that merging commutes.
        self.expected.sort_by(|(a_id, a), (b_id, b)| a.cmp(b).then_with(|| a_id.cmp(b_id)));
        let excess = self.expected.len().saturating_sub(EXPECTED_MAX);
        self.expected.drain(..excess);
    }

    /// Whether the user is known to be gone, without asking the origin.
    pub fn is_dead(&self, now: Moment) -> bool {
        rules::is_on(Rule::DeadUserIsUnknown) && self.dead_at.is_some_and(|at| now <= at + DEAD_FOR)
    }

    /// Whether a token issued at this second is dead: the user is gone, or was banned after it.
    pub fn ends_token(&self, issued_at: i64) -> bool {
        self.dead_at.is_some() || self.tokens_until.is_some_and(|until| issued_at <= until)
    }
}

/// What one change adds to memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Of a membership.
    Membership(MembershipId, MembershipFact),
    /// Of an organization.
    Organization(OrganizationId, OrganizationFact),
    /// Of a user.
    User(UserId, UserFact),
    /// Of a session.
    Session(SessionId, SessionEnded),
}

/// The facts in a change that passed at `at`.
pub fn facts_of(change: &Change, at: Moment) -> Vec<Fact> {
    let changed = |user: &UserId| Fact::User(user.clone(), UserFact { changed_at: Some(at), ..UserFact::default() });
    let organization = |id: &OrganizationId, fact| Fact::Organization(id.clone(), fact);
    let mut facts: Vec<Fact> = change.users().iter().map(changed).collect();
    match change {
        Change::MembershipCreated { membership, user } => {
            let expected = vec![(membership.clone(), at)];
            facts.extend(
                user.iter().map(|user| Fact::User(user.clone(), UserFact { expected: expected.clone(), ..UserFact::default() })),
            );
        }
        Change::MembershipUpdated { membership, role, updated_at, .. } => {
            facts.push(Fact::Membership(
                membership.clone(),
                MembershipFact { role: Some((*updated_at, role.clone())), dead_at: None },
            ));
        }
        Change::MembershipDeleted { membership, .. } => {
            facts.push(Fact::Membership(membership.clone(), MembershipFact { dead_at: Some(at), role: None }));
        }
        Change::UserDeleted { user } => {
            facts.push(Fact::User(user.clone(), UserFact { dead_at: Some(at), ..UserFact::default() }))
        }
        Change::OrganizationUpdated { organization: id, name, slug, image_url, updated_at } => {
            let profile =
                Profile { updated_at: *updated_at, name: name.clone(), slug: slug.clone(), image_url: image_url.clone() };
            facts.push(organization(id, OrganizationFact { profile: Some(profile), ..OrganizationFact::default() }));
        }
        Change::OrganizationDeleted { organization: id } => {
            facts.push(organization(id, OrganizationFact { dead_at: Some(at), ..OrganizationFact::default() }));
        }
        Change::Evicted { organizations, .. } => {
            let doubted = OrganizationFact { doubted_at: Some(at), ..OrganizationFact::default() };
            facts.extend(organizations.iter().map(|id| organization(id, doubted.clone())));
        }
        Change::UserBanned { user, tokens_until } => {
            let banned = UserFact { tokens_until: Some(*tokens_until), ..UserFact::default() };
            facts.push(Fact::User(user.clone(), banned));
        }
        Change::SessionEnded { session, .. } => facts.push(Fact::Session(session.clone(), SessionEnded)),
        Change::UserCreated { .. } | Change::AllEvicted => {}
    }
    facts
}

/// Where facts are looked up.
pub trait Remembered {
    /// Of a membership.
    fn membership(&self, id: &MembershipId) -> Option<&MembershipFact>;
    /// Of an organization.
    fn organization(&self, id: &OrganizationId) -> Option<&OrganizationFact>;
    /// Of a user.
    fn user(&self, id: &UserId) -> Option<&UserFact>;
}

/// What the facts made of a reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outranked {
    /// Something was dropped or replaced.
    pub is_corrected: bool,
    /// The reading names an organization that is in doubt: it is no answer.
    pub is_void: bool,
    /// The reading lacks a membership that was announced: it is kept only briefly.
    pub lacks_expected: bool,
    /// Rows believed although a deletion of them is remembered, because the reading began long after it.
    pub believed: usize,
}

/// Applies the facts to a reading of `user` that began at `as_of`.
pub fn outrank(user: &UserId, as_of: Moment, memberships: &mut Vec<Membership>, facts: &impl Remembered) -> Outranked {
    let mut outcome = Outranked::default();
    memberships.retain_mut(|membership| keep(membership, as_of, facts, &mut outcome));
    let expected = facts.user(user).filter(|_| rules::is_on(Rule::KeptBrieflyWithoutExpected));
    outcome.lacks_expected = expected.is_some_and(|fact| {
        let is_missing = |id: &MembershipId| {
            let is_there = memberships.iter().any(|membership| membership.membership_id == *id);
            !is_there && facts.membership(id).is_none_or(|fact| fact.dead_at.is_none())
        };
        fact.expected.iter().any(|(id, at)| as_of <= *at + EXPECTED_FOR && is_missing(id))
    });
    outcome
}

/// Corrects one row; false drops it.
fn keep(membership: &mut Membership, as_of: Moment, facts: &impl Remembered, outcome: &mut Outranked) -> bool {
    let mut is_dead = false;
    if let Some(fact) = facts.membership(&membership.membership_id) {
        is_dead |= rules::is_on(Rule::DeadMembershipIsDropped) && buries(fact.dead_at, as_of, outcome);
        let role = fact.role.as_ref().filter(|_| rules::is_on(Rule::NewerRoleReplaces));
        let is_newer = |updated_at: i64| updated_at > membership.updated_at || !rules::is_on(Rule::OlderRoleLoses);
        if let Some((updated_at, role)) = role.filter(|(updated_at, _)| is_newer(*updated_at)) {
            membership.role.clone_from(role);
            membership.updated_at = *updated_at;
            outcome.is_corrected = true;
        }
    }
    if let Some(fact) = facts.organization(&membership.organization_id) {
        is_dead |= rules::is_on(Rule::DeadOrganizationIsDropped) && buries(fact.dead_at, as_of, outcome);
        outcome.is_void |= rules::is_on(Rule::DoubtedOrganizationIsVoid) && fact.doubted_at.is_some_and(|at| as_of <= at);
        let profile = fact.profile.as_ref().filter(|_| rules::is_on(Rule::NewerProfileReplaces));
        if let Some(profile) = profile.filter(|profile| profile.updated_at > membership.organization_updated_at) {
            membership.organization_name.clone_from(&profile.name);
            membership.organization_slug.clone_from(&profile.slug);
            membership.image_url.clone_from(&profile.image_url);
            membership.organization_updated_at = profile.updated_at;
            outcome.is_corrected = true;
        }
    }
    outcome.is_corrected |= is_dead;
    !is_dead
}

/// Whether a deletion outranks a reading; one that began long after it is believed, and counted.
fn buries(dead_at: Option<Moment>, as_of: Moment, outcome: &mut Outranked) -> bool {
    let Some(at) = dead_at else { return false };
    let is_outranked = as_of <= at || (as_of <= at + DEAD_FOR && rules::is_on(Rule::DeadOutranksForAWhile));
    outcome.believed += usize::from(!is_outranked);
    is_outranked
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What was heard, whoever compares or corrects with it.
    #[derive(Default)]
    pub(in crate::protocol) struct Memory {
        memberships: HashMap<MembershipId, MembershipFact>,
        organizations: HashMap<OrganizationId, OrganizationFact>,
        users: HashMap<UserId, UserFact>,
    }

    impl Memory {
        pub(in crate::protocol) fn of(changes: &[(Change, u64)]) -> Self {
            let mut memory = Self::default();
            for (change, at) in changes {
                for fact in facts_of(change, Moment::from_micros(*at)) {
                    match fact {
                        Fact::Membership(id, fact) => memory.memberships.entry(id).or_default().merge(fact),
                        Fact::Organization(id, fact) => memory.organizations.entry(id).or_default().merge(fact),
                        Fact::User(id, fact) => memory.users.entry(id).or_default().merge(fact),
                        Fact::Session(..) => {}
                    }
                }
            }
            memory
        }
    }

    impl Remembered for Memory {
        fn membership(&self, id: &MembershipId) -> Option<&MembershipFact> {
            self.memberships.get(id)
        }
        fn organization(&self, id: &OrganizationId) -> Option<&OrganizationFact> {
            self.organizations.get(id)
        }
        fn user(&self, id: &UserId) -> Option<&UserFact> {
            self.users.get(id)
        }
    }

    pub(in crate::protocol) fn user() -> UserId {
        UserId::parse("user_1").expect("id")
    }
    pub(in crate::protocol) fn mem(n: u64) -> MembershipId {
        MembershipId::parse(&format!("orgmem_{n}")).expect("id")
    }
    pub(in crate::protocol) fn org(n: u64) -> OrganizationId {
        OrganizationId::parse(&format!("org_{n}")).expect("id")
    }
    fn row(n: u64, role: &str, updated_at: i64) -> Membership {
        Membership {
            organization_id: org(n),
            organization_slug: Some(format!("s{n}")),
            organization_name: format!("N{n}"),
            role: role.into(),
            image_url: None,
            membership_id: mem(n),
            created_at: 0,
            updated_at,
            organization_updated_at: updated_at,
        }
    }
    const MINUTE: u64 = 60_000_000;

    fn check(changes: &[(Change, u64)], as_of: u64, expected: &[(u64, &str)]) -> Outranked {
        let mut rows = vec![row(1, "member", 10), row(2, "member", 10)];
        let outcome = outrank(&user(), Moment::from_micros(as_of), &mut rows, &Memory::of(changes));
        let got: Vec<_> = rows.iter().map(|row| (row.organization_id.clone(), row.role.as_str())).collect();
        let expected: Vec<_> = expected.iter().map(|(n, role)| (org(*n), *role)).collect();
        assert_eq!(got, expected);
        outcome
    }

    #[test]
    fn a_deletion_outranks_readings_begun_before_it_and_a_quarter_of_an_hour_after() {
        let deleted = [(Change::MembershipDeleted { membership: mem(1), user: Some(user()) }, 100)];
        check(&deleted, 99, &[(2, "member")]);
        check(&deleted, 100 + 15 * MINUTE, &[(2, "member")]);
        let outcome = check(&deleted, 101 + 15 * MINUTE, &[(1, "member"), (2, "member")]);
        assert_eq!((outcome.believed, outcome.is_corrected), (1, false));
        check(&[(Change::OrganizationDeleted { organization: org(2) }, 100)], 99, &[(1, "member")]);
    }

    #[test]
    fn a_role_replaces_only_an_older_one() {
        let role = |updated_at| {
            [(Change::MembershipUpdated { membership: mem(1), user: Some(user()), role: "admin".into(), updated_at }, 100)]
        };
        assert!(check(&role(11), 500, &[(1, "admin"), (2, "member")]).is_corrected);
        assert!(!check(&role(10), 500, &[(1, "member"), (2, "member")]).is_corrected);
    }

    #[test]
    fn an_organization_in_doubt_voids_older_readings_that_name_it() {
        let doubted = [(Change::Evicted { users: vec![], organizations: vec![org(1)] }, 100)];
        assert!(check(&doubted, 99, &[(1, "member"), (2, "member")]).is_void);
        assert!(!check(&doubted, 101, &[(1, "member"), (2, "member")]).is_void);
        let other = [(Change::Evicted { users: vec![], organizations: vec![org(9)] }, 100)];
        assert!(!check(&other, 99, &[(1, "member"), (2, "member")]).is_void);
    }

    #[test]
    fn a_reading_without_an_announced_membership_is_kept_only_briefly() {
        let created = |n| (Change::MembershipCreated { membership: mem(n), user: Some(user()) }, 100);
        let both = [(1, "member"), (2, "member")];
        assert!(check(&[created(3)], 99, &both).lacks_expected);
        assert!(check(&[created(3)], 100 + MINUTE, &both).lacks_expected);
        assert!(!check(&[created(3)], 101 + MINUTE, &both).lacks_expected);
        assert!(!check(&[created(1)], 99, &both).lacks_expected);
        let deleted = (Change::MembershipDeleted { membership: mem(3), user: Some(user()) }, 90);
        assert!(!check(&[created(3), deleted], 99, &both).lacks_expected);
    }

    #[test]
    fn a_ban_ends_tokens_up_to_its_second_and_a_deletion_all_of_them() {
        let ban = |tokens_until| (Change::UserBanned { user: user(), tokens_until }, 100);
        let ends = |changes: &[(Change, u64)], issued_at| Memory::of(changes).users[&user()].ends_token(issued_at);
        for bans in [vec![ban(70)], vec![ban(70), ban(60)], vec![ban(60), ban(70)]] {
            assert!(ends(&bans, 70) && !ends(&bans, 71), "{bans:?}");
        }
        assert!(ends(&[ban(70), (Change::UserDeleted { user: user() }, 100)], i64::MAX));
        assert!(!ends(&[(Change::UserCreated { user: user() }, 100)], 0));
    }

    #[test]
    fn a_deleted_user_is_dead_for_a_quarter_of_an_hour() {
        let memory = Memory::of(&[(Change::UserDeleted { user: user() }, 100)]);
        let fact = &memory.users[&user()];
        assert!(fact.is_dead(Moment::from_micros(100 + 15 * MINUTE)));
        assert!(!fact.is_dead(Moment::from_micros(101 + 15 * MINUTE)));
    }
}
