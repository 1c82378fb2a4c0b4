//! The other atomics, locks and map: before each of their operations the schedule may go on with another thread.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::ops::{Deref, DerefMut};

pub use shuttle::sync::atomic::{AtomicU8, AtomicU64, Ordering};
pub use shuttle::sync::{Mutex, MutexGuard, RwLock};

thread_local! {
    /// A mistake made on purpose: a slot is not locked from the look at it to the insert.
    static IS_LOOSE: Cell<bool> = const { Cell::new(false) };
}

/// From here on the map's slots are not locked between a look and the insert that follows it.
pub fn loosen() {
    IS_LOOSE.set(true);
}

/// Hashes everybody to the same: all users share one stripe, and schedules can be run again.
#[derive(Debug, Clone, Default)]
pub struct RandomState(());

/// Everybody is the same to it.
pub struct Same;

impl BuildHasher for RandomState {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same
    }
}

impl Hasher for Same {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[u8]) {}
}

type Slots<K, V> = BTreeMap<K, V>;

/// What `dashmap` is to the local tier, with one shard: a slot is locked as long as somebody looks at it.
#[derive(Debug)]
pub struct DashMap<K, V, S> {
    slots: Mutex<Slots<K, V>>,
    _hasher: S,
}

/// A slot somebody looks at.
pub struct Ref<'a, K, V> {
    slots: MutexGuard<'a, Slots<K, V>>,
    key: K,
}

/// What is under a key, to be decided on.
pub enum Slot<'a, K, V> {
    Occupied(Occupied<'a, K, V>),
    Vacant(Vacant<'a, K, V>),
}

pub struct Occupied<'a, K, V> {
    found: V,
    vacant: Vacant<'a, K, V>,
}

pub struct Vacant<'a, K, V> {
    slots: &'a Mutex<Slots<K, V>>,
    locked: Option<MutexGuard<'a, Slots<K, V>>>,
    key: K,
}

impl<K: Ord + Clone, V: Clone, S> DashMap<K, V, S> {
    pub fn with_capacity_and_hasher_and_shard_amount(_capacity: usize, hasher: S, _shards: usize) -> Self {
        Self { slots: Mutex::new(BTreeMap::new()), _hasher: hasher }
    }

    pub fn get(&self, key: &K) -> Option<Ref<'_, K, V>> {
        let slots = self.lock();
        slots.contains_key(key).then(|| Ref { slots, key: key.clone() })
    }

    pub fn get_mut(&self, key: &K) -> Option<Ref<'_, K, V>> {
        self.get(key)
    }

    pub fn entry(&self, key: K) -> Slot<'_, K, V> {
        let locked = self.lock();
        let found = locked.get(&key).cloned();
        let locked = (!IS_LOOSE.get()).then_some(locked);
        let vacant = Vacant { slots: &self.slots, locked, key };
        match found {
            Some(found) => Slot::Occupied(Occupied { found, vacant }),
            None => Slot::Vacant(vacant),
        }
    }

    pub fn remove(&self, key: &K) -> Option<(K, V)> {
        self.remove_if(key, |_, _| true)
    }

    pub fn remove_if(&self, key: &K, is_meant: impl FnOnce(&K, &V) -> bool) -> Option<(K, V)> {
        let mut slots = self.lock();
        let is_meant = slots.get(key).is_some_and(|value| is_meant(key, value));
        is_meant.then(|| slots.remove_entry(key)).flatten()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Slots<K, V>> {
        self.slots.lock().expect("nothing panics while it is held")
    }
}

impl<K: Ord, V> Deref for Ref<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.slots[&self.key]
    }
}

impl<K: Ord, V> DerefMut for Ref<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.slots.get_mut(&self.key).expect("it is there while it is locked")
    }
}

impl<K: Ord, V> Occupied<'_, K, V> {
    pub fn get(&self) -> &V {
        &self.found
    }

    pub fn insert(&mut self, value: V)
    where
        K: Clone,
    {
        let key = self.vacant.key.clone();
        self.vacant.with(|slots| slots.insert(key, value));
    }
}

impl<K: Ord, V> Vacant<'_, K, V> {
    pub fn insert(mut self, value: V)
    where
        K: Clone,
    {
        let key = self.key.clone();
        self.with(|slots| slots.insert(key, value));
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Slots<K, V>) -> T) -> T {
        match &mut self.locked {
            Some(slots) => act(slots),
            None => act(&mut self.slots.lock().expect("nothing panics while it is held")),
        }
    }
}
