//! What this node remembers of the change stream. Upholds I3, I4, I12.
//!
//! One lock, taken to write by the stream's reader and the intake, to read by what is past the local tier; a hit only loads
//! one counter. Facts are merged, never replaced, and go after 30 minutes, or sooner when there are a million: then a
//! reading that began before the youngest one lost is no answer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

use prometheus_client::metrics::counter::Counter;

use super::sync::{AtomicU64, Ordering, RandomState, RwLock};
use crate::domain::{Change, Membership, MembershipId, Moment, OrganizationId, SessionId, UserId};
use crate::protocol::difference::{self, Compared};
use crate::protocol::facts::{
    FACTS_WINDOW, Fact, MembershipFact, OrganizationFact, Outranked, Remembered, SessionEnded, UserFact, facts_of, outrank,
};
use crate::protocol::rules::{self, Rule};

/// Facts kept at most.
const FACTS_MAX: usize = 1_000_000;

type Map<K, V> = HashMap<K, (Moment, V), RandomState>;

/// The facts of this node, and the counters that entries carry.
#[derive(Debug)]
pub struct Facts {
    /// Guards the maps and their queue; held for one merge or one look-up, never over an await.
    memory: RwLock<Memory>,
    /// Moves whenever local entries must look at the facts once more.
    generation: AtomicU64,
    /// Moves whenever local entries must pass the shared tier once more.
    standing: AtomicU64,
    /// Readings begun before this may be from before a lost history.
    doubted_before: AtomicU64,
    facts_max: usize,
    pub(super) lost: Counter,
    pub(super) believed: Counter,
}

#[derive(Debug, Default)]
struct Memory {
    memberships: Map<MembershipId, MembershipFact>,
    organizations: Map<OrganizationId, OrganizationFact>,
    users: Map<UserId, UserFact>,
    sessions: Map<SessionId, SessionEnded>,
    /// Each key once, by when it was first or last looked at; a key merged since goes to the back instead of out.
    order: VecDeque<(Moment, Key)>,
    /// Readings begun before this may have been outranked by a fact that is gone.
    floor: Moment,
}

/// What is remembered of a user and of some memberships and organizations: for an operator.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Of the user.
    pub user: Option<UserFact>,
    /// Of the memberships.
    pub memberships: Vec<(MembershipId, MembershipFact)>,
    /// Of their organizations.
    pub organizations: Vec<(OrganizationId, OrganizationFact)>,
    /// Readings begun before this are no answers, if any are not.
    pub doubted_before: Option<Moment>,
}

#[derive(Debug, Clone)]
enum Key {
    Membership(MembershipId),
    Organization(OrganizationId),
    User(UserId),
    Session(SessionId),
}

/// What the facts say of a session token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStanding {
    /// Nothing that ends it was heard.
    Alive,
    /// Its session ended, or its user is gone or was banned.
    Dead,
    /// What would end it may have been lost: nobody can say.
    InDoubt,
}

impl Default for Facts {
    fn default() -> Self {
        Self::bounded(FACTS_MAX)
    }
}

impl Facts {
    /// The same with a limit of its own.
    pub(super) fn bounded(facts_max: usize) -> Self {
        Self {
            memory: RwLock::default(),
            generation: AtomicU64::new(0),
            standing: AtomicU64::new(0),
            doubted_before: AtomicU64::new(0),
            facts_max,
            lost: Counter::default(),
            believed: Counter::default(),
        }
    }

    /// Remembers what a change that passed at `at` says; then, if it names no user, moves the counter.
    pub fn remember(&self, change: &Change, at: Moment) {
        let merge = || self.merge(facts_of(change, at), at);
        let count = || {
            if change.is_unfiled() && rules::is_on(Rule::UnfiledFactMovesCounter) {
                self.generation.fetch_add(1, Ordering::Release);
            }
        };
        rules::in_order(Rule::FactBeforeCounter, merge, count);
    }

    fn merge(&self, facts: Vec<Fact>, at: Moment) {
        if facts.is_empty() {
            return;
        }
        let mut memory = self.memory.write().expect("nothing panics while it is held");
        for fact in facts {
            memory.merge(fact, at);
        }
        self.lost.inc_by(memory.expire(at, self.facts_max));
    }

