//! Messages: a delivery is recorded, applied to the node it came to, to the values and leases, to the stream, and then
//! acknowledged. And the repair, which does it all again after a history was lost.

use super::state::{Repair, State};
use super::world::World;

/// A step of a delivery after the node has recorded it and applied it to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    Invalidate,
    Append,
    Record,
}

impl World {
    /// A message comes to a node, which records it and applies it to itself ahead of the stream.
    pub fn deliver(&self, state: &mut State, message: u8, node: u8) {
        let slot = &mut state.messages[usize::from(message)];
        state.spent.repeats += u8::from(slot.acknowledged.is_some());
        slot.is_recorded |= self.rules.recorded_before_applied;
        slot.passing = Some((node, 0));
        self.apply_early(state, message, node);
    }

    fn apply_early(&self, state: &mut State, change: u8, node: u8) {
        let n = usize::from(node);
        for step in super::state::Node::applications(self, n, change) {
            state.nodes[n].apply(&self.rules, step, change, state.now);
        }
    }

    /// The next step of a delivery; the last one acknowledges it.
    pub fn pass(&self, state: &mut State, message: u8) {
        let Some((node, done)) = state.messages[usize::from(message)].passing else { return };
        let mut steps = Vec::new();
        let is_filed = self.filed() & 1 << message != 0;
        steps.extend(is_filed.then_some(Passing::Invalidate));
        steps.insert(if self.rules.append_after_invalidation { steps.len() } else { 0 }, Passing::Append);
        steps.extend((!self.rules.recorded_before_applied).then_some(Passing::Record));
        let done = usize::from(done);
        match steps[done] {
            Passing::Invalidate => self.invalidate(state, 1 << message),
            Passing::Append => state.redis.append(Some(message), state.now),
            Passing::Record => state.messages[usize::from(message)].is_recorded = true,
        }
        let now = state.now;
        let slot = &mut state.messages[usize::from(message)];
        let is_confirmed = !steps[done + 1..].iter().any(|step| *step != Passing::Record);
        if is_confirmed {
            slot.acknowledged = slot.acknowledged.or(Some(now));
        }
        slot.passing = (done + 1 < steps.len()).then_some((node, done as u8 + 1));
    }

    fn invalidate(&self, state: &mut State, changes: u8) {
        let fresh = state.fresh_token();
        state.redis.invalidate(&self.rules, fresh, changes);
        state.passed |= changes;
    }

    /// A node that was told of the doubt takes the right, and reads the journal.
    pub fn begin_repair(&self, state: &mut State, node: u8) {
        let told = state.nodes[usize::from(node)].reader.told;
        let recorded = |(place, message): (usize, &super::state::Message)| u8::from(message.is_recorded) << place;
        let todo = state.messages.iter().enumerate().map(recorded).sum();
        let todo = if self.rules.repair_before_whole { todo } else { 0 };
        state.repair = Some(Repair { node, replid: told.replid, since: told.since, todo, step: 0 });
    }

    /// The invalidations, the appends, and at last the declaration that the history is whole.
    pub fn repair(&self, state: &mut State) {
        let Some(Repair { node, replid, since, todo, step }) = state.repair else { return };
        let each = (0..8).filter(|change| todo & 1 << change != 0);
        match step {
            0 => {
                each.for_each(|change| self.apply_early(state, change, node));
                if todo & self.filed() != 0 {
                    self.invalidate(state, todo & self.filed());
                }
            }
            1 => each.for_each(|change| state.redis.append(Some(change), state.now)),
            _ => {
                let history = &mut state.redis.history;
                let is_same = (history.replid, history.since) == (replid, since) && state.redis.replid == replid;
                history.is_whole |= is_same || !self.rules.whole_only_if_nothing_was_lost_since;
                state.repair = None;
                return;
            }
        }
        state.repair = Some(Repair { node, replid, since, todo, step: step + 1 });
    }
}
