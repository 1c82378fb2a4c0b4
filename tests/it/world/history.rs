//! What happened at the origin, when it was acknowledged, and whether an answer agrees with it. By the test's own clock,
//! which knows nothing of the nodes': a decision falls somewhere between the sending of a request and the arrival of its
//! answer, so only what was wrong through all of that time is held against it. An answer is also held to what it says of
//! itself, its age and its lag: whoever claims to be fresher than the bound is judged by the claim.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rollcall::dev::{AsOf, World as ClerkWorld};
use serde::Deserialize;

/// A refused newcomer is let in this long after joining, even if no webhook says so.
const NEW_SHOWS_AFTER: Duration = Duration::from_millis(1_100);
/// Ages and lags are told in whole milliseconds, rounded down.
const ROUNDING: Duration = Duration::from_millis(1);

/// Everything that happened.
#[derive(Debug)]
pub struct History {
    /// The staleness bound of the nodes.
    bound: Duration,
    events: Vec<When>,
    memberships: HashMap<String, Membership>,
    /// Names and slugs of an organization, in order.
    organizations: HashMap<String, Vec<Profile>>,
    users: HashMap<String, Option<Event>>,
    refusals: HashMap<(String, About), Vec<Instant>>,
}

/// A change at the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event(usize);

#[derive(Debug, Clone, Copy)]
struct When {
    began: Instant,
    done: Instant,
    /// When its webhook was first answered with 2xx.
    acknowledged: Option<Instant>,
}

#[derive(Debug)]
struct Membership {
    user: String,
    organization: String,
    granted: Event,
    /// Roles with the origin's time, in order.
    roles: Vec<(i64, String, Event)>,
    ended: Option<Event>,
}

#[derive(Debug)]
struct Profile {
    updated_at: i64,
    name: String,
    slug: Option<String>,
    since: Event,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum About {
    List,
    Id(String),
    Slug(String),
}

/// A question and its answer.
#[derive(Debug)]
pub struct Read {
    pub node: usize,
    pub user: String,
    pub about: About,
    /// The caller demanded a reading of the origin begun after the request.
    pub is_demanded: bool,
    /// The caller bears less than the bound.
    pub lag_max: Option<Duration>,
    pub began: Instant,
    pub ended: Instant,
    pub said: Said,
    /// What a decision said of itself.
    pub stamp: Option<Stamp>,
}

/// How long before the decision the reading began (nothing, when it began for this request), and how long before it the node
/// had read the stream to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub age: Duration,
    pub lag: Duration,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Rows(Vec<Row>),
    NotAMember,
    UserUnknown,
    /// "Could not find out".
    Nothing,
    /// The connection ended without an answer. Whatever was decided, nobody was told.
    Lost,
}

/// One membership, as answered and as it lies in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub organization_id: String,
    pub organization_slug: Option<String>,
    pub organization_name: String,
    pub role: String,
    pub membership_id: String,
    pub updated_at: i64,
    pub organization_updated_at: i64,
}

/// The memberships of a user as the origin has them now; none: no such user.
pub fn truth(world: &ClerkWorld, user: &str) -> Option<Vec<Row>> {
    let rows = world.memberships(user, AsOf::Now)?;
    let row = |row: &&rollcall::dev::Membership| {
        let organization = world.organization(&row.organization, AsOf::Now).expect("a living one");
        Row {
            organization_id: row.organization.clone(),
            organization_slug: organization.slug.clone(),
            organization_name: organization.name.clone(),
            role: row.role.clone(),
            membership_id: row.id.clone(),
            updated_at: row.updated_at,
            organization_updated_at: organization.updated_at,
        }
    };
    Some(rows.iter().map(row).collect())
}

