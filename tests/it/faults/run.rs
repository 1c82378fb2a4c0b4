//! One run: the world changes, readers ask, and the faults of a plan strike; then all is healed, and everything is judged.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall::dev::Faults;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::plan::{Fault, Plan, Strike};
use crate::world::changes::crowd;
use crate::world::dice::Dice;
use crate::world::fleet::Fleet;
use crate::world::history::{Read, Said};
use crate::world::street::Street;
use crate::world::wait::until;

pub const NODES: usize = 3;
/// What the nodes promise, as shipped.
const BOUND: Duration = Duration::from_secs(1);
const CHANGES_PER_SECOND: u32 = 80;
const READERS_PER_NODE: usize = 4;
/// So many wrong answers are shown in full.
const WRONG_SHOWN: usize = 10;
const STREAM: &str = "user-orgs:~changes";

/// What came of a run.
pub struct Outcome {
    pub changes: usize,
    pub reads: Vec<Read>,
    struck: Vec<Struck>,
    pub wrong: Vec<String>,
    /// How long after its acknowledgement the end of a membership was longest unknown.
    pub latest_yes: Duration,
    pub healed_in: Duration,
    logs: String,
}

/// A fault that struck: when it began and when it was over, by the clock of the judge.
struct Struck {
    began: Duration,
    over: Duration,
    fault: Fault,
}

/// Runs a plan with these settings of the nodes; afterwards everything must heal. The answers are judged, and may be wrong.
pub async fn run(seed: u64, plan: &Plan, settings: &[(&str, &str)]) -> Outcome {
    let mut dice = Dice::new(seed);
    let fleet = Fleet::start(NODES, crowd(&mut dice), settings).await;
    let latency_ms = *dice.pick(&[0, 20, 80]);
    fleet.clerk.faults().set(Faults { latency_ms, ..Faults::default() });
    let street = Street::of(&fleet.clerk, fleet.http.clone(), fleet.urls(), BOUND);
    if plan.loses_facts() {
        street.let_organizations_last();
    }
    let began = street.history().began();
    let readers = street.gather(READERS_PER_NODE, &mut dice);
    let strikes = strike_all(&fleet, plan, began);
    let changing = street.change_while(|_| began.elapsed() < plan.length, CHANGES_PER_SECOND, &mut dice);
    let (struck, changes) = tokio::join!(strikes, changing);
    let healed = Instant::now();
    fleet.until_healed().await;
    let healed_in = healed.elapsed();
    let last = street.history().all_acknowledged().expect("every message was taken");
    until("the bound to pass", async || (last.elapsed() > BOUND).then_some(())).await;
    street.expect_the_truth_everywhere(&*fleet.redis.lock().await).await.expect("values can be read");
    let reads = street.end(readers).await;
    let mut history = street.history();
    let wrong = history.judge(&reads);
    Outcome { changes, wrong, latest_yes: history.latest_yes(&reads), reads, struck, healed_in, logs: fleet.logs() }
}

async fn strike_all(fleet: &Arc<Fleet>, plan: &Plan, began: Instant) -> Vec<Struck> {
    let struck = Arc::new(Mutex::new(Vec::new()));
    let mut lanes = JoinSet::new();
    for lane in plan.lanes.clone() {
        let (fleet, struck) = (fleet.clone(), struck.clone());
        lanes.spawn(async move {
            for strike in lane {
                sleep_until((began + strike.begins).into()).await;
                let began_after = began.elapsed();
                inflict(&fleet, &strike).await;
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

/// The fault, its time, and its end.
async fn inflict(fleet: &Fleet, strike: &Strike) {
    let its_time = || sleep(strike.lasts);
    match strike.fault {
        Fault::Link { node, trouble } => {
            fleet.link(node).trouble(trouble);
            its_time().await;
            fleet.link(node).heal();
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
            its_time().await;
            redis.resume();
        }
        Fault::RedisDies => {
            let mut redis = fleet.redis.lock().await;
            redis.forget();
            redis.kill();
            its_time().await;
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

    /// One line of figures.
    pub fn tell(&self) -> String {
        let yes = self.count(|said| matches!(said, Said::Rows(_)));
        let no = self.count(|said| matches!(said, Said::NotAMember | Said::UserUnknown));
        let (nothing, lost) = (self.count(|said| *said == Said::Nothing), self.count(|said| *said == Said::Lost));
        format!(
            "{} changes, {} faults, {} reads: {yes} yes, {no} no, {nothing} nothing, {lost} lost; {} wrong; latest yes {:?}; healed in {:?}",
            self.changes,
            self.struck.len(),
            self.reads.len(),
            self.wrong.len(),
            self.latest_yes,
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
