//! Whose turn it is: the order in which reads that wait for the budget get it. The budget keeps one; it is pure, and wakes
//! whoever has come to the front.
//!
//! A fair queue of two kinds: each ticket is stamped with the time at which its kind would be served if it had its share
//! for itself, and the lowest stamp goes first. A cold read's stamp is one after the last, a first denial's four: while
//! cold reads wait a denial gets every fifth turn, and when none waits the denials get them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

/// Reads that may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is known of the user.
    Cold,
    /// A "no" is to be checked.
    Denial,
}

impl Kind {
    /// What a turn of this kind adds to its stamps.
    fn stride(self) -> u64 {
        match self {
            Self::Cold => 1,
            Self::Denial => 4,
        }
    }
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    stamp: u64,
    number: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<Ticket, Arc<Notify>>,
    numbers: u64,
    /// Stamp of the last turn served.
    served: u64,
    last_cold: u64,
    last_denial: u64,
}

impl Turns {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many would go before a newcomer of this kind.
    pub(super) fn ahead_of(&self, kind: Kind) -> usize {
        let stamp = self.next_stamp(kind);
        self.waiting.range(..=Ticket { stamp, number: u64::MAX }).count()
    }

    /// Queues a newcomer. What it gets is woken when it may have come to the front.
    pub(super) fn enter(&mut self, kind: Kind) -> (Ticket, Arc<Notify>) {
        let ticket = Ticket { stamp: self.next_stamp(kind), number: self.numbers };
        self.numbers += 1;
        *self.last(kind) = ticket.stamp;
        let bell = Arc::new(Notify::new());
        self.waiting.insert(ticket, Arc::clone(&bell));
        (ticket, bell)
    }

    /// Whether this ticket's turn has come.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        self.waiting.first_key_value().is_some_and(|(first, _)| *first == ticket)
    }

    /// Notes that the ticket got what it waited for. It still has to leave.
    pub(super) fn serve(&mut self, ticket: Ticket) {
        self.served = self.served.max(ticket.stamp);
    }

    /// Takes a ticket out, served or given up, and wakes the next.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        if let Some((_, bell)) = self.waiting.first_key_value() {
            bell.notify_one();
        }
    }

    fn next_stamp(&self, kind: Kind) -> u64 {
        let last = match kind {
            Kind::Cold => self.last_cold,
            Kind::Denial => self.last_denial,
        };
        // A kind that did not wait for a while has saved nothing up.
        self.served.max(last) + kind.stride()
    }

    fn last(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Cold => &mut self.last_cold,
            Kind::Denial => &mut self.last_denial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves the queue to its end.
    fn serve_all(turns: &mut Turns, kinds: &BTreeMap<Ticket, Kind>) -> Vec<Kind> {
        let mut order = Vec::new();
        while let Some((ticket, _)) = turns.waiting.first_key_value().map(|(ticket, bell)| (*ticket, bell)) {
            turns.serve(ticket);
            turns.leave(ticket);
            order.push(kinds[&ticket]);
        }
        order
    }

    fn queue(turns: &mut Turns, kind: Kind, count: usize) -> BTreeMap<Ticket, Kind> {
        (0..count).map(|_| (turns.enter(kind).0, kind)).collect()
    }

    #[test]
    fn while_cold_reads_wait_a_denial_gets_every_fifth_turn() {
        let mut turns = Turns::default();
        let mut kinds = queue(&mut turns, Kind::Denial, 100);
        kinds.extend(queue(&mut turns, Kind::Cold, 100));
        let order = serve_all(&mut turns, &kinds);
        for window in order[..125].chunks(5) {
            assert_eq!(window.iter().filter(|kind| **kind == Kind::Denial).count(), 1);
        }
        assert!(order[125..].iter().all(|kind| *kind == Kind::Denial));
    }

    #[test]
    fn denials_alone_get_every_turn_and_save_nothing_up_by_waiting() {
        let mut turns = Turns::default();
        let mut kinds = queue(&mut turns, Kind::Denial, 50);
        assert_eq!(serve_all(&mut turns, &kinds).len(), 50);
        // Cold reads that come after a time without any go by the same shares, not before everything else.
        kinds.extend(queue(&mut turns, Kind::Cold, 8));
        kinds.extend(queue(&mut turns, Kind::Denial, 2));
        let order = serve_all(&mut turns, &kinds);
        assert_eq!(order.iter().position(|kind| *kind == Kind::Denial), Some(4));
    }

    #[test]
    fn within_a_kind_the_first_to_come_is_the_first_to_go() {
        let mut turns = Turns::default();
        let tickets: Vec<Ticket> = (0..10).map(|_| turns.enter(Kind::Cold).0).collect();
        for ticket in tickets {
            assert!(turns.is_first(ticket));
            turns.serve(ticket);
            turns.leave(ticket);
        }
    }

    #[test]
    fn who_gives_up_at_the_front_wakes_the_next() {
        let mut turns = Turns::default();
        let (first, _) = turns.enter(Kind::Cold);
        let (second, bell) = turns.enter(Kind::Cold);
        assert_eq!(turns.ahead_of(Kind::Cold), 2);
        turns.leave(first);
        assert!(turns.is_first(second));
        // The bell was rung before anybody listened, and is heard all the same.
        let mut listening = std::pin::pin!(bell.notified());
        assert!(listening.as_mut().enable());
    }
}
