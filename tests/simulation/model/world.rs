//! The world as a model: what may happen next, and what must always hold.

use stateright::{Model, Property};

use super::life::{Judged, Rows};
use super::node::{BOUND, Given};
use super::rules::Rules;
use super::scene::Scene;
use super::state::{Changes, Mistake, Node, State, Task};

/// A scene under rules.
#[derive(Debug)]
pub struct World {
    pub scene: Scene,
    pub rules: Rules,
}

/// One step of one of those who act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A second passes.
    Tick,
    /// The next step of the life becomes true at the origin.
    Live,
    /// A message comes to a node, which records it and applies it to itself.
    Deliver { message: u8, node: u8 },
    /// The next step of a delivery: the invalidation, or the append and with it the acknowledgement.
    Pass { message: u8 },
    /// The node gives a delivery up half-way.
    Abandon { message: u8 },
    /// A node asks what is new in the stream, and Redis answers.
    Ask { node: u8 },
    /// The next step of taking that answer in.
    Take { node: u8 },
    /// A flight begins: the stripe is read and the lease is taken.
    Fly { node: u8 },
    /// The origin answers with what was true after so many steps.
    Read { node: u8, lived: u8 },
    /// A node that looks at the shared tier reads the stripe and the fence.
    Look { node: u8 },
    /// Redis answers it.
    Get { node: u8 },
    /// The facts are applied to a reading.
    Judge { node: u8 },
    /// It lands in Redis.
    LandShared { node: u8 },
    /// Redis cannot be asked: it lands nowhere there.
    MissShared { node: u8 },
    /// It lands in the local tier, and is the answer to who waited.
    LandLocal { node: u8 },
    /// An entry is brought up to the facts of now.
    CatchUp { node: u8 },
    /// The first half of a hit.
    Find { node: u8 },
    /// The second.
    Answer { node: u8 },
    /// Somebody is told "no" from the local entry.
    Refuse { node: u8 },
    /// The guard expires or is evicted.
    LoseGuard,
    /// Somebody else writes the value as it was at the start.
    WriteForeign,
    /// The stream loses its oldest change, and what is before it.
    Trim,
    /// Another server with what there was at the start is the primary. Takes a second.
    FailOver,
    /// Redis loses everything. Takes a second.
    Flush,
    /// A node is stopped, and started with nothing.
    Restart { node: u8 },
    /// A node takes the right to put the history back, and reads the journal.
    BeginRepair { node: u8 },
    /// The next step: the invalidations, the appends, the declaration.
    Repair,
}

impl World {
    /// A reading under the facts of a node.
    pub fn outrank(&self, node: &Node, rows: Rows, as_of: u8) -> Judged {
        match self.rules.facts_are_applied {
            true => self.scene.life.outrank(rows, as_of, node.heard),
            false => Judged { rows, is_void: false, lacks_expected: false },
        }
    }

    /// Changes that name the user.
    pub fn filed(&self) -> Changes {
        let filed = |(place, _)| 1u8 << place;
        self.scene.life.changes.iter().enumerate().filter(|(_, change)| !change.users().is_empty()).map(filed).sum()
    }

    /// Whether a "no" is recent enough to be said. Everything else may be.
    pub fn may_say(&self, given: &Given, arrived: u8) -> bool {
        let age = std::time::Duration::from_secs(arrived.saturating_sub(given.as_of).into());
        given.rows != 0 || !self.rules.denial_has_a_window || age <= self.window(given.refusals)
    }

    /// What is wrong with an answer given now to a request that arrived at `arrived`.
    pub fn mistake(&self, state: &State, refused: u8, given: &Given, arrived: u8) -> Option<Mistake> {
        self.mistake_up_to(state, refused, given, arrived, self.scene.ages_max.0)
    }

    /// The same, of a reading that may be so old.
    fn mistake_up_to(&self, state: &State, refused: u8, given: &Given, arrived: u8, age_max: u16) -> Option<Mistake> {
        let now = state.now;
        let is_fresh = given.fence.is_some_and(|fence| now.saturating_sub(fence) <= BOUND);
        for (step, message) in state.messages.iter().enumerate() {
            let Some(acknowledged) = message.acknowledged.filter(|at| at + BOUND < now) else { continue };
            // Said of the origin, not of us: it was asked after the request, or after the change with the fence lost.
            let is_origins = given.as_of >= arrived || (given.as_of > acknowledged && !is_fresh);
            if given.rows & self.ended_by(step) != 0 && !is_origins {
                return Some(Mistake::TooFarBehind);
            }
        }
        if u16::from(now.saturating_sub(given.as_of)) > age_max && given.as_of < arrived {
            return Some(Mistake::TooOld);
        }
        let age = std::time::Duration::from_secs(arrived.saturating_sub(given.as_of).into());
        (given.rows == 0 && age > self.window(refused)).then_some(Mistake::Unchecked)
    }

