//! The faults of a run, drawn from a seed before it begins: what happens, to whom, when and for how long; and how the origin
//! is, all along.

use std::time::Duration;

use crate::world::dice::Dice;
use crate::world::faulty_link::Trouble;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The link of a node to Redis is in trouble.
    Link { node: usize, trouble: Trouble },
    /// The link of a node to its journal is.
    Journal { node: usize, trouble: Trouble },
    /// A node stands still (SIGSTOP).
    NodeStandsStill { node: usize },
    /// A node is killed (SIGKILL), and started again at the end.
    NodeDies { node: usize },
    /// A node stands still, and what it has not read of the stream is gone before it goes on. Earlier than any trimming of
    /// ours: facts are gone that still outrank values.
    StreamIsTrimmedPast { node: usize },
    /// Redis stands still (SIGSTOP).
    RedisStandsStill,
    /// Redis is killed, and comes back empty at the end.
    RedisDies,
    /// A snapshot of Redis is taken; at the end it is killed and comes back as it was then.
    RedisIsSetBack,
    /// Redis has no memory left, and may evict nothing.
    RedisIsFull,
    /// The clock of Redis steps, and at the end back again.
    RedisClockSteps { ms: i64 },
}

impl Fault {
    /// Whether facts may be lost to somebody. An origin that lags then brings back what only they outrank, until the journal's
    /// window is applied again; so the two are not drawn together.
    fn loses_facts(self) -> bool {
        match self {
            Self::StreamIsTrimmedPast { .. } | Self::RedisDies | Self::RedisIsSetBack | Self::RedisClockSteps { .. } => true,
            Self::Link { .. } | Self::Journal { .. } | Self::NodeStandsStill { .. } | Self::NodeDies { .. } => false,
            Self::RedisStandsStill | Self::RedisIsFull => false,
        }
    }
}

/// A fault with its time, counted from the beginning of the run.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    pub begins: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

/// How it is all along.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// How long the origin takes.
    pub latency_ms: u64,
    /// How far behind its answers are.
    pub origin_lag: Duration,
    /// How old a reading may be.
    pub ttl: Duration,
}

/// How much goes on.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// So many changes, or for as long as the plan is.
    pub changes: Option<usize>,
    pub changes_per_second: u32,
    pub readers_per_node: usize,
    /// At most so many requests a second of each reader; none: without a pause.
    pub reads_per_second: Option<u32>,
}

/// Several runs share this machine.
const ORDINARY: Pace = Pace { changes: None, changes_per_second: 40, readers_per_node: 3, reads_per_second: Some(15) };

/// Strikes one after the other in each of some lanes, which know nothing of each other: links to Redis, links to the journal,
/// nodes, Redis.
#[derive(Debug)]
pub struct Plan {
    pub length: Duration,
    pub weather: Weather,
    pub pace: Pace,
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
const JOURNALS: [fn(&mut Dice, usize) -> Fault; 4] = [
    |_, node| Fault::Journal { node, trouble: Trouble::Cut },
    |_, node| Fault::Journal { node, trouble: Trouble::Stalled },
    |_, node| Fault::Journal { node, trouble: Trouble::Silent },
    |dice, node| Fault::Journal { node, trouble: Trouble::CutAfter(1 + dice.below(2_000)) },
];
const NODES: [fn(&mut Dice, usize) -> Fault; 3] = [
    |_, node| Fault::NodeStandsStill { node },
    |_, node| Fault::NodeDies { node },
    |_, node| Fault::StreamIsTrimmedPast { node },
];
const REDIS: [fn(&mut Dice, usize) -> Fault; 5] = [
    |_, _| Fault::RedisStandsStill,
    |_, _| Fault::RedisDies,
    |_, _| Fault::RedisIsSetBack,
    |_, _| Fault::RedisIsFull,
    |dice, _| Fault::RedisClockSteps { ms: *dice.pick(&STEPS_MS) },
];
/// Beyond everything that is remembered; within what is; and so small that nobody sees it who is not there.
const STEPS_MS: [i64; 6] = [-7_200_000, -30_000, -300, 300, 30_000, 7_200_000];

/// The first fault comes after this; what is known by then can be wrong later.
const QUIET: Duration = Duration::from_millis(500);

impl Plan {
    /// Drawn for so many nodes. `is_meant` leaves faults out.
    pub fn draw(length: Duration, nodes: usize, dice: &mut Dice, is_meant: impl Fn(&Fault) -> bool) -> Self {
        let weather = Weather::draw(dice);
        let is_meant = |fault: &Fault| is_meant(fault) && (weather.origin_lag.is_zero() || !fault.loses_facts());
        let decks: [&Deck; 4] = [&LINKS, &JOURNALS, &NODES, &REDIS];
        let lanes = decks.into_iter().map(|deck| lane(deck, length, nodes, dice, &is_meant)).collect();
        Self { length, weather, pace: ORDINARY, lanes }
    }

    /// One fault for a while, in the middle of a run.
    pub fn only(fault: Fault, lasts: Duration) -> Self {
        let lanes = vec![vec![Strike { begins: QUIET, lasts, fault }]];
        Self { length: QUIET + lasts + QUIET, weather: Weather::calm(), pace: ORDINARY, lanes }
    }

    /// Trouble of every kind with the link of node 0 to Redis, drawn, through so many changes.
    pub fn first_link(pace: Pace, dice: &mut Dice) -> Self {
        let changes = pace.changes.expect("a number of changes") as u32;
        let length = Duration::from_secs(1) * changes / pace.changes_per_second;
        let lanes = vec![lane(&LINKS, length, 1, dice, &|_: &Fault| true)];
        Self { length, weather: Weather::calm(), pace, lanes }
    }
}

impl Weather {
    fn draw(dice: &mut Dice) -> Self {
        let latency_ms = *dice.pick(&[0, 20, 80]);
        let origin_lag = Duration::from_millis(*dice.pick(&[0, 0, 0, 400]));
        let ttl = Duration::from_secs(*dice.pick(&[300, 300, 4]));
        Self { latency_ms, origin_lag, ttl }
    }

    fn calm() -> Self {
        Self { latency_ms: 20, origin_lag: Duration::ZERO, ttl: Duration::from_secs(300) }
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
            let (gap, lasts) = (some_ms(100, 1_900), some_ms(150, 1_350));
            if is_meant(&fault) && at + gap + lasts < length {
                strikes.push(Strike { begins: at + gap, lasts, fault });
                at += gap + lasts;
            }
        }
    }
    strikes
}
