//! Three processes on one Redis and one PostgreSQL, to which everything happens at once: the world changes, messages come
//! twice, late and out of order, readers ask every node, and faults drawn from a seed strike links, nodes and Redis. A judge
//! with a clock of its own holds every answer against the acknowledged history and against what the answer says of itself.
//! When the faults are over every node agrees with the origin, and nothing is open. I2 to I8, I10.
//!
//! Two seeds of some seconds in the ordinary run. By hand, more of both, and only some faults:
//! `ROLLCALL_TEST_SEEDS=3,4,5 ROLLCALL_TEST_SECONDS=60 ROLLCALL_TEST_FAULTS=NodeDies,Cut cargo test --test it faults`.

mod plan;
mod run;
#[cfg(feature = "rule-switches")]
pub mod switched;

use std::collections::HashSet;
use std::mem::discriminant;
use std::time::Duration;

use plan::{Fault, Plan, Strike};
use run::{NODES, Outcome, run};

use crate::world::dice::Dice;
use crate::world::faulty_link::Trouble;
use crate::world::history::Said;

/// The ordinary run. Between them the seeds draw every fault.
const SEEDS: &str = "1,3";
const SECONDS: &str = "6";
const FAULTS: &str = "Link,Node,Redis";

/// As in the ordinary run, unless a variable says otherwise.
fn by_hand(variable: &str, ordinary: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| ordinary.to_owned())
}

fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split(',').map(|number| number.trim().parse().expect("a number"))
}

/// The plan of a seed; only faults whose names hold one of these words.
fn draw(seed: u64, seconds: u64, meant: &str) -> Plan {
    let is_meant = |fault: &Fault| meant.split(',').any(|word| format!("{fault:?}").contains(word.trim()));
    Plan::draw(Duration::from_secs(seconds), NODES, &mut Dice::new(seed), is_meant)
}

#[test]
fn every_fault_strikes_in_the_ordinary_run() {
    let strikes = numbers(SEEDS).flat_map(|seed| draw(seed, numbers(SECONDS).sum(), FAULTS).lanes.concat());
    let kind = |strike: Strike| match strike.fault {
        Fault::Link { trouble, .. } => (discriminant(&strike.fault), Some(discriminant(&trouble))),
        fault => (discriminant(&fault), None),
    };
    let kinds: HashSet<_> = strikes.map(kind).collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_no_answer_is_past_the_bound_whatever_fails_and_in_the_end_all_agree_with_the_origin() {
    let seconds = by_hand("ROLLCALL_TEST_SECONDS", SECONDS).parse().expect("a number of seconds");
    let meant = by_hand("ROLLCALL_TEST_FAULTS", FAULTS);
    for seed in numbers(&by_hand("ROLLCALL_TEST_SEEDS", SEEDS)) {
        let plan = draw(seed, seconds, &meant);
        let outcome = run(seed, &plan, &[]).await;
        println!("seed {seed}: {}", outcome.tell());
        expect_right(seed, &outcome);
    }
}

/// It knows that it missed something, and not what. Whoever left meanwhile is no member to it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_node_past_which_the_stream_was_trimmed_says_nothing_that_it_missed() {
    let plan = Plan::only(Fault::StreamIsTrimmedPast { node: 0 }, Duration::from_millis(1_500));
    let outcome = run(1, &plan, &[]).await;
    println!("{}", outcome.tell());
    expect_right(1, &outcome);
}

fn expect_right(seed: u64, outcome: &Outcome) {
    assert!(outcome.wrong.is_empty(), "{}\nseed {seed}: {}", outcome.explain(), outcome.tell());
    let (yes, no) = (outcome.count(|said| matches!(said, Said::Rows(_))), outcome.count(|said| *said == Said::NotAMember));
    assert!(yes > 200 && no > 100, "too few to mean anything: {}", outcome.tell());
}

/// The judge judges by a second; these nodes promise ten. One of them does not hear from Redis for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_promises_less_is_found_out() {
    let plan = Plan::only(Fault::Link { node: 0, trouble: Trouble::Stalled }, Duration::from_secs(6));
    let outcome = run(1, &plan, &[("ROLLCALL_STALENESS_BOUND", "10s")]).await;
    println!("{}", outcome.tell());
    let count = |what: &str| outcome.wrong.iter().filter(|wrong| wrong.starts_with("node 0") && wrong.contains(what)).count();
    let (late, admitted) = (count(": a late "), count("in its own words"));
    println!("{late} are late, {admitted} more admit to it");
    assert!(late > 0 && admitted > 0, "{}\n{}", outcome.explain(), outcome.tell());
}
