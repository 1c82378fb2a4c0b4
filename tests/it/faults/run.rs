//! One run: the world changes, readers ask, and the faults of a plan strike; then all is healed, and everything is judged.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall::dev::Faults;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::plan::{Fault, Plan, Strike, Weather};
use crate::world::changes::crowd;
use crate::world::dice::Dice;
use crate::world::fleet::Fleet;
use crate::world::history::{Read, Said};
use crate::world::street::Street;
use crate::world::wait::until;

pub const NODES: usize = 3;
/// What the nodes promise, as shipped.
const BOUND: Duration = Duration::from_secs(1);
/// As shipped.
const GRACE: Duration = Duration::from_secs(600);
/// A process that is told to stand still may do so a little later.
const STANDS_STILL_WITHIN: Duration = Duration::from_millis(20);
/// So many wrong answers are shown in full.
const WRONG_SHOWN: usize = 10;
const STREAM: &str = "user-orgs:~changes";

/// What came of a run.
pub struct Outcome {
    pub changes: usize,
    pub reads: Vec<Read>,
    pub began: Instant,
    pub struck: Vec<Struck>,
    pub wrong: Vec<String>,
    /// How long after its acknowledgement the end of a membership was longest unknown.
    latest_yes: Duration,
    /// How long half of the acknowledgements took, and nineteen of twenty.
    acknowledged_within: [Duration; 2],
    /// How long it took until all nodes were ready, until the history was whole, and until no message was open.
    healed_in: [Duration; 3],
    /// How often a process ended by itself, and was started again.
    ended: usize,
    logs: String,
}

/// A fault that struck: when it began and when it was over, by the clock of the judge.
pub struct Struck {
    pub began: Duration,
    pub over: Duration,
    fault: Fault,
}

/// Runs a plan with these settings of the nodes; afterwards everything must heal. The answers are judged, and may be wrong.
pub async fn run(seed: u64, plan: &Plan, settings: &[(&str, &str)]) -> Outcome {
    let mut dice = Dice::new(seed);
    let Weather { latency_ms, origin_lag, ttl } = plan.weather;
    let ttl_setting = format!("{}s", ttl.as_secs());
    let settings = [&[("ROLLCALL_TTL", ttl_setting.as_str())][..], settings].concat();
    let fleet = Fleet::start(NODES, crowd(&mut dice), &settings).await;
    let weather = Faults { latency_ms, reads_lag_ms: origin_lag.as_millis() as u64, ..Faults::default() };
    fleet.clerk.faults().set(weather);
    let street = Street::of(&fleet.clerk, fleet.http.clone(), fleet.urls(), BOUND);
    street.history().limit_ages(ttl, GRACE);
    street.history().let_origin_lag(origin_lag);
    let began = street.history().began();
    let readers = street.gather_at(plan.pace.reads_per_second, plan.pace.readers_per_node, &mut dice);
    let strikes = strike_all(&fleet, &street, plan, began);
    let goes_on = |changes| plan.pace.changes.map_or(began.elapsed() < plan.length, |count| changes < count);
    let changing = street.change_while(goes_on, plan.pace.changes_per_second, &mut dice);
    let (struck, changes) = tokio::join!(strikes, changing);
    let healed_in = fleet.until_healed().await;
    expect_agreement(&fleet, &street, origin_lag).await;
    let reads = street.end(readers).await;
    let mut history = street.history();
    let wrong = history.judge(&reads);
    Outcome {
        changes,
        wrong,
        latest_yes: history.latest_yes(&reads),
        acknowledged_within: history.acknowledged_within(),
        reads,
        began,
        struck,
        healed_in,
        ended: fleet.ended_by_themselves(),
        logs: fleet.logs(),
    }
}

/// Everybody tells what is true at the origin, once the bound has passed since the last acknowledgement.
async fn expect_agreement(fleet: &Fleet, street: &Street, origin_lag: Duration) {
    let last = street.history().all_acknowledged().expect("every message was taken");
    until("the bound to pass", async || (last.elapsed() > BOUND).then_some(())).await;
    if !origin_lag.is_zero() {
        fleet.clerk.faults().clear();
        return street.expect_the_truth_everywhere_soon().await;
    }
    let redis = fleet.redis.lock().await;
    street.expect_the_truth_everywhere(|key| redis.query(&["GET", key])).await.expect("values can be read");
}

