//! What happened at the origin, when it was acknowledged, and whether an answer agrees with it. By the test's own clock,
//! which knows nothing of the nodes': a decision falls somewhere between the sending of a request and the arrival of its
//! answer, so only what was wrong through all of that time is held against it. An answer is also held to what it says of
//! itself, its age and its lag: whoever claims to be fresher than the bound is judged by the claim; and whose link was cut
//! cannot have read the stream meanwhile, whatever it claims.

mod judge;
mod notes;
mod stamps;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rollcall::dev::{AsOf, World as ClerkWorld};
use serde::Deserialize;

pub use self::values::Value;

/// Everything that happened.
#[derive(Debug)]
pub struct History {
    /// The staleness bound of the nodes.
    bound: Duration,
    events: Vec<When>,
    memberships: HashMap<String, Membership>,
    /// Names and slugs of an organization, in order.
    organizations: HashMap<String, Vec<Profile>>,
    /// Organizations that ended.
    dissolved: HashMap<String, Event>,
    users: HashMap<String, Life>,
    /// When the same was first refused.
    refusals: HashMap<(String, About), Instant>,
    /// How old a reading may be, and how much older in grace.
    ages_max: Option<(Duration, Duration)>,
    /// Readings of the origin may be this far behind.
    origin_lag: Duration,
    /// When nodes had no link to Redis.
    cuts: Vec<Cut>,
}

/// When a user came and went, and every membership there was.
#[derive(Debug)]
struct Life {
    born: Event,
    died: Option<Event>,
    memberships: Vec<String>,
}

#[derive(Debug)]
struct Cut {
    node: usize,
    from: Instant,
    to: Instant,
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
    /// In this role.
    pub role: Option<String>,
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
    /// Of the whole answer, of which this may be one item of many: `Rollcall-Age` and, in whole seconds, `Age`.
    pub oldest: Duration,
    pub oldest_seconds: u64,
    /// It is given because the origin could not be asked.
    pub is_grace: bool,
    /// The lag is the greatest of many items, and may be another's.
    pub is_one_of_many: bool,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Rows(Vec<Row>),
    NotAMember,
    RoleMissing,
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
            dissolved: HashMap::new(),
            users: HashMap::new(),
            refusals: HashMap::new(),
            ages_max: None,
            origin_lag: Duration::ZERO,
            cuts: Vec::new(),
        };
        organizations.iter().for_each(|id| history.note_organization(Event(0), world, id));
        users.iter().for_each(|user| history.note_user(Event(0), world, user));
        history
    }

    /// No reading is older than this, and in grace not older than both together.
    pub fn limit_ages(&mut self, ttl: Duration, grace: Duration) {
        self.ages_max = Some((ttl, grace));
    }

    /// The origin may answer with what was true this long ago.
    pub fn let_origin_lag(&mut self, lag: Duration) {
        self.origin_lag = lag;
    }

    /// From now on the origin answers with what is true; nothing was ever further behind than the first change is past.
    pub fn end_origin_lag(&mut self) {
        self.origin_lag = self.events.get(1).map_or(Duration::ZERO, |first| first.done.elapsed());
    }

    /// When a list that lacks something for no other reason than that the origin lagged is wrong.
    pub fn gaps_end(&self) -> Instant {
        self.events.iter().map(|event| event.done).max().expect("the beginning") + self.origin_lag + judge::GAPS_LAST
    }

    /// Nothing came through from Redis to this node in this time.
    pub fn cut(&mut self, node: usize, from: Instant, to: Instant) {
        self.cuts.push(Cut { node, from, to });
    }

    /// Everybody who ever was.
    pub fn users(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
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

    /// Whoever had this user read again may rely on all that had happened to him by then.
    pub fn acknowledge_all_of(&mut self, user: &str, then: Instant) {
        let Some(life) = self.users.get(user) else { return };
        let memberships = life.memberships.iter().map(|id| &self.memberships[id]);
        // The end of an organization is everybody's who was in it.
        let own_end = |row: &Membership| row.ended.filter(|end| self.dissolved.get(&row.organization) != Some(end));
        let of_membership =
            |row: &Membership| [row.roles.iter().map(|role| role.2).collect(), Vec::from_iter(own_end(row))].concat();
        let events: Vec<_> = memberships.flat_map(of_membership).chain(life.died).collect();
        for event in events {
            let when = &mut self.events[event.0];
            if when.done <= then {
                when.acknowledged.get_or_insert_with(Instant::now);
            }
        }
    }

    /// When an event was last acknowledged.
    pub fn last_acknowledged(&self) -> Instant {
        self.events.iter().filter_map(|event| event.acknowledged).max().expect("the beginning is known")
    }

    /// How many events were acknowledged, and the memberships of living users that ended with one of them.
    pub fn acknowledged(&self) -> (usize, Vec<String>) {
        let is_known = |event: Event| self.events[event.0].acknowledged.is_some();
        let has_ended = |row: &Membership| row.ended.is_some_and(is_known) && self.users[&row.user].died.is_none();
        let ended = self.memberships.iter().filter(|(_, membership)| has_ended(membership));
        let count = self.events.iter().filter(|event| event.acknowledged.is_some()).count();
        (count, ended.map(|(id, _)| id.clone()).collect())
    }

    /// When the last event was acknowledged; none while one is not.
    pub fn all_acknowledged(&self) -> Option<Instant> {
        self.events.iter().map(|event| event.acknowledged).try_fold(self.events[0].done, |last, at| at.map(|at| last.max(at)))
    }

    /// When the history begins.
    pub fn began(&self) -> Instant {
        self.events[0].began
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