    /// Rows that a step of the life ended.
    fn ended_by(&self, step: usize) -> Rows {
        let any = |truths: &[Rows]| truths.iter().fold(0, |any, truth| any | truth);
        let (before, after) = self.scene.life.truths.split_at(step + 1);
        any(before) & !any(after)
    }

    /// What is wrong with what a request that arrives now would be told at once.
    fn mistake_now(&self, state: &State) -> Option<Mistake> {
        if state.mistake.is_some() {
            return state.mistake;
        }
        (0..2).filter(|node| self.scene.listens[*node]).find_map(|n| {
            let node = &state.nodes[n];
            let hit = node.hit(self, node.entry, node.fence, node.generation, state.now);
            let known = node.known(self).filter(|(_, has_standing)| *has_standing).and_then(|(entry, _)| {
                let given = Given { rows: entry.rows, as_of: entry.as_of, fence: node.fence, refusals: entry.refusals };
                let is_good = self.is_good(entry.as_of, node.fence, state.now, state.now);
                (is_good && self.may_say(&given, state.now)).then_some(given)
            });
            let given = [hit, known].into_iter().flatten();
            given.into_iter().find_map(|given| self.mistake(state, node.refused, &given, state.now)).or_else(|| {
                // And if the origin cannot be asked.
                let (ttl, grace) = self.scene.ages_max;
                let given = node.outlive(self, state.now)?;
                self.mistake_up_to(state, node.refused, &given, state.now, ttl + grace)
            })
        })
    }

    /// Nothing is under way, and everybody has heard everything.
    fn is_quiet(&self, state: &State) -> bool {
        let redis = &state.redis;
        let has_heard = |node: &Node| {
            let at = node.reader.position.zip(redis.stream.as_ref());
            let is_at_end = at.is_some_and(|(at, stream)| at.last == stream.last && at.replid == redis.replid);
            is_at_end && node.reader.reply.is_none() && node.task == Task::Nothing && node.doubted.is_none()
        };
        let is_told = |message: &super::state::Message| message.acknowledged.is_some() && message.passing.is_none();
        state.messages[..self.scene.life.changes.len()].iter().all(is_told)
            && redis.history.is_whole
            && redis.history.replid == redis.replid
            && state.repair.is_none()
            && (0..2).all(|n| !self.scene.listens[n] || has_heard(&state.nodes[n]))
    }

    /// Whether what is in the tiers is what is true, but for what is kept only briefly. A "no" is asked about anyway.
    fn is_settled(&self, state: &State) -> bool {
        let end = self.scene.life.end();
        (0..2).filter(|n| self.scene.listens[*n]).all(|n| {
            let node = &state.nodes[n];
            let local = node.known(self).filter(|(entry, has_standing)| *has_standing && !entry.is_brief);
            let shared = state.redis.get(&self.rules).filter(|(value, as_of, _)| {
                let is_known = !node.has_changed_since(&self.scene.life, *as_of);
                !value.is_brief
                    && node.may_trust(*as_of)
                    && (is_known || !self.rules.shared_value_begun_before_a_change_is_a_miss)
            });
            let is_miss = |judged: &Judged| judged.lacks_expected && self.rules.old_shared_value_without_expected_is_a_miss;
            let judged = shared.map(|(value, as_of, _)| self.outrank(node, value.rows, as_of));
            let shared = judged.filter(|judged| !is_miss(judged)).map(|judged| judged.rows);
            local.map(|(entry, _)| entry.rows).into_iter().chain(shared).all(|rows| rows == end || rows == 0)
        })
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = self.beginning();
        for action in &self.scene.prelude {
            let mut possible = Vec::new();
            self.possible(&state, &mut possible);
            assert!(possible.contains(action), "{action:?} cannot happen in {state:#?}");
            self.act(&mut state, *action);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.act(&mut state, action);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I4: when all is quiet, every answer is the truth", |world: &World, state: &State| {
                !world.is_quiet(state) || world.is_settled(state)
            }),
            Property::always("I5: what began before a change is not in Redis after it", |world: &World, state: &State| {
                let unknown = |value: super::state::Value| state.redis.passed & world.filed() & !value.knows;
                state.redis.get(&world.rules).is_none_or(|(value, ..)| unknown(value) == 0)
            }),
            Property::always("I5: what began before a change is not in a node after it", |world: &World, state: &State| {
                let is_right = |node: &Node| node.entry.is_none_or(|entry| node.applied & world.filed() & !entry.knows == 0);
                state.nodes.iter().all(is_right)
            }),
            Property::always("I6: no answer is older than the bound", |world: &World, state: &State| {
                world.mistake_now(state) != Some(Mistake::TooFarBehind)
            }),
            Property::always("I7: no reading is older than any may be", |world: &World, state: &State| {
                world.mistake_now(state) != Some(Mistake::TooOld)
            }),
            Property::always("I10: a no rests on a reading of its window", |world: &World, state: &State| {
                world.mistake_now(state) != Some(Mistake::Unchecked)
            }),
        ]
    }
}
