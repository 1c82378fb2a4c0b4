//! What may happen next, and what it does.

use super::life::CHANGES_MAX;
use super::node::BOUND;
use super::redis::FIRST_ENTRY;
use super::state::{
    Entry, FIRST_LEASE, Guard, History, Local, Message, Node, Position, Reader, Redis, Spent, Stage, State, Stream, Task, Value,
};
use super::world::{Action, World};

/// Refusals are not counted further than a scene is long.
const REFUSALS_MAX: u8 = 3;

impl World {
    /// How it begins: all is heard, and the value, where there is one, was read in the first tick.
    pub fn beginning(&self) -> State {
        let node = |n: usize| Node {
            fence: Some(0),
            entry: self.scene.begins_with_entry[n].then(|| self.first_entry()),
            refused: self.scene.begins_with_refusals,
            reader: Reader {
                position: Some(Position { last: FIRST_ENTRY, counted: Some(1), replid: 1 }),
                dates: 1,
                told: History { replid: 1, since: None, is_whole: true },
                ..Reader::default()
            },
            ..Node::starting()
        };
        State {
            now: 0,
            lived: 0,
            messages: [Message::default(); CHANGES_MAX],
            passed: 0,
            redis: self.first_redis(),
            nodes: [node(0), node(1)],
            repair: None,
            spent: Spent::default(),
            mistake: None,
        }
    }

    fn first_entry(&self) -> Local {
        Local {
            rows: self.scene.life.truths[0],
            as_of: 0,
            generation: 0,
            standing: 0,
            knows: 0,
            is_brief: false,
            refusals: self.scene.begins_with_refusals,
            is_refused: self.scene.begins_with_refusals > 0,
        }
    }

    fn first_redis(&self) -> Redis {
        let rows = self.scene.life.truths[0];
        let first = Entry { id: FIRST_ENTRY, change: None, at: 0 };
        let value = self.scene.begins_with_value.then_some(Value { rows, is_brief: false, knows: 0 });
        Redis {
            replid: 1,
            guard: value.map_or(Guard::default(), |value| Guard {
                lease: Some(FIRST_LEASE),
                as_of: Some(0),
                digest: Some(value.rows),
                begun: 0,
            }),
            value,
            stream: Some(Stream { entries: vec![first], added: 1, last: FIRST_ENTRY, last_at: 0 }),
            history: History { replid: 1, since: None, is_whole: true },
            passed: 0,
            clock: 1,
        }
    }