impl History {
    /// As the world is before anything happens; everybody knows it.
    pub fn of(world: &ClerkWorld, users: &[String], organizations: &[String], bound: Duration) -> Self {
        let now = Instant::now();
        let mut history = Self {
            bound,
            events: vec![When { began: now, done: now, acknowledged: Some(now - bound * 2) }],
            memberships: HashMap::new(),
            organizations: HashMap::new(),
            users: HashMap::new(),
            refusals: HashMap::new(),
        };
        for id in organizations {
            history.called(Event(0), world, id);
        }
        for user in users {
            history.users.insert(user.clone(), None);
            for row in truth(world, user).expect("a user") {
                history.granted(Event(0), user, &row.organization_id, &row.membership_id, &row.role, row.updated_at);
            }
        }
        history
    }

    /// A change that began then and is made now.
    pub fn happened(&mut self, began: Instant) -> Event {
        self.events.push(When { began, done: Instant::now(), acknowledged: None });
        Event(self.events.len() - 1)
    }

    /// Its webhook was taken; the first time counts.
    pub fn acknowledge(&mut self, event: Event) {
        self.events[event.0].acknowledged.get_or_insert_with(Instant::now);
    }

    /// When the last event was acknowledged; none while one is not.
    pub fn all_acknowledged(&self) -> Option<Instant> {
        self.events.iter().map(|event| event.acknowledged).try_fold(self.events[0].done, |last, at| at.map(|at| last.max(at)))
    }

    /// A membership began.
    pub fn granted(&mut self, event: Event, user: &str, organization: &str, id: &str, role: &str, updated_at: i64) {
        let (user, organization) = (user.to_owned(), organization.to_owned());
        let roles = vec![(updated_at, role.to_owned(), event)];
        self.memberships.insert(id.to_owned(), Membership { user, organization, granted: event, roles, ended: None });
    }

    /// A member has another role.
    pub fn role_changed(&mut self, event: Event, id: &str, role: &str, updated_at: i64) {
        let membership = self.memberships.get_mut(id).expect("a membership");
        membership.roles.push((updated_at, role.to_owned(), event));
    }

    /// A membership ended.
    pub fn ended(&mut self, event: Event, id: &str) {
        self.memberships.get_mut(id).expect("a membership").ended.get_or_insert(event);
    }

    /// An organization came to be, or has another name or slug.
    pub fn called(&mut self, event: Event, world: &ClerkWorld, id: &str) {
        let row = world.organization(id, AsOf::Now).expect("an organization");
        let profile = Profile { updated_at: row.updated_at, name: row.name.clone(), slug: row.slug.clone(), since: event };
        self.organizations.entry(id.to_owned()).or_default().push(profile);
    }

    /// An organization ended, and all its memberships.
    pub fn organization_ended(&mut self, event: Event, id: &str) {
        self.end_all(event, |membership| membership.organization == id);
    }

    /// A user was deleted, with all memberships.
    pub fn user_ended(&mut self, event: Event, user: &str) {
        self.users.insert(user.to_owned(), Some(event));
        self.end_all(event, |membership| membership.user == user);
    }

    fn end_all(&mut self, event: Event, is_meant: impl Fn(&Membership) -> bool) {
        for membership in self.memberships.values_mut().filter(|membership| is_meant(membership)) {
            membership.ended.get_or_insert(event);
        }
    }

    /// What is wrong with these answers; nothing, when nothing is.
    pub fn judge(&mut self, reads: &[Read]) -> Vec<String> {
        // What was lost may have been a refusal, which the node remembers.
        for read in reads.iter().filter(|read| matches!(read.said, Said::NotAMember | Said::Lost)) {
            self.refusals.entry((read.user.clone(), read.about.clone())).or_default().push(read.began);
        }
        let judge = |read: &Read| self.judge_said(read).and_then(|()| self.judge_stamp(read));
        reads.iter().filter_map(|read| judge(read).err().map(|what| self.explain(&what, read))).collect()
    }

