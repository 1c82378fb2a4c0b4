//! What is remembered, for how long, and what moves the counter.

use super::super::facts::{Facts, TokenStanding};
use crate::domain::{Change, MembershipId, Moment, SessionId, UserId};

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

fn session_ended(session: &str) -> Change {
    Change::SessionEnded { session: SessionId::parse(session).expect("id"), user: None }
}

/// What is known of a token of this session of user_1, issued at second 100.
fn token_of(facts: &Facts, session: &str, as_of: u64) -> TokenStanding {
    let (user, session) = (UserId::parse("user_1").expect("id"), SessionId::parse(session).expect("id"));
    facts.token_standing(&user, &session, 100, Moment::from_micros(as_of))
}

#[test]
fn a_token_is_dead_when_its_session_or_its_user_is() {
    let user = || UserId::parse("user_1").expect("id");
    for (change, expected) in [
        (session_ended("sess_1"), TokenStanding::Dead),
        (session_ended("sess_2"), TokenStanding::Alive),
        (Change::UserDeleted { user: user() }, TokenStanding::Dead),
        (Change::UserDeleted { user: UserId::parse("user_2").expect("id") }, TokenStanding::Alive),
        (Change::UserBanned { user: user(), tokens_until: 100 }, TokenStanding::Dead),
        (Change::UserBanned { user: user(), tokens_until: 99 }, TokenStanding::Alive),
        (Change::UserCreated { user: user() }, TokenStanding::Alive),
    ] {
        let facts = Facts::default();
        facts.remember(&change, Moment::from_micros(5));
        // Whether the token was issued before or after the end makes no difference to a session that ended.
        for as_of in [1, 5, 9] {
            assert_eq!(token_of(&facts, "sess_1", as_of), expected, "{change:?} at {as_of}");
        }
        assert_eq!(facts.generation(), 0, "nobody's entry has to look at it");
    }
}

#[test]
fn an_end_is_remembered_for_the_window_and_counted_like_any_fact() {
    let facts = Facts::default();
    facts.remember(&session_ended("sess_1"), Moment::from_micros(1));
    facts.remember(&session_ended("sess_2"), Moment::from_micros(WINDOW));
    assert_eq!((facts.len(), token_of(&facts, "sess_1", WINDOW)), (2, TokenStanding::Dead));
    facts.remember(&session_ended("sess_3"), Moment::from_micros(WINDOW + 2));
    assert_eq!((facts.len(), token_of(&facts, "sess_1", WINDOW)), (2, TokenStanding::Alive));
}

#[test]
fn i8_where_an_end_may_have_been_lost_a_token_from_before_is_in_doubt() {
    let facts = Facts::bounded(2);
    for (n, session) in ["sess_1", "sess_2", "sess_3"].into_iter().enumerate() {
        facts.remember(&session_ended(session), Moment::from_micros(n as u64 + 10));
    }
    assert_eq!(token_of(&facts, "sess_1", 9), TokenStanding::InDoubt);
    assert_eq!(token_of(&facts, "sess_1", 10), TokenStanding::Alive);
    assert_eq!(token_of(&facts, "sess_2", 9), TokenStanding::Dead, "what is known is known");
    facts.doubt_before(Moment::from_micros(50));
    assert_eq!(token_of(&facts, "sess_9", 49), TokenStanding::InDoubt);
    facts.doubt_before(Moment::ZERO);
    assert_eq!(token_of(&facts, "sess_9", 49), TokenStanding::Alive);
}
