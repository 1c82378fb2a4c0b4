//! One fault by itself, and a service that promises less than the judge judges by.

use std::time::Duration;

use super::plan::{Fault, Plan};
use super::run::run;
use crate::world::faulty_link::Trouble;

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
