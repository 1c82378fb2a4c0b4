//! Which rule of the protocol is out in this process, as `ROLLCALL_RULE_OFF` says. Only in builds of `rule-switches`.

use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::protocol::rules::{self, Rule};

/// Names a rule by its number.
const VARIABLE: &str = "ROLLCALL_RULE_OFF";

/// Takes the rule out that the environment names, before anything asks whether it holds.
pub(super) fn take_out_as_told() -> anyhow::Result<()> {
    let Ok(number) = std::env::var(VARIABLE) else { return Ok(()) };
    take_out(Rule::of_number(&number).ok_or_else(|| anyhow::anyhow!("{VARIABLE} names no rule: {number}"))?);
    Ok(())
}

/// Takes a rule out for the life of this process; only the first one goes.
pub fn take_out(rule: Rule) {
    rules::take_out(rule, linger);
}

/// Stands still, and lets everything else go on.
fn linger() {
    let pause = || sleep(Duration::from_millis(400));
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(pause),
        _ => pause(),
    }
}

/// Nobody who reads the log of such a process takes it for the real one.
pub(super) fn say_so() {
    match rules::out() {
        Some(rule) => tracing::warn!(rule = ?rule, number = rule.number(), "a rule of the protocol is out: answers may be wrong"),
        None => tracing::warn!("rules of the protocol can be switched off in this build: it is for tests"),
    }
}