async fn strike_all(fleet: &Arc<Fleet>, street: &Arc<Street>, plan: &Plan, began: Instant) -> Vec<Struck> {
    let struck = Arc::new(Mutex::new(Vec::new()));
    let mut lanes = JoinSet::new();
    for lane in plan.lanes.clone() {
        let (fleet, street, struck) = (fleet.clone(), street.clone(), struck.clone());
        lanes.spawn(async move {
            for strike in lane {
                sleep_until((began + strike.begins).into()).await;
                let began_after = began.elapsed();
                inflict(&fleet, &street, &strike).await;
                let told = Struck { began: began_after, over: began.elapsed(), fault: strike.fault };
                struck.lock().expect("unpoisoned").push(told);
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended.expect("no panic");
    }
    std::mem::take(&mut struck.lock().expect("unpoisoned"))
}

/// The fault, its time, and its end. Where nothing of Redis can have come through meanwhile, the judge is told.
async fn inflict(fleet: &Fleet, street: &Street, strike: &Strike) {
    let its_time = || sleep(strike.lasts);
    let cut = |nodes: Range<usize>, from: Instant| nodes.for_each(|node| street.history().cut(node, from, Instant::now()));
    match strike.fault {
        Fault::Link { node, trouble } => {
            fleet.link(node).trouble(trouble);
            let from = Instant::now();
            its_time().await;
            if trouble.is_whole() {
                cut(node..node + 1, from);
            }
            fleet.link(node).heal();
        }
        Fault::Journal { node, trouble } => {
            fleet.journal_link(node).trouble(trouble);
            its_time().await;
            fleet.journal_link(node).heal();
        }
        Fault::NodeStandsStill { node } => {
            let process = fleet.process(node).await;
            process.stand_still();
            its_time().await;
            process.go_on();
        }
        Fault::NodeDies { node } => {
            let mut process = fleet.process(node).await;
            process.kill();
            its_time().await;
            fleet.start_again(node, &mut process);
        }
        Fault::StreamIsTrimmedPast { node } => {
            let process = fleet.process(node).await;
            process.stand_still();
            its_time().await;
            fleet.redis.lock().await.query(&["XTRIM", STREAM, "MAXLEN", "0"]);
            process.go_on();
        }
        Fault::RedisStandsStill => {
            let redis = fleet.redis.lock().await;
            redis.pause();
            let from = Instant::now() + STANDS_STILL_WITHIN;
            its_time().await;
            cut(0..NODES, from);
            redis.resume();
        }
        Fault::RedisDies => {
            let mut redis = fleet.redis.lock().await;
            redis.forget();
            redis.kill();
            let from = Instant::now();
            its_time().await;
            cut(0..NODES, from);
            tokio::task::block_in_place(|| redis.restart());
        }
        Fault::RedisIsSetBack => {
            assert_eq!(fleet.redis.lock().await.query(&["SAVE"]), "OK");
            its_time().await;
            let mut redis = fleet.redis.lock().await;
            tokio::task::block_in_place(|| redis.restart());
        }
        Fault::RedisIsFull => {
            limit_memory(fleet, "1").await;
            its_time().await;
            limit_memory(fleet, "0").await;
        }
        Fault::RedisClockSteps { ms } => {
            fleet.redis.lock().await.step_clock(ms);
            its_time().await;
            fleet.redis.lock().await.step_clock(-ms);
        }
    }
}

async fn limit_memory(fleet: &Fleet, bytes: &str) {
    let done = fleet.redis.lock().await.query(&["CONFIG", "SET", "maxmemory", bytes]);
    assert_eq!(done, "OK");
}

impl Outcome {
    /// How many answers were like this.
    pub fn count(&self, is_meant: fn(&Said) -> bool) -> usize {
        self.reads.iter().filter(|read| is_meant(&read.said)).count()
    }

    /// What became of the reads of some nodes: decisions, and all.
    pub fn decisions_of(&self, is_meant: impl Fn(&Read) -> bool) -> (usize, usize) {
        let meant = || self.reads.iter().filter(|read| is_meant(read));
        (meant().filter(|read| !matches!(read.said, Said::Nothing | Said::Lost)).count(), meant().count())
    }

    /// One line of figures.
    pub fn tell(&self) -> String {
        let yes = self.count(|said| matches!(said, Said::Rows(_)));
        let no = self.count(|said| matches!(said, Said::NotAMember | Said::RoleMissing | Said::UserUnknown));
        let (nothing, lost) = (self.count(|said| *said == Said::Nothing), self.count(|said| *said == Said::Lost));
        format!(
            "{} changes, {} faults, {} more starts, {} reads: {yes} yes, {no} no, {nothing} nothing, {lost} lost; {} wrong; latest yes {:?}; acknowledged within {:?}; healed in {:?}",
            self.changes,
            self.struck.len(),
            self.ended,
            self.reads.len(),
            self.wrong.len(),
            self.latest_yes,
            self.acknowledged_within,
            self.healed_in
        )
    }

    /// Everything that is needed to find out why.
    pub fn explain(&self) -> String {
        let struck = |struck: &Struck| format!("{:?} from {:?} to {:?}\n", struck.fault, struck.began, struck.over);
        let struck: String = self.struck.iter().map(struck).collect();
        let wrong: Vec<_> = self.wrong.iter().take(WRONG_SHOWN).cloned().collect();
        format!("{struck}{}{}", self.logs, wrong.join("\n"))
    }
}
