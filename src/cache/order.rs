//! The order in which entries are looked at: by the bound, which pushes out from the front, and by the sweep, which goes
//! round. The local tier calls it, never while a shard is locked. Upholds I12: whoever looks takes a handful at a time.
//!
//! An entry stands where it was landed last, so the front is what was read longest ago. Entries that were replaced or
//! invalidated leave their nodes behind; who looks finds that out by the number.

use std::collections::VecDeque;

use super::sync::{AtomicU8, Mutex, MutexGuard, Ordering};
use crate::domain::UserId;

/// Nodes in a handful.
pub const HANDFUL: usize = 64;

/// A user, with the number of the entry that stood here.
pub type Node = (UserId, u64);

/// Who looks whether an entry was hit.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Looker {
    /// The bound: what was hit since is spared once.
    Bound = 1,
    /// The sweep: what was hit since is in use.
    Sweep = 2,
}

/// Whether an entry was hit since each of them looked. A hit is one store, however many look.
#[derive(Debug, Default)]
pub struct Hits(AtomicU8);

impl Hits {
    /// Notes a hit.
    pub fn note(&self) {
        self.0.store(u8::MAX, Ordering::Relaxed);
    }

    /// Whether it was hit since this one took it.
    pub fn is_noted(&self, by: Looker) -> bool {
        self.0.load(Ordering::Relaxed) & by as u8 != 0
    }

    /// The same, and from here on only what comes after counts.
    pub fn take(&self, by: Looker) -> bool {
        self.0.fetch_and(!(by as u8), Ordering::Relaxed) & by as u8 != 0
    }

    /// Takes that back.
    pub fn give_back(&self, by: Looker) {
        self.0.fetch_or(by as u8, Ordering::Relaxed);
    }

    /// For the entry that replaces this one.
    pub fn copied(&self) -> Self {
        Self(AtomicU8::new(self.0.load(Ordering::Relaxed)))
    }
}

/// The nodes in order of landing, and how far the round has come.
#[derive(Debug, Default)]
pub struct Order(Mutex<Nodes>);

#[derive(Debug, Default)]
struct Nodes {
    queue: VecDeque<Node>,
    /// Nodes before this one had their turn in this round.
    turn: usize,
}

impl Order {
    /// Adds one at the back; answers how many there are.
    pub fn push_back(&self, node: Node) -> usize {
        let mut nodes = self.lock();
        nodes.queue.push_back(node);
        nodes.queue.len()
    }

    /// Puts the one just taken back to the front.
    pub fn push_front(&self, node: Node) {
        let mut nodes = self.lock();
        nodes.queue.push_front(node);
        nodes.turn += usize::from(nodes.turn > 0);
    }

    /// Takes the one at the front.
    pub fn pop_front(&self) -> Option<Node> {
        let mut nodes = self.lock();
        nodes.turn = nodes.turn.saturating_sub(1);
        nodes.queue.pop_front()
    }

    /// The next handful in turn; empty at the end of a round, and the next one begins at the front.
    pub fn turn(&self) -> Vec<Node> {
        let mut nodes = self.lock();
        let from = nodes.turn.min(nodes.queue.len());
        let handful: Vec<Node> = nodes.queue.range(from..).take(HANDFUL).cloned().collect();
        nodes.turn = if handful.is_empty() { 0 } else { from + handful.len() };
        handful
    }

    /// Gives back so many of the last handful that were not looked at.
    pub fn turn_back(&self, count: usize) {
        let mut nodes = self.lock();
        nodes.turn = nodes.turn.saturating_sub(count);
    }

    /// Drops nodes whose entries are gone. What is added meanwhile stays; the lock is not held while they are asked about.
    pub fn retain(&self, is_alive: impl Fn(&UserId, u64) -> bool) {
        let Nodes { queue, turn } = std::mem::take(&mut *self.lock());
        let (mut alive, mut alive_turn) = (VecDeque::new(), 0);
        for (at, (user, number)) in queue.into_iter().enumerate() {
            if is_alive(&user, number) {
                alive_turn += usize::from(at < turn);
                alive.push_back((user, number));
            }
        }
        let mut nodes = self.lock();
        alive.append(&mut nodes.queue);
        *nodes = Nodes { queue: alive, turn: alive_turn };
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().expect("nothing panics while it is held")
    }
}