    /// How long after its acknowledgement the end of a membership was longest unknown to an answer.
    pub fn latest_yes(&self, reads: &[Read]) -> Duration {
        let late = |read: &Read, row: &Row| {
            let ended = self.memberships.get(&row.membership_id)?.ended?;
            Some(read.began.saturating_duration_since(self.events[ended.0].acknowledged?))
        };
        let of_read = |read: &Read| match &read.said {
            Said::Rows(rows) => rows.iter().filter_map(|row| late(read, row)).max(),
            Said::NotAMember | Said::UserUnknown | Said::Nothing | Said::Lost => None,
        };
        reads.iter().filter_map(of_read).max().unwrap_or_default()
    }

    fn judge_said(&self, read: &Read) -> Result<(), String> {
        let died = self.users[&read.user];
        match &read.said {
            Said::Nothing | Said::Lost => Ok(()),
            Said::UserUnknown => {
                check(died.is_some_and(|event| self.may_show(event, read)), || "a living user is unknown".into())
            }
            Said::NotAMember | Said::Rows(_) if died.is_some_and(|event| self.must_show(event, read)) => {
                Err("a deleted user is known".into())
            }
            Said::NotAMember => self.judge_no(read),
            Said::Rows(rows) => {
                rows.iter().try_for_each(|row| self.judge_row(read, row))?;
                match read.about {
                    About::List => self.judge_gaps(read, rows),
                    About::Id(_) | About::Slug(_) => check(rows.len() == 1, || "a check answers one row".into()),
                }
            }
        }
    }

    /// No answer says of itself that it is past the bound, unless the node stood still between the decision and its words.
    fn judge_stamp(&self, read: &Read) -> Result<(), String> {
        let Some(stamp) = read.stamp else { return Ok(()) };
        let took = read.ended - read.began;
        let lag_max = self.lag_max(read) + took + ROUNDING;
        check(stamp.age.min(stamp.lag) <= lag_max, || "past the bound, in its own words".into())
    }

    fn judge_row(&self, read: &Read, row: &Row) -> Result<(), String> {
        let is_asked = match &read.about {
            About::List => true,
            About::Id(id) => row.organization_id == *id,
            About::Slug(slug) => row.organization_slug.as_ref() == Some(slug),
        };
        check(is_asked, || "not what was asked for".into())?;
        let membership = self.memberships.get(&row.membership_id).ok_or("a membership that never was")?;
        let is_whose = membership.user == read.user && membership.organization == row.organization_id;
        check(is_whose && self.may_show(membership.granted, read), || "somebody else's, or before it began".into())?;
        if let Some(ended) = membership.ended {
            check(!self.must_show(ended, read), || format!("a late yes: it ended by {}", self.tell(ended)))?;
        }
        let at = membership.roles.iter().position(|(at, role, _)| (*at, role) == (row.updated_at, &row.role));
        let at = at.ok_or("a role that never was")?;
        let later = membership.roles[at + 1..].iter().find(|(_, _, event)| self.must_show(*event, read));
        check(later.is_none(), || format!("a late role: {later:?}, {}", self.tell_of(later.map(|(_, _, event)| *event))))?;
        let profiles = &self.organizations[&row.organization_id];
        let is_called = |profile: &Profile| {
            profile.updated_at == row.organization_updated_at
                && profile.name == row.organization_name
                && profile.slug == row.organization_slug
        };
        let at = profiles.iter().position(is_called).ok_or("a name that never was")?;
        let later = profiles[at + 1..].iter().find(|profile| self.must_show(profile.since, read));
        check(later.is_none(), || format!("a late name: {later:?}, {}", self.tell_of(later.map(|profile| profile.since))))
    }

    /// A membership that lasted through the read, and that had to be known, is in the list.
    fn judge_gaps(&self, read: &Read, rows: &[Row]) -> Result<(), String> {
        let is_missing = |(id, membership): &(&String, &Membership)| {
            let is_listed = rows.iter().any(|row| row.membership_id == **id);
            !is_listed && self.lasts(membership, read) && self.must_show(membership.granted, read)
        };
        let missing = self.of_user(&read.user).find(is_missing);
        check(missing.is_none(), || format!("a gap: {missing:?}, {}", self.tell_of(missing.map(|(_, row)| row.granted))))
    }

