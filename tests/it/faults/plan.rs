//! The faults of a run, drawn from a seed before it begins: what happens, to whom, when and for how long.

use std::time::Duration;

use crate::world::dice::Dice;
use crate::world::faulty_link::Trouble;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The link of a node to Redis is in trouble.
    Link { node: usize, trouble: Trouble },
    /// A node stands still (SIGSTOP).
    NodeStandsStill { node: usize },
    /// A node is killed (SIGKILL), and started again at the end.
    NodeDies { node: usize },
    /// A node stands still, and what it has not read of the stream is gone before it goes on. Earlier than any trimming of
    /// ours: facts are gone that still outrank values, so this one comes only where it is asked for.
    StreamIsTrimmedPast { node: usize },
    /// Redis stands still (SIGSTOP).
    RedisStandsStill,
    /// Redis is killed, and comes back empty at the end.
    RedisDies,
    /// A snapshot of Redis is taken; at the end it is killed and comes back as it was then.
    RedisIsSetBack,
    /// Redis has no memory left, and may evict nothing.
    RedisIsFull,
}

/// A fault with its time, counted from the beginning of the run.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    pub begins: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

/// Strikes one after the other in each of three lanes, which know nothing of each other: links, nodes, Redis.
#[derive(Debug)]
pub struct Plan {
    pub length: Duration,
    pub lanes: Vec<Vec<Strike>>,
}

/// What is drawn from: every fault comes once before any comes again.
type Deck = [fn(&mut Dice, usize) -> Fault];

const LINKS: [fn(&mut Dice, usize) -> Fault; 6] = [
    |_, node| Fault::Link { node, trouble: Trouble::Cut },
    |_, node| Fault::Link { node, trouble: Trouble::Stalled },
    |_, node| Fault::Link { node, trouble: Trouble::Silent },
    |dice, node| Fault::Link { node, trouble: Trouble::CutAfter(1 + dice.below(4_000)) },
    |dice, node| Fault::Link { node, trouble: Trouble::Slow(Duration::from_millis(5 + dice.below(150) as u64)) },
    |dice, node| Fault::Link { node, trouble: Trouble::SlowTail(Duration::from_millis(20 + dice.below(600) as u64)) },
];
const NODES: [fn(&mut Dice, usize) -> Fault; 3] = [
    |_, node| Fault::NodeStandsStill { node },
    |_, node| Fault::NodeDies { node },
    |_, node| Fault::StreamIsTrimmedPast { node },
];
const REDIS: [fn(&mut Dice, usize) -> Fault; 4] =
    [|_, _| Fault::RedisStandsStill, |_, _| Fault::RedisDies, |_, _| Fault::RedisIsSetBack, |_, _| Fault::RedisIsFull];

/// The first fault comes after this; what is known by then can be wrong later.
const QUIET: Duration = Duration::from_millis(500);

impl Plan {
    /// Drawn for so many nodes. `is_meant` leaves faults out.
    pub fn draw(length: Duration, nodes: usize, dice: &mut Dice, is_meant: impl Fn(&Fault) -> bool) -> Self {
        let decks: [&Deck; 3] = [&LINKS, &NODES, &REDIS];
        let lanes = decks.into_iter().map(|deck| lane(deck, length, nodes, dice, &is_meant)).collect();
        Self { length, lanes }
    }

    /// Whether facts are lost to whoever has not read them. Changes of memberships void the values they touch, and need none;
    /// those of organizations touch no value, and are nothing but facts.
    pub fn loses_facts(&self) -> bool {
        self.lanes.iter().flatten().any(|strike| matches!(strike.fault, Fault::StreamIsTrimmedPast { .. }))
    }

    /// One fault for a while, in the middle of a run.
    pub fn only(fault: Fault, lasts: Duration) -> Self {
        Self { length: QUIET + lasts + QUIET, lanes: vec![vec![Strike { begins: QUIET, lasts, fault }]] }
    }
}

fn lane(deck: &Deck, length: Duration, nodes: usize, dice: &mut Dice, is_meant: &impl Fn(&Fault) -> bool) -> Vec<Strike> {
    let (mut strikes, mut at) = (Vec::new(), QUIET);
    let mut left = Vec::new();
    // Each round draws a whole deck; some rounds may hold nothing that is meant.
    for _ in 0..length.as_secs() + 1 {
        left.extend_from_slice(deck);
        while !left.is_empty() {
            let card = left.swap_remove(dice.below(left.len()));
            let node = dice.below(nodes);
            let fault = card(dice, node);
            let mut some_ms = |least: u64, more: usize| Duration::from_millis(least + dice.below(more) as u64);
            let (gap, lasts) = (some_ms(100, 500), some_ms(150, 1_350));
            if is_meant(&fault) && at + gap + lasts < length {
                strikes.push(Strike { begins: at + gap, lasts, fault });
                at += gap + lasts;
            }
        }
    }
    strikes
}
