//! What happens to messages on their way: lost, sent twice, overtaken. Pure: shares are spread evenly, without dice.

use serde::{Deserialize, Serialize};

use crate::dev::world::Message;

/// What a sender does to messages of the world API and of [`Sender::send`](super::Sender::send). Shares are of one: 0.25 is
/// every fourth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Habits {
    /// Share of messages never sent.
    pub lose_share: f64,
    /// Share of messages sent twice.
    pub duplicate_share: f64,
    /// Each second message is sent before the one before it.
    pub swap: bool,
    /// Wait before the first attempt, milliseconds, at most a minute.
    pub delay_ms: u64,
    #[serde(skip)]
    lost: f64,
    #[serde(skip)]
    duplicated: f64,
}

/// What the habits made of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be sent, in this order.
    pub now: Vec<Message>,
    /// Ids of messages that are lost.
    pub lost: Vec<String>,
    /// Id of the message that waits for the next one to overtake it.
    pub held_back: Option<String>,
}

impl Habits {
    /// Loses, doubles and swaps. `held_back` is what waits from the batch before.
    pub(super) fn plan(&mut self, messages: Vec<Message>, held_back: &mut Option<Message>) -> Plan {
        let mut plan = Plan::default();
        for message in messages {
            if is_due(&mut self.lost, self.lose_share) {
                plan.lost.push(message.id);
                continue;
            }
            let copies = 1 + usize::from(is_due(&mut self.duplicated, self.duplicate_share));
            match held_back.take() {
                None if self.swap => *held_back = Some(message),
                earlier => {
                    plan.now.extend(std::iter::repeat_n(message, copies));
                    plan.now.extend(earlier);
                }
            }
        }
        plan.held_back = held_back.as_ref().map(|message| message.id.clone());
        plan
    }
}

/// Whether this one is of the share: spread evenly, the same in every run.
pub(in crate::dev) fn is_due(sum: &mut f64, share: f64) -> bool {
    *sum += share.clamp(0.0, 1.0);
    let is_due = *sum >= 1.0 - 1e-9;
    if is_due {
        *sum -= 1.0;
    }
    is_due
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(ids: std::ops::Range<u32>) -> Vec<Message> {
        let message = |n| Message { id: format!("{n}"), event_type: "user.updated", body: Bytes::new() };
        ids.map(message).collect()
    }

    fn check(mut habits: Habits, sent: &str, lost: &str) {
        let mut held_back = None;
        let plans = [habits.plan(batch(0..3), &mut held_back), habits.plan(batch(3..6), &mut held_back)];
        let now: String = plans.iter().flat_map(|plan| &plan.now).map(|message| message.id.as_str()).collect();
        assert_eq!((now.as_str(), plans.iter().flat_map(|plan| plan.lost.clone()).collect::<String>().as_str()), (sent, lost));
    }

    #[test]
    fn messages_are_lost_doubled_and_swapped_as_told() {
        check(Habits::default(), "012345", "");
        check(Habits { lose_share: 0.5, ..Habits::default() }, "024", "135");
        check(Habits { lose_share: 1.0, ..Habits::default() }, "", "012345");
        check(Habits { duplicate_share: 1.0, ..Habits::default() }, "001122334455", "");
        check(Habits { swap: true, ..Habits::default() }, "103254", "");
    }

    #[test]
    fn a_share_is_kept_exactly() {
        for (share, expected) in [(0.1, 100), (0.25, 250), (1.0, 1000), (0.0, 0), (7.0, 1000)] {
            let mut sum = 0.0;
            assert_eq!((0..1000).filter(|_| is_due(&mut sum, share)).count(), expected, "{share}");
        }
    }
}