    fn judge_no(&self, read: &Read) -> Result<(), String> {
        let is_denied = |(_, membership): &(&String, &Membership)| {
            let is_asked = match &read.about {
                About::List => false,
                About::Id(id) => membership.organization == *id,
                About::Slug(slug) => self.is_called(&membership.organization, slug, read),
            };
            is_asked && self.lasts(membership, read) && self.must_admit(membership.granted, read)
        };
        let denied = self.of_user(&read.user).find(is_denied);
        check(denied.is_none(), || format!("a false no: {denied:?}, {}", self.tell_of(denied.map(|(_, row)| row.granted))))
    }

    /// Whether the organization has this slug through the read, and that had to be known.
    fn is_called(&self, organization: &str, slug: &str, read: &Read) -> bool {
        let profiles = &self.organizations[organization];
        profiles.iter().enumerate().any(|(at, profile)| {
            let lasts = profiles.get(at + 1).is_none_or(|next| self.events[next.since.0].began > read.ended);
            profile.slug.as_deref() == Some(slug) && lasts && self.must_admit(profile.since, read)
        })
    }

    fn of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (&'a String, &'a Membership)> {
        self.memberships.iter().filter(move |(_, membership)| membership.user == user)
    }

    fn lasts(&self, membership: &Membership, read: &Read) -> bool {
        membership.ended.is_none_or(|event| self.events[event.0].began > read.ended)
    }

    fn may_show(&self, event: Event, read: &Read) -> bool {
        self.events[event.0].began <= read.ended
    }

    /// Whether every decision of this read had to know of the event: it was acknowledged longer ago than the caller bears, or
    /// than the answer admits; or the origin was asked after it.
    fn must_show(&self, event: Event, read: &Read) -> bool {
        let when = &self.events[event.0];
        let was_known = |lag: Duration| when.acknowledged.is_some_and(|at| at + lag < read.began);
        let was_read = |age: Duration| when.done + age < read.began;
        let by_its_words = read.stamp.is_some_and(|stamp| was_known(stamp.lag + ROUNDING) || was_read(stamp.age + ROUNDING));
        was_known(self.lag_max(read)) || (read.is_demanded && was_read(Duration::ZERO)) || by_its_words
    }

    /// How far behind the answer may be.
    fn lag_max(&self, read: &Read) -> Duration {
        read.lag_max.map_or(self.bound, |lag_max| lag_max.min(self.bound))
    }

    /// Whether a "no" had to know of it: also soon after it happened, unless the same was refused before.
    fn must_admit(&self, event: Event, read: &Read) -> bool {
        let done = self.events[event.0].done;
        let refusals = self.refusals.get(&(read.user.clone(), read.about.clone()));
        let was_refused = refusals.is_some_and(|refusals| refusals.iter().any(|at| *at < done));
        self.must_show(event, read) || (!was_refused && done + NEW_SHOWS_AFTER < read.began)
    }

    /// When the history begins.
    pub fn began(&self) -> Instant {
        self.events[0].done
    }

    fn explain(&self, what: &str, read: &Read) -> String {
        let [asked, told] = [read.began, read.ended].map(|at| at - self.began());
        format!("node {}, asked after {asked:?}, told after {told:?}: {what}\n    in {read:?}", read.node)
    }

    fn tell_of(&self, event: Option<Event>) -> String {
        event.map_or_else(String::new, |event| self.tell(event))
    }

    /// An event, by the time since the beginning.
    fn tell(&self, event: Event) -> String {
        let when = &self.events[event.0];
        let since = |at: Instant| at - self.began();
        format!("event {}, done after {:?}, acknowledged after {:?}", event.0, since(when.done), when.acknowledged.map(since))
    }
}

fn check(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}

