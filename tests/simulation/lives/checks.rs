//! The tests: many drawn histories, and those that once found something.

use std::time::Duration;

use proptest::prelude::*;

use super::fleet::{Event, Fleet, History, histories};
use super::town::Step;
use crate::drawn;

proptest! {
    #![proptest_config(drawn(1_000))]

    /// I4 to I8, of every answer on the way and of all in the end.
    #[test]
    fn i4_i5_i6_hold_for_three_nodes_whatever_comes_late_twice_or_never(history in histories(60)) {
        let breach = Fleet::run(&history);
        prop_assert!(breach.is_none(), "{}", breach.unwrap_or_default());
    }
}

/// Found by the histories above. A user is gone; a node that has not heard it lands the list that the origin still shows; another,
/// which has heard it and whose fence is not fresh, finds that in Redis.
#[test]
fn i5_a_list_of_who_is_gone_is_no_answer() {
    let wait = |millis| Event::Wait(Duration::from_millis(millis));
    let ask = |node, user| Event::Ask { node, user, about: None };
    let gone = Event::Live { step: Step::DeleteUser(1), is_lost: false };
    let told = Event::Deliver { message: 0, node: 2, names_user: true };
    let events = vec![gone, told, wait(2_000), ask(0, 1), ask(2, 1), Event::Hear { node: 2 }, ask(2, 1)];
    let breach = Fleet::run(&History { events, manners: vec![(30, false)] });
    assert_eq!(breach, None);
}

/// Found by the histories above. A node that is cut off from Redis reads a list that lacks what it was told of, from an origin that
/// lags; another has read the whole list a moment before. When Redis is back, the younger list is still the one that lacks it.
#[test]
fn i4_a_list_that_lacks_what_was_announced_gives_way_to_an_older_one() {
    let ask = |node, user| Event::Ask { node, user, about: None };
    let joined = Event::Live { step: Step::Join(1, 1), is_lost: false };
    let told = Event::Deliver { message: 0, node: 0, names_user: true };
    let (heard, cut) = (Event::Hear { node: 0 }, Event::Cut { node: 0, is_cut: true });
    let events = vec![joined, told, heard, cut, ask(2, 0), ask(1, 1), ask(0, 1)];
    let breach = Fleet::run(&History { events, manners: vec![(4, false), (0, false)] });
    assert_eq!(breach, None);
}
