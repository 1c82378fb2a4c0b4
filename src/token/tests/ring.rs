//! When keys are asked for.

use proptest::prelude::*;

use super::*;
use crate::domain::Moment;

const SECOND: u64 = 1_000;

fn at(ms: u64) -> Moment {
    Moment::from_micros((1_000_000 + ms) * 1_000)
}

fn set(key_ids: &[&str]) -> Option<KeySet> {
    let keys: Vec<Value> = key_ids.iter().map(|id| OURS.jwk(id)).collect();
    Some(KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("keys"))
}

fn said(next: &Next) -> &'static str {
    match next {
        Next::Use(_) => "use",
        Next::UseAndFetch(_) => "use and fetch",
        Next::Fetch => "fetch",
        Next::Await => "await",
        Next::Unknown => "unknown",
        Next::Unavailable { .. } => "unavailable",
    }
}

/// What a ring says to a token of this key at this time.
fn check(ring: &mut KeyRing, key_id: &str, ms: u64, expected: &str) {
    let next = ring.next(Some(key_id), at(ms));
    assert_eq!(said(&next), expected, "{key_id} at {ms} ms");
}

fn ring_with(key_ids: &[&str]) -> KeyRing {
    let mut ring = KeyRing::fetched();
    check(&mut ring, "ins_1", 0, "fetch");
    ring.land(set(key_ids));
    ring
}

#[test]
fn a_set_is_good_for_five_minutes_and_then_asked_for_again() {
    let mut ring = ring_with(&["ins_1"]);
    check(&mut ring, "ins_1", 0, "use");
    check(&mut ring, "ins_1", 300 * SECOND, "use");
    check(&mut ring, "ins_1", 300 * SECOND + 1, "fetch");
    check(&mut ring, "ins_1", 300 * SECOND + 2, "await");
    ring.land(set(&["ins_2"]));
    check(&mut ring, "ins_1", 300 * SECOND + 3, "unknown");
    check(&mut ring, "ins_2", 300 * SECOND + 3, "use");
}

#[test]
fn an_unknown_key_has_the_set_fetched_at_most_every_ten_seconds() {
    let mut ring = ring_with(&["ins_1"]);
    check(&mut ring, "ins_9", 1, "unknown");
    check(&mut ring, "ins_9", 10 * SECOND - 1, "unknown");
    check(&mut ring, "ins_9", 10 * SECOND, "fetch");
    check(&mut ring, "ins_8", 10 * SECOND, "await");
    check(&mut ring, "ins_1", 10 * SECOND, "use");
    ring.land(set(&["ins_1", "ins_9"]));
    check(&mut ring, "ins_9", 10 * SECOND + 1, "use");
    check(&mut ring, "ins_8", 20 * SECOND - 1, "unknown");
    check(&mut ring, "ins_8", 20 * SECOND, "fetch");
}

#[test]
fn while_clerk_is_away_old_keys_go_on_and_unknown_ones_are_not_denied() {
    let mut ring = ring_with(&["ins_1"]);
    check(&mut ring, "ins_1", 400 * SECOND, "fetch");
    ring.land(None);
    check(&mut ring, "ins_1", 400 * SECOND + 1, "use");
    check(&mut ring, "ins_9", 400 * SECOND + 1, "unavailable");
    check(&mut ring, "ins_1", 410 * SECOND - 1, "use");
    check(&mut ring, "ins_1", 410 * SECOND, "use and fetch");
    check(&mut ring, "ins_1", 410 * SECOND + 1, "use");
    check(&mut ring, "ins_9", 410 * SECOND + 1, "await");
    ring.land(None);
    check(&mut ring, "ins_1", 420 * SECOND, "use and fetch");
    ring.land(set(&["ins_2"]));
    check(&mut ring, "ins_1", 420 * SECOND + 1, "unknown");
    check(&mut ring, "ins_2", 720 * SECOND + 1, "fetch");
    let mut empty = KeyRing::fetched();
    check(&mut empty, "ins_1", 0, "fetch");
    empty.land(None);
    check(&mut empty, "ins_1", SECOND, "unavailable");
    match empty.next(Some("ins_1"), at(4 * SECOND)) {
        Next::Unavailable { retry_after } => assert_eq!(retry_after, Duration::from_secs(6)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fetch_that_never_lands_is_given_up() {
    let mut ring = KeyRing::fetched();
    check(&mut ring, "ins_1", 0, "fetch");
    check(&mut ring, "ins_1", 2 * SECOND, "await");
    check(&mut ring, "ins_1", 2 * SECOND + 1, "unavailable");
    check(&mut ring, "ins_1", 10 * SECOND, "fetch");
    // Where there is an old key nobody is refused for it.
    let mut ring = ring_with(&["ins_1"]);
    check(&mut ring, "ins_1", 400 * SECOND, "fetch");
    check(&mut ring, "ins_1", 402 * SECOND, "await");
    check(&mut ring, "ins_1", 402 * SECOND + 1, "use");
    check(&mut ring, "ins_9", 402 * SECOND + 1, "unavailable");
    check(&mut ring, "ins_1", 410 * SECOND, "use and fetch");
}

#[test]
fn a_token_must_name_its_key_among_many_and_need_not_for_one() {
    let mut ring = ring_with(&["ins_1"]);
    assert_eq!(said(&ring.next(None, at(1))), "unknown");
    assert_eq!(said(&KeyRing::fetched().next(None, at(1))), "unknown", "nobody is asked for it");
    let mut pinned = KeyRing::pinned(Key::from_pem(&OURS.pem()).expect("a key").into());
    for key_id in [None, Some("ins_1"), Some("whatever")] {
        assert_eq!(said(&pinned.next(key_id, at(1_000 * SECOND))), "use");
    }
}

proptest! {
    /// Whatever is asked and however the fetches end: one at a time, ten seconds apart.
    #[test]
    fn fetches_are_apart_and_never_two_at_once(steps in prop::collection::vec((0_u8..4, 0_u64..4_000, 0_u8..3), 1..200)) {
        let (mut ring, mut now, mut under_way) = (KeyRing::fetched(), 0, None);
        let mut last = None;
        for (key, passing, landing) in steps {
            now += passing;
            let lands = under_way.is_some_and(|begun| landing > 0 || now - begun >= 2 * SECOND);
            if lands {
                ring.land(if landing == 1 { set(&["ins_1", "ins_2"]) } else { None });
                under_way = None;
            }
            if said(&ring.next(Some(&format!("ins_{key}")), at(now))).ends_with("fetch") {
                prop_assert!(under_way.is_none());
                prop_assert!(last.is_none_or(|last| now - last >= 10 * SECOND));
                (last, under_way) = (Some(now), Some(now));
            }
        }
    }
}