    /// Local entries must pass the shared tier once more.
    pub fn clear_standing(&self) {
        self.standing.fetch_add(1, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Readings begun before `since` are no answers; zero lifts it. Where more comes into doubt, every entry is looked at once
    /// more; where doubt is lifted, those that were doubted still will be.
    pub fn doubt_before(&self, since: Moment) {
        let since = if rules::is_on(Rule::DoubtAfterLostHistory) { since } else { Moment::ZERO };
        if self.doubted_before.swap(since.as_micros(), Ordering::AcqRel) < since.as_micros() {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes that passed before `at` may be unknown for good: readings begun before it are no answers, and every entry is
    /// looked at once more.
    pub fn miss_before(&self, at: Moment) {
        {
            let mut memory = self.memory.write().expect("nothing panics while it is held");
            memory.floor = memory.floor.max(at);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The counter that an entry must carry to be hit. Loaded after the fence and before the entry.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The counter that an entry must carry to be used without passing the shared tier.
    pub fn standing(&self) -> u64 {
        self.standing.load(Ordering::Acquire)
    }

    /// Whether a reading begun at `as_of` may be an answer at all, as far as lost history and lost facts go.
    pub fn may_trust(&self, as_of: Moment) -> bool {
        as_of >= self.doubted_before() && as_of >= self.memory.read().expect("nothing panics while it is held").floor
    }

    /// What is known of a token that was issued at this second, at `as_of` by this node's clock: a reading of its session
    /// like any other, which an end heard before or after it outranks.
    pub fn token_standing(&self, user: &UserId, session: &SessionId, issued_at: i64, as_of: Moment) -> TokenStanding {
        // Doubt is lifted after what was lost is put back: seen lifted, the facts below hold it. The floor is of the same moment
        // as the maps, for it rises as facts go.
        let doubted_before = self.doubted_before();
        let memory = self.memory.read().expect("nothing panics while it is held");
        if memory.sessions.contains_key(session) || memory.user(user).is_some_and(|fact| fact.ends_token(issued_at)) {
            return TokenStanding::Dead;
        }
        match as_of >= doubted_before && as_of >= memory.floor {
            true => TokenStanding::Alive,
            false => TokenStanding::InDoubt,
        }
    }

    /// When the user died, if that is remembered and still outranks the origin.
    pub fn dead_since(&self, user: &UserId, now: Moment) -> Option<Moment> {
        let memory = self.memory.read().expect("nothing panics while it is held");
        memory.user(user).filter(|fact| fact.is_dead(now)).and_then(|fact| fact.dead_at)
    }

    /// Whether a change of the user is remembered that a shared reading begun at `as_of` does not know.
    pub fn has_changed_since(&self, user: &UserId, as_of: Moment) -> bool {
        let memory = self.memory.read().expect("nothing panics while it is held");
        let changed_at = memory.user(user).and_then(|fact| fact.changed_at);
        rules::is_on(Rule::SharedValueBegunBeforeAChangeIsAMiss) && changed_at.is_some_and(|at| as_of <= at)
    }

    /// Applies the facts to a reading.
    pub fn apply(&self, user: &UserId, as_of: Moment, memberships: &mut Vec<Membership>) -> Outranked {
        let memory = self.memory.read().expect("nothing panics while it is held");
        let outranked = outrank(user, as_of, memberships, &*memory);
        self.believed.inc_by(outranked.believed as u64);
        outranked
    }

    /// What is remembered of the user, of these memberships and of their organizations, and of one more that none of them names.
    pub fn recall<'a>(
        &self,
        user: &UserId,
        rows: impl Iterator<Item = &'a Membership>,
        organization: Option<&OrganizationId>,
    ) -> Recalled {
        let (memberships, mut organizations): (BTreeSet<_>, BTreeSet<_>) =
            rows.map(|row| (row.membership_id.clone(), row.organization_id.clone())).unzip();
        organizations.extend(organization.cloned());
        let memory = self.memory.read().expect("nothing panics while it is held");
        let doubted_before = self.doubted_before().max(memory.floor);
        let membership = |id: MembershipId| memory.membership(&id).cloned().map(|fact| (id, fact));
        let organization = |id: OrganizationId| memory.organization(&id).cloned().map(|fact| (id, fact));
        Recalled {
            user: memory.user(user).cloned(),
            memberships: memberships.into_iter().filter_map(membership).collect(),
            organizations: organizations.into_iter().filter_map(organization).collect(),
            doubted_before: Some(doubted_before).filter(|at| *at > Moment::ZERO),
        }
    }

    /// Compares a list with a later reading of the user, both under the facts of this moment.
    pub fn compare(
        &self,
        user: &UserId,
        earlier: (Moment, Vec<Membership>),
        later: (Moment, Option<Vec<Membership>>),
    ) -> Compared {
        let memory = self.memory.read().expect("nothing panics while it is held");
        difference::compare(user, earlier, later, &*memory)
    }

    /// Whether readings from before a lost history are doubted.
    pub fn has_doubts(&self) -> bool {
        self.doubted_before() > Moment::ZERO
    }

    fn doubted_before(&self) -> Moment {
        Moment::from_micros(self.doubted_before.load(Ordering::Acquire))
    }

    /// Facts held.
    pub fn len(&self) -> usize {
        let memory = self.memory.read().expect("nothing panics while it is held");
        memory.memberships.len() + memory.organizations.len() + memory.users.len() + memory.sessions.len()
    }
}

impl Memory {
    fn merge(&mut self, fact: Fact, at: Moment) {
        let new = match fact {
            Fact::Membership(id, fact) => {
                let key = || Key::Membership(id.clone());
                merged(&mut self.memberships, &id, at, |known| known.merge(fact)).then(key)
            }
            Fact::Organization(id, fact) => {
                let key = || Key::Organization(id.clone());
                merged(&mut self.organizations, &id, at, |known| known.merge(fact)).then(key)
            }
            Fact::User(id, fact) => {
                let key = || Key::User(id.clone());
                merged(&mut self.users, &id, at, |known| known.merge(fact)).then(key)
            }
            Fact::Session(id, SessionEnded) => {
                let key = || Key::Session(id.clone());
                merged(&mut self.sessions, &id, at, |_| {}).then(key)
            }
        };
        self.order.extend(new.map(|key| (at, key)));
    }

    /// Drops what is past the window, and what is too much; answers how many were too much.
    fn expire(&mut self, now: Moment, facts_max: usize) -> u64 {
        let mut lost = 0;
        while let Some((at, _)) = self.order.front() {
            let is_old = *at + FACTS_WINDOW < now;
            if !is_old && self.order.len() <= facts_max {
                break;
            }
            let (at, key) = self.order.pop_front().expect("the front was just seen");
            let heard_again = match &key {
                Key::Membership(id) => forget(&mut self.memberships, id, at),
                Key::Organization(id) => forget(&mut self.organizations, id, at),
                Key::User(id) => forget(&mut self.users, id, at),
                Key::Session(id) => forget(&mut self.sessions, id, at),
            };
            match heard_again {
                Some(last) => self.order.push_back((last, key)),
                None if is_old => {}
                None => {
                    if rules::is_on(Rule::LostFactsAreAFloor) {
                        self.floor = self.floor.max(at);
                    }
                    lost += 1;
                }
            }
        }
        lost
    }
}

/// Merges into the fact under this key; true when the key is new.
fn merged<K: Clone + Eq + Hash, V: Default>(map: &mut Map<K, V>, key: &K, at: Moment, merge: impl FnOnce(&mut V)) -> bool {
    let is_new = !map.contains_key(key);
    let slot = map.entry(key.clone()).or_default();
    slot.0 = slot.0.max(at);
    merge(&mut slot.1);
    is_new
}

/// Removes a fact, unless it was heard again after `at`: then answers when.
fn forget<K: Eq + Hash, V>(map: &mut Map<K, V>, key: &K, at: Moment) -> Option<Moment> {
    let heard_again = map.get(key).map(|(last, _)| *last).filter(|last| *last > at);
    if heard_again.is_none() {
        map.remove(key);
    }
    heard_again
}

impl Remembered for Memory {
    fn membership(&self, id: &MembershipId) -> Option<&MembershipFact> {
        self.memberships.get(id).map(|slot| &slot.1)
    }
    fn organization(&self, id: &OrganizationId) -> Option<&OrganizationFact> {
        self.organizations.get(id).map(|slot| &slot.1)
    }
    fn user(&self, id: &UserId) -> Option<&UserFact> {
        self.users.get(id).map(|slot| &slot.1)
    }
}
