//! What is remembered, for how long, and what moves the counter.

use super::super::facts::Facts;
use crate::domain::{Change, MembershipId, Moment, UserId};

fn deleted(n: u64) -> Change {
    Change::MembershipDeleted { membership: MembershipId::parse(&format!("orgmem_{n}")).expect("id"), user: None }
}

const WINDOW: u64 = 30 * 60 * 1_000_000;

#[test]
fn facts_go_after_the_window_unless_heard_again() {
    let facts = Facts::default();
    facts.remember(&deleted(1), Moment::from_micros(1));
    facts.remember(&deleted(2), Moment::from_micros(2));
    facts.remember(&deleted(1), Moment::from_micros(WINDOW));
    facts.remember(&deleted(3), Moment::from_micros(WINDOW + 3));
    assert_eq!(facts.len(), 2);
    assert!(facts.may_trust(Moment::ZERO), "what aged out is no loss");
}

#[test]
fn i12_too_many_facts_push_out_the_oldest_and_older_readings_are_no_answers() {
    let facts = Facts::bounded(10);
    for n in 0..25 {
        facts.remember(&deleted(n), Moment::from_micros(n + 1));
    }
    assert_eq!((facts.len(), facts.lost.get()), (10, 15));
    assert!(!facts.may_trust(Moment::from_micros(14)));
    assert!(facts.may_trust(Moment::from_micros(15)));
}

#[test]
fn i5_what_was_missed_makes_older_readings_no_answers_for_good() {
    let facts = Facts::default();
    facts.miss_before(Moment::from_micros(20));
    facts.miss_before(Moment::from_micros(10));
    facts.doubt_before(Moment::ZERO);
    assert!(!facts.may_trust(Moment::from_micros(19)));
    assert!(facts.may_trust(Moment::from_micros(20)));
    assert_eq!(facts.generation(), 2);
}

#[test]
fn only_what_names_no_user_moves_the_counter() {
    let facts = Facts::default();
    let user = UserId::parse("user_1").expect("id");
    facts.remember(&Change::UserDeleted { user: user.clone() }, Moment::from_micros(5));
    assert_eq!(facts.generation(), 0);
    assert_eq!(facts.dead_since(&user, Moment::from_micros(6)), Some(Moment::from_micros(5)));
    assert!(facts.has_changed_since(&user, Moment::from_micros(5)));
    assert!(!facts.has_changed_since(&user, Moment::from_micros(6)));
    facts.remember(&deleted(1), Moment::from_micros(6));
    assert_eq!(facts.generation(), 1);
}
