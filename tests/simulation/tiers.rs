//! Two nodes, one shared value, one user: any interleaving of changes, messages, readings and landings. Upholds I5.
//!
//! The shared tier is `protocol::lease::Guard` and a value beside it; the origin's reads lag. Whenever a value is there, what
//! a node that has heard every passed change would answer from it holds nothing that ended before the last passed change.

use proptest::prelude::*;
use rollcall::domain::{Change, Membership, Moment};
use rollcall::protocol::facts::outrank;
use rollcall::protocol::lease::{Guard, Landed};

use crate::drawn;
use crate::history::{History, at, histories, user};
use crate::memory::Memory;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The next step of the history becomes true at the origin.
    Live,
    /// The oldest message not yet delivered passes; or an old one does again.
    Deliver { is_repeated: bool },
    /// A node takes the lease.
    Begin(usize),
    /// A node's origin read returns what was true `lag` steps ago.
    Read { node: usize, lag: usize },
    /// A node lands what it read.
    Land(usize),
}

#[derive(Debug, Clone, Default)]
struct Node {
    lease: Option<(String, u64)>,
    reading: Option<Vec<Membership>>,
}

#[derive(Debug, Default)]
struct World {
    lived: usize,
    delivered: usize,
    clock: u64,
    guard: Guard,
    value: Option<(Vec<Membership>, u64)>,
    memory: Memory,
    passed: Vec<(Change, usize)>,
    nodes: [Node; 2],
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let node = 0..2usize;
    let event = prop_oneof![
        3 => Just(Event::Live),
        3 => any::<bool>().prop_map(|is_repeated| Event::Deliver { is_repeated }),
        3 => node.clone().prop_map(Event::Begin),
        3 => (node.clone(), 0..4usize).prop_map(|(node, lag)| Event::Read { node, lag }),
        3 => node.prop_map(Event::Land),
    ];
    prop::collection::vec(event, 1..60)
}

impl World {
    fn step(&mut self, history: &History, event: Event) {
        self.clock += 1;
        match event {
            Event::Live => self.lived = (self.lived + 1).min(history.messages.len()),
            Event::Deliver { is_repeated: true } => {
                if let Some((change, step)) = self.passed.last().cloned() {
                    self.pass(&change, step);
                }
            }
            Event::Deliver { is_repeated: false } => {
                if self.delivered < self.lived {
                    let step = self.delivered;
                    self.delivered += 1;
                    if let Some(change) = history.messages[step].clone() {
                        self.pass(&change, step);
                    }
                }
            }
            Event::Begin(node) => {
                let lease = self.guard.begin(&format!("lease{}", self.clock));
                self.nodes[node] = Node { lease: Some((lease, self.clock)), reading: None };
            }
            Event::Read { node, lag } => {
                if self.nodes[node].lease.is_some() {
                    self.nodes[node].reading = Some(history.truths[self.lived.saturating_sub(lag)].clone());
                }
            }
            Event::Land(node) => self.land(node),
        }
    }

    fn pass(&mut self, change: &Change, step: usize) {
        self.memory.hear(change, Moment::from_micros(self.clock));
        if !change.users().is_empty() {
            self.value = None;
            self.guard.invalidate(&format!("lease{}", self.clock));
        }
        self.passed.push((change.clone(), step));
    }

    fn land(&mut self, node: usize) {
        let Node { lease: Some((lease, as_of)), reading: Some(mut reading) } = std::mem::take(&mut self.nodes[node]) else {
            return;
        };
        outrank(&user(), Moment::from_micros(as_of), &mut reading, &self.memory);
        if self.guard.land(&lease, as_of, "") == Landed::Landed {
            self.value = Some((reading, as_of));
        }
    }

    /// What a node that heard everything that passed answers from the shared value.
    fn answer(&self) -> Option<Vec<Membership>> {
        let (value, as_of) = self.value.clone()?;
        let mut answer = value;
        outrank(&user(), Moment::from_micros(as_of), &mut answer, &self.memory);
        Some(answer)
    }
}

proptest! {
    #![proptest_config(drawn(4_000))]

    #[test]
    fn i5_no_value_brings_back_what_a_passed_change_ended(history in histories(10), events in events()) {
        let mut world = World::default();
        for event in events {
            world.step(&history, event);
            let Some(answer) = world.answer() else { continue };
            // Messages pass in order here, so what the last one saw is a lower bound of the truth.
            let known = &history.truths[world.delivered];
            for row in &answer {
                let was_ended = world.passed.iter().any(|(_, step)| {
                    let existed = history.truths[..=*step].iter().flatten().any(|old| old.membership_id == row.membership_id);
                    existed && !known.iter().any(|now| now.membership_id == row.membership_id)
                });
                prop_assert!(!was_ended, "{row:?} ended before step {}", world.delivered);
            }
        }
    }

    #[test]
    fn i5_what_was_begun_before_a_change_never_lands_after_it(history in histories(6), as_of in 1..100u64) {
        for (change, _) in history.delivered().iter().filter(|(change, _)| !change.users().is_empty()) {
            let mut world = World::default();
            let lease = world.guard.begin("before");
            world.pass(change, 0);
            prop_assert_eq!(world.guard.land(&lease, as_of, ""), Landed::RefusedLease);
        }
        prop_assert!(at(0) > Moment::ZERO);
    }
}