    /// Everything that may happen next.
    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let (scene, spent) = (&self.scene, &state.spent);
        let has_time = state.now < scene.ends_at;
        let mut may = |is_possible: bool, action| actions.extend(is_possible.then_some(action));
        may(has_time, Action::Tick);
        may(usize::from(state.lived) < scene.life.changes.len(), Action::Live);
        for message in 0..state.lived {
            let Message { acknowledged, passing, .. } = state.messages[usize::from(message)];
            let is_due = acknowledged.is_none() || spent.repeats < scene.repeats_max;
            for node in [0, 1] {
                may(passing.is_none() && is_due && scene.receives[usize::from(node)], Action::Deliver { message, node });
            }
            may(passing.is_some(), Action::Pass { message });
            may(passing.is_some() && spent.repeats < scene.repeats_max, Action::Abandon { message });
        }
        may(spent.guards_lost < scene.guards_lost_max && state.redis.guard != Guard::default(), Action::LoseGuard);
        may(spent.foreign_values < scene.foreign_values_max, Action::WriteForeign);
        let is_trimmable = state.redis.stream.as_ref().is_some_and(|stream| stream.first_change().is_some());
        may(spent.trims < scene.trims_max && is_trimmable, Action::Trim);
        may(spent.failovers < scene.failovers_max && has_time, Action::FailOver);
        may(spent.flushes < scene.flushes_max && has_time, Action::Flush);
        may(state.repair.is_some(), Action::Repair);
        may(spent.restarts < scene.restarts_max, Action::Restart { node: 1 });
        for node in [0, 1] {
            self.possible_at(state, node, actions);
        }
    }

    fn possible_at(&self, state: &State, node: u8, actions: &mut Vec<Action>) {
        let (scene, at) = (&self.scene, usize::from(node));
        let Node { reader, task, entry, generation, .. } = &state.nodes[at];
        let mut may = |is_possible: bool, action| actions.extend(is_possible.then_some(action));
        if scene.listens[at] {
            may(reader.reply.is_none(), Action::Ask { node });
            may(reader.reply.is_some(), Action::Take { node });
            let is_in_doubt = reader.told.since.is_some() && !reader.told.is_whole;
            may(is_in_doubt && state.repair.is_none(), Action::BeginRepair { node });
            may(entry.is_some_and(|entry| entry.generation != *generation), Action::CatchUp { node });
            may(entry.is_some_and(|entry| entry.rows == 0), Action::Refuse { node });
        }
        match task {
            Task::Nothing => {
                may(scene.flies[at], Action::Fly { node });
                may(scene.looks[at] && state.redis.value.is_some(), Action::Look { node });
                may(scene.hits_in_steps && entry.is_some(), Action::Find { node });
            }
            Task::Hit { .. } => may(true, Action::Answer { node }),
            Task::Reading(reading) => match (reading.stage, reading.is_flight) {
                (Stage::Begun, false) => may(true, Action::Get { node }),
                (Stage::Begun, true) => {
                    let earliest = state.lived.saturating_sub(scene.origin_lag);
                    (earliest..=state.lived).for_each(|lived| may(true, Action::Read { node, lived }));
                }
                (Stage::Read, _) => may(true, Action::Judge { node }),
                (Stage::Judged, _) => {
                    may(true, Action::LandShared { node });
                    may(scene.landings_fail, Action::MissShared { node });
                }
                (Stage::Landed, _) => may(true, Action::LandLocal { node }),
            },
        }
    }

    /// Does it.
    pub fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.now += 1;
                self.forget(state);
            }
            Action::Live => state.lived += 1,
            Action::Deliver { message, node } => self.deliver(state, message, node),
            Action::Pass { message } => self.pass(state, message),
            Action::Abandon { message } => {
                state.spent.repeats += 1;
                state.messages[usize::from(message)].passing = None;
            }
            Action::Ask { node } => {
                let reader = &mut state.nodes[usize::from(node)].reader;
                reader.reply = Some(state.redis.tail(reader.position, state.now));
                reader.step = 0;
            }
            Action::Take { node } => self.take(state, usize::from(node)),
            Action::Fly { node } => self.fly(state, usize::from(node)),
            Action::Read { node, lived } => self.read(state, usize::from(node), lived),
            Action::Look { node } => self.look(state, usize::from(node)),
            Action::Get { node } => self.get(state, usize::from(node)),
            Action::Judge { node } => self.judge(state, usize::from(node)),
            Action::LandShared { node } => self.land_shared(state, usize::from(node)),
            Action::MissShared { node } => self.advance(state, usize::from(node), Stage::Landed),
            Action::LandLocal { node } => self.land_local(state, usize::from(node)),
            Action::CatchUp { node } => self.catch_up(state, usize::from(node)),
            Action::Find { node } => self.find(state, usize::from(node)),
            Action::Answer { node } => self.answer(state, usize::from(node)),
            Action::Refuse { node } => self.refuse(state, usize::from(node)),
            Action::Restart { node } => self.restart(state, node),
            Action::BeginRepair { node } => self.begin_repair(state, node),
            Action::Repair => self.repair(state),
            Action::LoseGuard | Action::WriteForeign | Action::Trim | Action::FailOver | Action::Flush => {
                self.trouble(state, action);
            }
        }
    }

    /// A fence too old to vouch for anything is as good as none, and a question sent too long ago would move it nowhere.
    fn forget(&self, state: &mut State) {
        let oldest = state.now.saturating_sub(BOUND);
        let is_recent = |fence: &u8| *fence >= oldest;
        for node in &mut state.nodes {
            node.fence = node.fence.filter(is_recent);
            if let Task::Reading(reading) = &mut node.task {
                reading.fence = reading.fence.filter(is_recent);
            }
            if let Some(reply) = &mut node.reader.reply {
                reply.sent = reply.sent.max(oldest.saturating_sub(1));
            }
        }
    }

    fn trouble(&self, state: &mut State, action: Action) {
        let (redis, spent) = (&mut state.redis, &mut state.spent);
        match action {
            Action::LoseGuard => {
                spent.guards_lost += 1;
                redis.guard = Guard::default();
            }
            Action::WriteForeign => {
                spent.foreign_values += 1;
                redis.set_foreign(self.scene.life.truths[0]);
            }
            Action::Trim => {
                spent.trims += 1;
                let stream = redis.stream.as_mut().expect("only where there is one");
                stream.entries.drain(..=stream.first_change().expect("only where there is one"));
            }
            Action::FailOver => {
                spent.failovers += 1;
                state.now += 1;
                *redis = Redis { replid: redis.replid + 1, clock: redis.clock, ..self.first_redis() };
                self.forget(state);
            }
            Action::Flush => {
                spent.flushes += 1;
                state.now += 1;
                *redis = Redis { replid: redis.replid, clock: redis.clock, ..Redis::default() };
                self.forget(state);
            }
            _ => unreachable!("only trouble comes here"),
        }
    }

    /// What a node was doing is not done to its end; what it had taken in itself, somebody else takes up.
    fn restart(&self, state: &mut State, node: u8) {
        state.spent.restarts += 1;
        state.nodes[usize::from(node)] = Node::starting();
        for message in &mut state.messages {
            message.passing = message.passing.filter(|(at, _)| *at != node);
        }
        if state.repair.is_some_and(|repair| repair.node == node) {
            state.repair = None;
        }
    }

    /// Somebody is told "no" from the local entry, if it may be said.
    fn refuse(&self, state: &mut State, n: usize) {
        let now = state.now;
        let node = &mut state.nodes[n];
        let given = node.hit(self, node.entry, node.fence, node.generation, now);
        let Some(entry) = node.entry.as_mut().filter(|_| given.is_some_and(|given| given.rows == 0)) else { return };
        let is_counted = !entry.is_refused || !self.rules.one_reading_is_one_refusal;
        node.refused = (node.refused + u8::from(!entry.is_refused)).min(REFUSALS_MAX);
        entry.refusals = (entry.refusals + u8::from(is_counted)).min(REFUSALS_MAX);
        entry.is_refused = true;
    }

    /// The first half of a hit: the fence and the counter; or, wrongly, the entry.
    fn find(&self, state: &mut State, n: usize) {
        let node = &mut state.nodes[n];
        let (fence, entry) = if self.rules.fence_before_entry { (node.fence, None) } else { (None, node.entry) };
        node.task = Task::Hit { at: state.now, fence, generation: node.generation, entry };
    }

    /// The second half. The answer is of the moment in which the request arrived: so it is stamped.
    fn answer(&self, state: &mut State, n: usize) {
        let node = &state.nodes[n];
        let Task::Hit { at, fence, generation, entry } = node.task else { return };
        let (fence, entry) = if self.rules.fence_before_entry { (fence, node.entry) } else { (node.fence, entry) };
        let given = node.hit(self, entry, fence, generation, at);
        let then = State { now: at, ..state.clone() };
        state.mistake = given.and_then(|given| self.mistake(&then, node.refused, &given, at));
        state.nodes[n].task = Task::Nothing;
    }
}
