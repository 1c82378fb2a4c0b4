//! The local tier: the map in this process, bounded in bytes. Upholds I5, I12 and I13.
//!
//! A wrapper that lends no guards: nothing here is held across an await, another map call or a callback. An insert happens
//! under the shard's lock and only if the user's stripe is the one that was read before the facts were looked at:
//!
//! ```text
//! 1: reads the stripe, looks at the facts
//!                                           2: remembers a fact, bumps the stripe, drops the entry
//! 1: inserts, and finds the stripe changed: the entry is refused
//! ```
//!
//! The bound is a queue with second chances: a hit sets a flag and touches no queue, an insert evicts from the front, and an
//! entry that was hit since goes to the back once.

use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use super::answer::{Content, Question};
use super::order::{Hits, Looker, Order};
use super::sync::{AtomicU64, DashMap, Mutex, Ordering, RandomState, Slot};
use crate::domain::{Moment, UserId};
use crate::protocol::denial::{Denials, Denied};
use crate::protocol::freshness::Bounds;
use crate::protocol::rules::{self, Rule};

/// Stripes: enough that a change rarely refuses a stranger's insert.
const STRIPES: usize = 1024;
/// Shards: set, because the default follows the number of cores.
const SHARDS: usize = 64;
/// What an entry costs beyond its list: map slot, queue node, allocations, and what the allocator loses between them. Measured
/// as the memory of a process through which a million users nobody knows went, at limits of 16 and 256 MiB.
const ENTRY_OVERHEAD: usize = 448;
/// Queue nodes looked at in one sweep.
const SWEEP_MAX: usize = 4096;
/// Handfuls of entries looked at for the next one in use: some thousand entries, under a millisecond.
const TURNS_MAX: usize = 64;

/// One user's reading in this process.
#[derive(Debug)]
pub struct Entry {
    /// What it says.
    pub content: Content,
    /// When it began.
    pub as_of: Moment,
    /// From here on the shared tier is asked again.
    pub reread_at: Moment,
    /// The facts' counter from before they were applied.
    pub generation: u64,
    /// The standing from before it passed the shared tier.
    pub standing: u64,
    /// Whether it was hit, for those who look at entries in turn.
    pub hits: Hits,
    /// From here on, in microseconds, a hit asks for a background refresh.
    pub refresh_at: AtomicU64,
    /// It lacks a membership that was announced: past `reread_at` it is no answer at all.
    pub is_brief: bool,
    /// Refusals given from this user's readings. Guards itself only; never held over anything. Written under the shard's lock.
    pub denials: Mutex<Denials>,
    /// Bytes of the refusals, as counted. Written under the shard's lock, so that removing an entry gives back what it took.
    pub denied_bytes: AtomicU64,
}

/// A stripe's value, read before the facts are looked at or the origin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripe {
    index: usize,
    value: u64,
}

/// The map, its stripes and its bound.
#[derive(Debug)]
pub struct Local {
    map: DashMap<UserId, (u64, Arc<Entry>), RandomState>,
    stripes: Box<[AtomicU64]>,
    /// Insertion order, each node with the number of its entry. Asked on insert and sweep, never while a shard is locked.
    order: Order,
    next_node: AtomicU64,
    bytes: AtomicU64,
    bytes_max: u64,
    hasher: RandomState,
    pub(super) evicted: Counter,
    pub(super) refused: Counter,
}

impl Entry {
    /// An entry of the given content, with nothing refused yet.
    pub fn new(content: Content, as_of: Moment, reread_at: Moment, refresh_at: Moment) -> Self {
        Self {
            content,
            as_of,
            reread_at,
            generation: 0,
            standing: 0,
            hits: Hits::default(),
            refresh_at: AtomicU64::new(refresh_at.as_micros()),
            is_brief: false,
            denials: Mutex::default(),
            denied_bytes: AtomicU64::new(0),
        }
    }

    /// Whether the reading may answer this question to a request that arrived at `arrived`: a "yes" may, a "no" within its
    /// window before it, an ambiguous slug only when just read. Upholds I10.
    pub fn may_answer(&self, question: &Question, bounds: &Bounds, arrived: Moment) -> bool {
        match self.content.denies(question) {
            None => !self.content.is_ambiguous(question) || arrived.since(self.as_of) <= super::CHECK_WINDOW,
            Some(denied) => {
                let denials = self.denials.lock().expect("nothing panics while it is held");
                arrived.since(self.as_of) <= denials.window(&denied, bounds.ttl)
            }
        }
    }