/// A checker that finds nothing proves nothing.
#[cfg(test)]
mod tests {
    use rollcall::dev::{NewOrganization, NewUser};

    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    /// One user, a member of one organization until an event that was acknowledged at once.
    fn ended() -> (History, Row, Instant) {
        let mut world = ClerkWorld::new();
        world.create_user(NewUser { id: Some("user_1".to_owned()), ..NewUser::default() }).expect("a user");
        let new = NewOrganization { id: Some("org_1".to_owned()), name: "One".to_owned(), slug: None, created_by: None };
        world.create_organization(new).expect("an organization");
        world.grant("user_1", "org_1", "org:member").expect("a member");
        let row = truth(&world, "user_1").expect("a user").remove(0);
        let mut history = History::of(&world, &["user_1".to_owned()], &["org_1".to_owned()], BOUND);
        let event = history.happened(Instant::now());
        history.acknowledge(event);
        history.ended(event, &row.membership_id);
        (history, row, Instant::now())
    }

    #[track_caller]
    fn check(history: &mut History, about: About, is_demanded: bool, began: Instant, said: Said, expected: &str) {
        check_stamped(history, about, is_demanded, began, (said, None), expected);
    }

    #[track_caller]
    fn check_stamped(
        history: &mut History,
        about: About,
        is_demanded: bool,
        began: Instant,
        (said, stamp): (Said, Option<Stamp>),
        expected: &str,
    ) {
        let read =
            Read { node: 0, user: "user_1".to_owned(), about, is_demanded, lag_max: None, began, ended: began, said, stamp };
        let wrong = history.judge(&[read]);
        assert!(wrong.iter().all(|wrong| !expected.is_empty() && wrong.contains(expected)), "{wrong:?}");
        assert_eq!(wrong.is_empty(), expected.is_empty(), "{expected}");
    }

    #[test]
    fn a_yes_is_right_until_the_bound_has_passed() {
        let (mut history, row, at) = ended();
        let yes = || Said::Rows(vec![row.clone()]);
        let id = || About::Id("org_1".to_owned());
        check(&mut history, id(), false, at + BOUND / 2, yes(), "");
        check(&mut history, id(), false, at + BOUND * 2, yes(), "a late yes");
        check(&mut history, About::List, false, at + BOUND * 2, yes(), "a late yes");
        check(&mut history, id(), true, at + BOUND / 2, yes(), "a late yes");
        check(&mut history, About::Id("org_2".to_owned()), false, at, yes(), "not what was asked for");
        check(
            &mut history,
            id(),
            false,
            at,
            Said::Rows(vec![Row { role: "org:admin".to_owned(), ..row.clone() }]),
            "a role that",
        );
    }

    #[test]
    fn a_no_is_wrong_while_the_membership_lasts() {
        let (mut history, row, at) = ended();
        let id = || About::Id("org_1".to_owned());
        check(&mut history, id(), false, at, Said::NotAMember, "");
        check(&mut history, id(), false, at, Said::UserUnknown, "a living user");
        history.memberships.get_mut(&row.membership_id).expect("it is there").ended = None;
        check(&mut history, id(), false, at, Said::NotAMember, "a false no");
        check(&mut history, About::List, false, at, Said::Rows(vec![]), "a gap");
        check(&mut history, About::List, false, at, Said::Rows(vec![row]), "");
    }

    #[test]
    fn an_answer_is_held_to_its_own_age_and_lag() {
        let (mut history, row, at) = ended();
        let mut check = |age_ms, lag_ms, expected: &str| {
            let stamp = Stamp { age: Duration::from_millis(age_ms), lag: Duration::from_millis(lag_ms) };
            let yes = (Said::Rows(vec![row.clone()]), Some(stamp));
            check_stamped(&mut history, About::List, false, at + BOUND / 2, yes, expected);
        };
        check(60_000, 600, "");
        check(60_000, 400, "a late yes");
        check(400, 60_000, "a late yes");
        check(0, 60_000, "a late yes");
        check(60_000, 1_100, "in its own words");
    }
}
