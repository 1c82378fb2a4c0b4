//! Faults drawn from twenty seeds, ten seconds of each. Four seeds run side by side: most of their time they wait.

use std::collections::HashSet;
use std::mem::discriminant;
use std::time::Duration;

use futures_util::future::join_all;

use super::plan::{Fault, Plan, Strike};
use super::run::{NODES, Outcome, run};
use crate::world::dice::Dice;
use crate::world::history::Said;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;
const SECONDS: u64 = 10;
const FAULTS: &str = "Link,Journal,Node,Redis,Stream";

/// The plan of a seed; only faults whose names hold one of these words.
fn draw(seed: u64, seconds: u64, meant: &str) -> Plan {
    let is_meant = |fault: &Fault| meant.split(',').any(|word| format!("{fault:?}").contains(word.trim()));
    Plan::draw(Duration::from_secs(seconds), NODES, &mut Dice::new(seed), is_meant)
}

#[test]
fn every_fault_strikes_in_the_ordinary_run() {
    let plans: Vec<_> = SEEDS.map(|seed| draw(seed, SECONDS, FAULTS)).collect();
    let kind = |strike: Strike| match strike.fault {
        Fault::Link { trouble, .. } | Fault::Journal { trouble, .. } => {
            (discriminant(&strike.fault), Some(discriminant(&trouble)))
        }
        fault => (discriminant(&fault), None),
    };
    let kinds: HashSet<_> = plans.iter().flat_map(|plan| plan.lanes.concat()).map(kind).collect();
    assert_eq!(kinds.len(), 18, "{kinds:?}");
    let lagging = plans.iter().filter(|plan| !plan.weather.origin_lag.is_zero()).count();
    let brief = plans.iter().filter(|plan| plan.weather.ttl < Duration::from_secs(10)).count();
    assert!((3..12).contains(&lagging) && brief > 3, "{lagging} lag, {brief} are brief");
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_whatever_fails_no_answer_is_past_the_bound_and_in_the_end_all_agree_from_seed_1() {
    check(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_whatever_fails_no_answer_is_past_the_bound_and_in_the_end_all_agree_from_seed_5() {
    check(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_whatever_fails_no_answer_is_past_the_bound_and_in_the_end_all_agree_from_seed_9() {
    check(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_whatever_fails_no_answer_is_past_the_bound_and_in_the_end_all_agree_from_seed_13() {
    check(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_whatever_fails_no_answer_is_past_the_bound_and_in_the_end_all_agree_from_seed_17() {
    check(4).await;
}

/// Every fifth part of the seeds, side by side; seeds named by hand are all in the first one.
async fn check(part: usize) {
    let by_hand = |variable: &str| std::env::var(variable).ok();
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    let named = by_hand("ROLLCALL_TEST_SEEDS").map(|seeds| seeds.split(',').map(number).collect::<Vec<_>>());
    let seeds = match named {
        Some(_) if part > 0 => Vec::new(),
        Some(named) => named,
        None => SEEDS.skip(part * 4).take(4).collect(),
    };
    let seconds = by_hand("ROLLCALL_TEST_SECONDS").map_or(SECONDS, |seconds| number(&seconds));
    let meant = by_hand("ROLLCALL_TEST_FAULTS").unwrap_or_else(|| FAULTS.to_owned());
    join_all(seeds.into_iter().map(async |seed| {
        let plan = draw(seed, seconds, &meant);
        let outcome = run(seed, &plan, &[]).await;
        println!("seed {seed}, {:?}: {}", plan.weather, outcome.tell());
        expect_right(seed, &outcome);
    }))
    .await;
}

fn expect_right(seed: u64, outcome: &Outcome) {
    assert!(outcome.wrong.is_empty(), "{}\nseed {seed}: {}", outcome.explain(), outcome.tell());
    let (yes, no) = (outcome.count(|said| matches!(said, Said::Rows(_))), outcome.count(|said| *said == Said::NotAMember));
    assert!(yes > 100 && no > 50, "too few to mean anything: {}", outcome.tell());
}