    fn bytes(&self, user: &UserId) -> u64 {
        let content = match &self.content {
            Content::List(list) => list.bytes(),
            Content::Unknown => 0,
        };
        (content + user.as_str().len() + ENTRY_OVERHEAD) as u64 + self.denied_bytes.load(Ordering::Relaxed)
    }
}

impl Local {
    /// An empty tier of at most `bytes_max` bytes; 0 switches it off.
    pub fn new(bytes_max: u64) -> Self {
        let hasher = RandomState::default();
        Self {
            map: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher.clone(), SHARDS),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            order: Order::default(),
            next_node: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_max,
            hasher,
            evicted: Counter::default(),
            refused: Counter::default(),
        }
    }

    /// The entry of a user.
    pub fn get(&self, user: &UserId) -> Option<Arc<Entry>> {
        self.map.get(user).map(|slot| slot.1.clone())
    }

    /// The stripe of a user, to be read before the facts are looked at.
    pub fn stripe(&self, user: &UserId) -> Stripe {
        let index = self.index(user);
        Stripe { index, value: self.stripes[index].load(Ordering::Acquire) }
    }

    fn is_unchanged(&self, stripe: Stripe) -> bool {
        self.stripes[stripe.index].load(Ordering::Acquire) == stripe.value || !rules::is_on(Rule::StripeIsChecked)
    }

    /// Inserts the entry if the stripe is unchanged. Refusals given before are carried over; a reading that began later than
    /// this one is never replaced. True when the user's entry is now at least as new.
    pub fn land(&self, user: &UserId, stripe: Stripe, mut entry: Entry) -> bool {
        if self.bytes_max == 0 {
            return false;
        }
        let node = self.next_node.fetch_add(1, Ordering::Relaxed);
        match self.map.entry(user.clone()) {
            Slot::Occupied(mut slot) => {
                if !self.is_unchanged(stripe) {
                    self.refused.inc();
                    return false;
                }
                let old = &slot.get().1;
                let is_behind = entry.generation <= old.generation && entry.standing <= old.standing;
                if old.as_of > entry.as_of && is_behind {
                    return true;
                }
                let old_bytes = old.bytes(user);
                let mut denials = old.denials.lock().expect("nothing panics while it is held").clone();
                denials.retain(|denied| entry.content.still_denies(denied));
                entry.denied_bytes = AtomicU64::new(denials.bytes() as u64);
                entry.denials = Mutex::new(denials);
                entry.hits = old.hits.copied();
                // Before the entry is there to be removed: a removal at the same time would else make less than nothing of the
                // sum of a tier that holds little, and the bound would push that little out.
                self.bytes.fetch_add(entry.bytes(user), Ordering::Relaxed);
                slot.insert((node, Arc::new(entry)));
                self.bytes.fetch_sub(old_bytes, Ordering::Relaxed);
            }
            Slot::Vacant(slot) => {
                if !self.is_unchanged(stripe) {
                    self.refused.inc();
                    return false;
                }
                // Before the entry is there to be removed: a removal at the same time would else make less than nothing of the
                // sum of a tier that holds little, and the bound would push that little out.
                self.bytes.fetch_add(entry.bytes(user), Ordering::Relaxed);
                slot.insert((node, Arc::new(entry)));
            }
        }
        self.enqueue(user, node);
        true
    }

    /// Remembers a "no" beside the reading it rests on, if that is still here, so that the next one may rest on it longer.
    pub fn note_denial(&self, user: &UserId, as_of: Moment, denied: Denied) {
        {
            let Some(slot) = self.map.get_mut(user) else { return };
            let entry = &slot.1;
            if entry.as_of != as_of {
                return;
            }
            let mut denials = entry.denials.lock().expect("nothing panics while it is held");
            denials.record(denied, as_of);
            let bytes = denials.bytes() as u64;
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.bytes.fetch_sub(entry.denied_bytes.swap(bytes, Ordering::Relaxed), Ordering::Relaxed);
        }
        self.push_out();
    }

    /// A change of the user passes: bumps the stripe, drops the entry. Answers whether the entry was in use.
    pub fn invalidate(&self, user: &UserId) -> bool {
        let mut was_in_use = false;
        let bump = || _ = self.stripes[self.index(user)].fetch_add(1, Ordering::AcqRel);
        rules::in_order(Rule::BumpBeforeDrop, bump, || was_in_use = self.remove(user));
        was_in_use
    }

    fn remove(&self, user: &UserId) -> bool {
        if !rules::is_on(Rule::ChangeDropsEntry) {
            return false;
        }
        let Some((_, (_, entry))) = self.map.remove(user) else { return false };
        self.bytes.fetch_sub(entry.bytes(user), Ordering::Relaxed);
        entry.hits.is_noted(Looker::Bound)
    }

    /// Drops entries that nobody may be given any more, from the front of the queue.
    pub fn sweep(&self, age_max: std::time::Duration, now: Moment) {
        for _ in 0..SWEEP_MAX {
            let Some((user, node)) = self.order.pop_front() else { return };
            let is_alive = |slot: &(u64, Arc<Entry>)| slot.0 == node && now.since(slot.1.as_of) <= age_max;
            if self.map.get(&user).is_some_and(|slot| is_alive(&slot)) {
                self.order.push_front((user, node));
                return;
            }
            self.remove_node(&user, node);
        }
    }

    /// The next user in turn whose list was hit since it was last given out here, among those read in `begun`. Looks at so
    /// many entries at most; none also at the end of a round.
    pub fn next_in_use(&self, begun: &RangeInclusive<Moment>) -> Option<UserId> {
        for _ in 0..TURNS_MAX {
            let nodes = self.order.turn();
            let nodes_left = nodes.len();
            for (looked, (user, node)) in nodes.into_iter().enumerate() {
                let entry = self.map.get(&user).filter(|slot| slot.0 == node).map(|slot| slot.1.clone());
                let is_meant = |entry: &Entry| matches!(entry.content, Content::List(_)) && begun.contains(&entry.as_of);
                if entry.is_some_and(|entry| is_meant(&entry) && entry.hits.take(Looker::Sweep)) {
                    self.order.turn_back(nodes_left - looked - 1);
                    return Some(user);
                }
            }
            if nodes_left == 0 {
                return None;
            }
        }
        None
    }

    /// Bytes held, users held.
    pub fn size(&self) -> (u64, usize) {
        (self.bytes.load(Ordering::Relaxed), self.map.len())
    }

    fn enqueue(&self, user: &UserId, node: u64) {
        let length = self.order.push_back((user.clone(), node));
        if length > 2 * self.map.len() + 4096 {
            // Replaced and invalidated entries leave their nodes behind.
            self.order.retain(|user, node| self.map.get(user).is_some_and(|slot| slot.0 == node));
        }
        self.push_out();
    }

    /// Evicts from the front until the bytes are within the limit.
    fn push_out(&self) {
        while self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            let Some((user, node)) = self.order.pop_front() else { return };
            let is_spared = self.map.get(&user).is_some_and(|slot| slot.0 == node && slot.1.hits.take(Looker::Bound));
            match is_spared {
                true => _ = self.order.push_back((user, node)),
                false => {
                    if self.remove_node(&user, node) {
                        self.evicted.inc();
                    }
                }
            }
        }
    }

    fn remove_node(&self, user: &UserId, node: u64) -> bool {
        let Some((_, (_, entry))) = self.map.remove_if(user, |_, slot| slot.0 == node) else { return false };
        self.bytes.fetch_sub(entry.bytes(user), Ordering::Relaxed);
        true
    }

    fn index(&self, user: &UserId) -> usize {
        self.hasher.hash_one(user.as_str()) as usize % STRIPES
    }
}

impl Content {
    /// Whether a remembered refusal is still what this content says.
    fn still_denies(&self, denied: &Denied) -> bool {
        match denied {
            Denied::User => matches!(self, Self::Unknown),
            Denied::EmptyList => self.denies(&Question::List).as_ref() == Some(denied),
            Denied::Organization(organization) => self.denies(&Question::Member(organization.clone())).as_ref() == Some(denied),
        }
    }
}
