//! A node's reader of the stream, as `redis::tail` does it: the reply is judged by `protocol::continuity`, the entries are
//! applied step by step, and only then the fence moves.

use rollcall::protocol::continuity::{self, Break, Tailed};

use super::node::Application;
use super::redis::{BEFORE_THE_WINDOW, entry_id};
use super::state::{Node, Position, Reply, State};
use super::world::World;

impl World {
    /// The next step of taking a reply in.
    pub fn take(&self, state: &mut State, n: usize) {
        let Some(reply) = state.nodes[n].reader.reply.clone() else { return };
        if state.nodes[n].reader.step == 0 {
            match self.judge_reply(&state.nodes[n], &reply) {
                Tailed::Broken(cause) => return self.break_off(state, n, cause),
                Tailed::More(_) | Tailed::ToTheEnd(_) => {
                    let missing = reply.missing.filter(|_| self.rules.trimmed_window_sets_the_floor);
                    missing.into_iter().for_each(|at| state.nodes[n].miss_before(at));
                    self.tell_doubt(&mut state.nodes[n], &reply, false);
                }
            }
            if !self.rules.entries_before_fence {
                self.move_fence(state, n, &reply);
            }
            if !self.rules.entries_before_doubt_is_lifted && reply.history.is_whole && state.nodes[n].doubted.is_some() {
                self.tell_doubt(&mut state.nodes[n], &reply, true);
                return;
            }
        }
        let todo = self.applications(n, &reply);
        let node = &mut state.nodes[n];
        if let Some((change, at, step)) = todo.get(usize::from(node.reader.step)).copied() {
            node.apply(&self.rules, step, change, at);
            if step == Application::Drop {
                node.applied |= 1 << change;
            }
            node.reader.step += 1;
            return;
        }
        let last = reply.entries.last().map(|entry| entry.id);
        let stream = reply.stream.expect("a missing one is a break");
        let counted = node.reader.position.and_then(|position| position.counted);
        node.reader.position = Some(Position {
            last: if counted.is_some() { last.or(node.reader.position.map(|at| at.last)).unwrap_or(stream.0) } else { stream.0 },
            counted: Some(stream.1),
            replid: reply.replid,
        });
        self.tell_doubt(node, &reply, true);
        node.reader.dates = reply.replid;
        self.move_fence(state, n, &reply);
        let reader = &mut state.nodes[n].reader;
        reader.reply = None;
        reader.step = 0;
    }

    fn applications(&self, n: usize, reply: &Reply) -> Vec<(u8, u8, Application)> {
        let is_read = self.rules.window_is_loaded || reply.is_continued;
        let entries = reply.entries.iter().filter(|_| is_read);
        let changes = entries.filter_map(|entry| Some((entry.change?, entry.at)));
        let steps = |(change, at)| Node::applications(self, n, change).into_iter().map(move |step| (change, at, step));
        changes.flat_map(steps).collect()
    }

    fn judge_reply(&self, node: &Node, reply: &Reply) -> Tailed {
        let replid = |replid: u8| match self.rules.history_is_compared {
            true => replid.to_string(),
            false => String::new(),
        };
        let position = continuity::Position {
            last: entry_id(node.reader.position.map_or(BEFORE_THE_WINDOW, |position| position.last)),
            counted: node.reader.position.and_then(|position| position.counted).map(u64::from),
            replid: replid(node.reader.position.map_or(reply.replid, |position| position.replid)),
        };
        let asked = continuity::Reply {
            returned: reply.entries.len(),
            last_returned: reply.entries.last().map(|entry| entry_id(entry.id)),
            stream: reply.stream.map(|(last, added)| (entry_id(last), added.into())),
            is_primary: true,
            replid: replid(reply.replid),
        };
        let judged = match continuity::judge(&position, &asked) {
            Tailed::Broken(Break::EntriesMissed | Break::StreamShorter) if !self.rules.entries_are_counted => {
                return Tailed::ToTheEnd(position);
            }
            judged => judged,
        };
        let is_ours = reply.history.replid == reply.replid && !node.reader.is_shorter;
        match matches!(judged, Tailed::Broken(_)) || is_ours || !self.rules.history_is_compared {
            true => judged,
            false => Tailed::Broken(Break::PrimaryChanged),
        }
    }

    /// Continuity is lost: all is to be loaded again, and the history is set right.
    fn break_off(&self, state: &mut State, n: usize, cause: Break) {
        let node = &mut state.nodes[n];
        let is_first = node.reader.position.is_none();
        if !is_first && self.rules.break_clears_standing {
            node.clear_standing();
        }
        let reader = &mut node.reader;
        reader.position = None;
        reader.is_shorter |= !is_first && matches!(cause, Break::StreamShorter | Break::StreamMissing);
        reader.reply = None;
        if cause.may_have_lost_history() {
            state.redis.set_history(reader.is_shorter, reader.told.since, state.now);
            reader.is_shorter = false;
        }
    }

    /// Doubt is raised before the entries are applied, and lifted after all are.
    fn tell_doubt(&self, node: &mut Node, reply: &Reply, may_lift: bool) {
        let (told, history) = (node.reader.told, reply.history);
        let is_told = (told.since, told.is_whole) == (history.since, history.is_whole);
        if is_told || (history.is_whole && !may_lift) {
            return;
        }
        node.reader.told = history;
        let since = history.since.filter(|_| !history.is_whole && self.rules.doubt_after_lost_history);
        node.doubt_before(since);
    }

    fn move_fence(&self, state: &mut State, n: usize, reply: &Reply) {
        let to = if self.rules.fence_moves_to_the_question { reply.sent } else { state.now };
        let fence = &mut state.nodes[n].fence;
        *fence = (*fence).max(Some(to));
    }
}
