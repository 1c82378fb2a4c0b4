//! One node whose link to Redis is in trouble, and two that have nothing to do with it. I4 to I8.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::plan::{Fault, Pace, Plan};
use super::run::{Outcome, run};
use crate::world::dice::Dice;
use crate::world::faulty_link::Trouble;

/// What an answer of the node rests on may have been read up to a bound before the link was cut.
const BOUND: Duration = Duration::from_secs(1);

/// Its readers still reach it. Once a bound has passed, nothing it remembers is an answer: it asks the origin.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_node_cut_from_redis_says_nothing_past_the_bound_and_the_others_do_not_notice() {
    let troubles = [(1, Trouble::Cut), (2, Trouble::Stalled), (3, Trouble::Silent)];
    join_all(troubles.map(async |(seed, trouble)| {
        let plan = Plan::only(Fault::Link { node: 0, trouble }, Duration::from_secs(4));
        let outcome = run(seed, &plan, &[]).await;
        println!("{trouble:?}: {}", outcome.tell());
        assert!(outcome.wrong.is_empty(), "{}", outcome.explain());
        expect_decisions(&outcome);
    }))
    .await;
}

fn expect_decisions(outcome: &Outcome) {
    let (decided, asked) = outcome.decisions_of(|read| read.node != 0);
    println!("the others: {decided} of {asked} are decisions");
    assert!(asked > 50 && decided * 100 >= asked * 99, "the others have all they need: {}", outcome.explain());
    let since = |at: Instant| at - outcome.began;
    let cut = &outcome.struck[0];
    let (decided, asked) =
        outcome.decisions_of(|read| read.node == 0 && since(read.began) > cut.began + BOUND * 2 && since(read.ended) < cut.over);
    println!("the node itself: {decided} of {asked} are decisions, long after the link was cut");
    assert!(asked > 10 && decided * 100 >= asked * 99, "the origin answers: {}", outcome.explain());
}

/// By hand many more: `ROLLCALL_TEST_CHANGES=20000 cargo test --test it faults::links::i4 -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn i4_changes_in_any_order_are_right_at_once_whatever_becomes_of_one_nodes_link() {
    let changes = std::env::var("ROLLCALL_TEST_CHANGES").map_or(600, |changes| changes.parse().expect("a number"));
    let pace = Pace { changes: Some(changes), changes_per_second: 150, readers_per_node: 2, reads_per_second: None };
    let plan = Plan::first_link(pace, &mut Dice::new(1));
    let began = Instant::now();
    let outcome = run(1, &plan, &[]).await;
    println!("{} in {:?}", outcome.tell(), began.elapsed());
    for node in 0..3 {
        let (decided, asked) = outcome.decisions_of(|read| read.node == node);
        println!("node {node}: {decided} of {asked} answers are decisions, {:.3} %", decided as f64 * 100.0 / asked as f64);
        assert!(node == 0 || decided * 100 >= asked * 99, "{}", outcome.explain());
    }
    assert!(outcome.wrong.is_empty(), "{}", outcome.explain());
    assert!(outcome.changes >= changes, "{}", outcome.tell());
}
