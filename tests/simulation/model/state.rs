//! Everything that is at one moment, in small numbers: a tick stands for a second, a number for a random token.
//!
//! What is equal for every purpose must be equal here, so tokens and stripes are the smallest numbers that nobody holds.

use std::collections::BTreeSet;

use super::life::{CHANGES_MAX, Heard, Rows};

/// Changes, a bit for each.
pub type Changes = u8;

/// The lease in the guard that Redis begins with; back whenever Redis is.
pub const FIRST_LEASE: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub now: u8,
    /// Steps of the life that are true.
    pub lived: u8,
    pub messages: [Message; CHANGES_MAX],
    /// Changes that passed Redis at any time.
    pub passed: Changes,
    pub redis: Redis,
    pub nodes: [Node; 2],
    pub repair: Option<Repair>,
    pub spent: Spent,
    /// An answer that should not have been given.
    pub mistake: Option<Mistake>,
}

/// Why an answer was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// It was older than the bound (I6).
    TooFarBehind,
    /// Its reading was older than any may be (I7).
    TooOld,
    /// A "no" that nobody had checked (I10).
    Unchecked,
}

/// One message, from the journal's view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Message {
    pub is_recorded: bool,
    /// When it was acknowledged first.
    pub acknowledged: Option<u8>,
    /// Where it is being applied, and how many of the steps are done.
    pub passing: Option<(u8, u8)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Redis {
    pub replid: u8,
    pub guard: Guard,
    pub value: Option<Value>,
    pub stream: Option<Stream>,
    pub history: History,
    /// Changes whose invalidation ran here, as far as this Redis knows.
    pub passed: Changes,
    /// Counts up with every entry of any stream: no two ids are the same.
    pub clock: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Guard {
    pub lease: Option<u8>,
    pub as_of: Option<u8>,
    pub digest: Option<Rows>,
    /// Fills under way under the lease, as long as no value stands beside it: then it says nothing.
    pub begun: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value {
    pub rows: Rows,
    /// It is kept only briefly.
    pub is_brief: bool,
    /// Changes that had passed Redis when its reading began.
    pub knows: Changes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    pub entries: Vec<Entry>,
    pub added: u8,
    pub last: u8,
    /// When the last was added, should it be gone.
    pub last_at: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    pub id: u8,
    /// None: bookkeeping.
    pub change: Option<u8>,
    pub at: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct History {
    pub replid: u8,
    pub since: Option<u8>,
    pub is_whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub heard: Heard,
    /// Changes whose entries were applied here.
    pub applied: Changes,
    pub stripe: u8,
    pub generation: u8,
    pub standing: u8,
    /// Readings begun in this tick or before are no answers.
    pub doubted: Option<u8>,
    /// The same, for good: what passed until then may be gone from the stream unread.
    pub floor: Option<u8>,
    pub fence: Option<u8>,
    pub entry: Option<Local>,
    /// Refusals that outlived their entry: a mistake made on purpose.
    pub refusals_kept: u8,
    /// Readings in a row that said "no", by the property's own count.
    pub refused: u8,
    pub reader: Reader,
    pub task: Task,
}

/// An entry of the local tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    pub rows: Rows,
    pub as_of: u8,
    pub generation: u8,
    pub standing: u8,
    pub knows: Changes,
    /// It lacks an announced membership.
    pub is_brief: bool,
    /// Refusals counted.
    pub refusals: u8,
    /// The last of them rests on this very reading.
    pub is_refused: bool,
}

/// Where a node stands in the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reader {
    pub position: Option<Position>,
    /// The server whose values can be dated.
    pub dates: u8,
    /// The history as this node was told of it.
    pub told: History,
    pub is_shorter: bool,
    pub reply: Option<Reply>,
    /// Steps of the reply that are done.
    pub step: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub last: u8,
    pub counted: Option<u8>,
    pub replid: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reply {
    pub sent: u8,
    pub entries: Vec<Entry>,
    pub stream: Option<(u8, u8)>,
    /// Up to when something may be missing from the window, if this was asked to load it.
    pub missing: Option<u8>,
    /// It was asked after a position, not to load the window.
    pub is_continued: bool,
    pub replid: u8,
    pub history: History,
}

/// What a node is doing besides reading the stream: one thing at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Task {
    #[default]
    Nothing,
    /// A flight, or the look at the shared tier.
    Reading(Reading),
    /// A hit whose first half is done.
    Hit { at: u8, fence: Option<u8>, generation: u8, entry: Option<Local> },
}

/// A reading on its way into the tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reading {
    pub stage: Stage,
    pub is_flight: bool,
    /// When the flight began, or the request arrived.
    pub begun: u8,
    pub stripe: u8,
    pub standing: u8,
    pub lease: Option<u8>,
    pub fence: Option<u8>,
    pub generation: u8,
    pub rows: Rows,
    pub as_of: u8,
    pub knows: Changes,
    pub is_brief: bool,
    pub is_overtaken: bool,
}

/// What of a reading is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The counters are read and the lease is taken.
    Begun,
    /// The origin, or Redis, has answered.
    Read,
    /// The facts are applied.
    Judged,
    /// It is in Redis, or could not be.
    Landed,
}

/// The right to put a lost history back, and how far it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Repair {
    pub node: u8,
    pub replid: u8,
    pub since: Option<u8>,
    /// What the journal said.
    pub todo: Changes,
    pub step: u8,
}

/// How often what happens only so often has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub repeats: u8,
    pub guards_lost: u8,
    pub foreign_values: u8,
    pub trims: u8,
    pub failovers: u8,
    pub flushes: u8,
    pub restarts: u8,
}

impl State {
    /// A token that nobody holds.
    pub fn fresh_token(&self) -> u8 {
        let held = |node: &Node| match &node.task {
            Task::Reading(reading) => reading.lease,
            Task::Nothing | Task::Hit { .. } => None,
        };
        let held: BTreeSet<u8> = self.nodes.iter().filter_map(held).chain(self.redis.guard.lease).collect();
        (FIRST_LEASE + 1..).find(|token| !held.contains(token)).expect("few are held")
    }
}

impl Node {
    /// A node that has just started: it knows nothing, and has read nothing.
    pub fn starting() -> Self {
        Self {
            heard: [None; CHANGES_MAX],
            applied: 0,
            stripe: 0,
            generation: 0,
            standing: 0,
            doubted: None,
            floor: None,
            fence: None,
            entry: None,
            refusals_kept: 0,
            refused: 0,
            reader: Reader::default(),
            task: Task::Nothing,
        }
    }

    /// Another stripe than any that is held.
    pub fn bump(&mut self) {
        let held = match &self.task {
            Task::Reading(reading) => Some(reading.stripe),
            Task::Nothing | Task::Hit { .. } => None,
        };
        self.stripe =
            (0..).find(|stripe| Some(*stripe) != held && (held.is_none() || *stripe != self.stripe)).expect("one is free");
    }
}
