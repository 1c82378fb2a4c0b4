//! A reading on its way into the tiers: a flight's from the origin, or one found in the shared tier. As `cache::fill` and
//! `cache::known` do it, each step alone, so that anything may come between two.

use rollcall::protocol::lease::Landed;

use super::node::Given;
use super::state::{Local, Reading, Stage, State, Task, Value};
use super::world::World;

impl World {
    /// A flight begins.
    pub fn fly(&self, state: &mut State, n: usize) {
        let fresh = state.fresh_token();
        let lease = self.rules.lease_before_origin.then(|| state.redis.begin(fresh));
        let node = &mut state.nodes[n];
        node.task = Task::Reading(Reading {
            stage: Stage::Begun,
            is_flight: true,
            begun: state.now,
            stripe: node.stripe,
            standing: node.standing,
            lease,
            fence: None,
            generation: 0,
            rows: 0,
            as_of: state.now,
            knows: state.passed,
            is_brief: false,
            is_overtaken: false,
        });
    }

    /// The origin answers.
    pub fn read(&self, state: &mut State, n: usize, lived: u8) {
        let Task::Reading(reading) = &mut state.nodes[n].task else { return };
        reading.rows = self.scene.life.truths[usize::from(lived)];
        reading.stage = Stage::Read;
    }

    /// A look at the shared tier begins.
    pub fn look(&self, state: &mut State, n: usize) {
        let node = &mut state.nodes[n];
        node.task = Task::Reading(Reading {
            stage: Stage::Begun,
            is_flight: false,
            begun: state.now,
            stripe: node.stripe,
            standing: node.standing,
            lease: None,
            fence: node.fence,
            generation: 0,
            rows: 0,
            as_of: 0,
            knows: 0,
            is_brief: false,
            is_overtaken: false,
        });
    }

    /// Redis answers. What another server than the one last heard of says cannot be dated, so it is a miss.
    pub fn get(&self, state: &mut State, n: usize) {
        let found = state.redis.get(&self.rules).filter(|_| state.nodes[n].reader.dates == state.redis.replid);
        let task = &mut state.nodes[n].task;
        let (Task::Reading(reading), Some((value, as_of, lease))) = (&mut *task, found) else {
            *task = Task::Nothing;
            return;
        };
        *reading = Reading { rows: value.rows, knows: value.knows, as_of, lease, stage: Stage::Read, ..*reading };
    }

    /// The facts are applied; the fence and the counter are loaded before.
    pub fn judge(&self, state: &mut State, n: usize) {
        let fresh = state.fresh_token();
        let node = &mut state.nodes[n];
        let Task::Reading(mut reading) = node.task else { return };
        node.task = Task::Nothing;
        reading.generation = node.generation;
        let is_trusted = node.may_trust(reading.as_of);
        let judged = self.outrank(node, reading.rows, reading.as_of);
        if reading.is_flight {
            reading.fence = node.fence;
            let is_doubted = node.standing != reading.standing || !is_trusted;
            if reading.is_overtaken || judged.is_void || (is_doubted && self.rules.doubted_flight_lands_nowhere) {
                // Nothing will be landed under the lease.
                reading.lease.into_iter().for_each(|lease| state.redis.release(lease));
                return;
            }
        } else {
            let has_changed = node.has_changed_since(&self.scene.life, reading.as_of);
            let is_refused = has_changed && self.rules.shared_value_begun_before_a_change_is_a_miss;
            if !is_trusted || is_refused || judged.is_void {
                return;
            }
        }
        // A shared value is landed again only where the facts have changed it.
        let is_in_place = !reading.is_flight && judged.rows == reading.rows;
        reading.stage = if is_in_place { Stage::Landed } else { Stage::Judged };
        reading.rows = judged.rows;
        reading.is_brief = judged.lacks_expected && self.rules.kept_briefly_without_expected;
        reading.lease = reading.lease.or_else(|| Some(state.redis.begin(fresh)));
        node.task = Task::Reading(reading);
    }

    /// It lands in Redis, if it may.
    pub fn land_shared(&self, state: &mut State, n: usize) {
        let Task::Reading(reading) = state.nodes[n].task else { return };
        let lease = reading.lease.expect("taken before or when it was judged");
        let value = Value { rows: reading.rows, is_brief: reading.is_brief, knows: reading.knows };
        let landed = state.redis.land(&self.rules, lease, reading.as_of, value);
        match (landed, reading.is_flight) {
            (Landed::Landed, _) | (_, false) => self.advance(state, n, Stage::Landed),
            (Landed::RefusedNewer, true) => {
                self.answer_waiting(state, n, &reading);
                state.nodes[n].task = Task::Nothing;
            }
            (Landed::RefusedLease, true) => state.nodes[n].task = Task::Nothing,
        }
    }

    /// What had to be done with Redis is done, or cannot be.
    pub fn advance(&self, state: &mut State, n: usize, stage: Stage) {
        let Task::Reading(reading) = &mut state.nodes[n].task else { return };
        reading.stage = stage;
    }

    /// It lands in the local tier, if it may, and is the answer to who waited.
    pub fn land_local(&self, state: &mut State, n: usize) {
        let node = &mut state.nodes[n];
        let Task::Reading(reading) = node.task else { return };
        node.task = Task::Nothing;
        let generation = if self.rules.counter_before_facts { reading.generation } else { node.generation };
        let entry = Local {
            rows: reading.rows,
            as_of: reading.as_of,
            generation,
            standing: reading.standing,
            knows: reading.knows,
            is_brief: reading.is_brief,
            refusals: 0,
            is_refused: false,
        };
        if reading.rows != 0 {
            node.refused = 0;
        }
        if reading.is_flight || node.standing == reading.standing {
            node.land(&self.rules, reading.stripe, entry);
        }
        self.answer_waiting(state, n, &reading);
    }

    /// A look answers the request it was begun for; a flight whoever arrived since, for the others it began late enough.
    fn answer_waiting(&self, state: &mut State, n: usize, reading: &Reading) {
        let given = Given { rows: reading.rows, as_of: reading.as_of, fence: reading.fence, refusals: 0 };
        let last = if reading.is_flight { state.now } else { reading.begun };
        for arrived in reading.begun..=last {
            let is_good = self.is_good(reading.as_of, reading.fence, arrived, state.now);
            if is_good && self.may_say(&given, arrived) {
                state.mistake = state.mistake.or(self.mistake(state, state.nodes[n].refused, &given, arrived));
            }
        }
    }

    /// An entry whose counter is behind is stored again with the facts of now.
    pub fn catch_up(&self, state: &mut State, n: usize) {
        let node = &mut state.nodes[n];
        if let Some((entry, true)) = node.known(self) {
            let (generation, standing) = (node.generation, node.standing);
            node.land(&self.rules, node.stripe, Local { generation, standing, ..entry });
        }
    }
}
