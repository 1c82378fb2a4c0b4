//! The order of entries, and who has looked at them.

use super::super::order::{HANDFUL, Hits, Looker, Node, Order};
use crate::domain::UserId;

fn node(n: usize) -> Node {
    (UserId::parse(&format!("user_{n}")).expect("id"), n as u64)
}

fn order(count: usize) -> Order {
    let order = Order::default();
    for n in 0..count {
        order.push_back(node(n));
    }
    order
}

fn numbers(nodes: Vec<Node>) -> Vec<u64> {
    nodes.into_iter().map(|(_, number)| number).collect()
}

#[test]
fn a_round_gives_everybody_a_turn_a_handful_at_a_time() {
    let order = order(HANDFUL + 2);
    assert_eq!(numbers(order.turn()), (0..64).collect::<Vec<_>>());
    order.turn_back(3);
    assert_eq!(numbers(order.turn()), [61, 62, 63, 64, 65]);
    assert!(order.turn().is_empty());
    assert_eq!(numbers(order.turn())[0], 0, "and again from the front");
}

#[test]
fn nobody_loses_a_turn_when_others_go() {
    let order = order(HANDFUL + 8);
    order.turn();
    assert_eq!(order.pop_front(), Some(node(0)));
    assert_eq!(order.pop_front(), Some(node(1)));
    order.push_front(node(1));
    order.retain(|_, number| number % 2 == 0);
    assert_eq!(numbers(order.turn()), [64, 66, 68, 70]);
    assert_eq!(order.push_back(node(99)), 31 + 4 + 1);
    assert_eq!(numbers(order.turn()), [99]);
}

#[test]
fn each_looker_takes_a_hit_for_itself() {
    let hits = Hits::default();
    assert!(!hits.take(Looker::Sweep) && !hits.is_noted(Looker::Bound));
    hits.note();
    assert!(hits.take(Looker::Sweep) && !hits.take(Looker::Sweep));
    assert!(hits.copied().is_noted(Looker::Bound) && !hits.copied().is_noted(Looker::Sweep));
    assert!(hits.take(Looker::Bound) && !hits.is_noted(Looker::Bound));
    hits.give_back(Looker::Sweep);
    assert!(hits.is_noted(Looker::Sweep) && !hits.is_noted(Looker::Bound));
}
