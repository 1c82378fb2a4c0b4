//! Three nodes on one Redis, thousands of random changes, delivered twice, late and out of order to any node, and readers on
//! all of them meanwhile. Every answer is held against the acknowledged history; at the end every node agrees with the origin.
//! I3 to I6, I10.
//!
//! Two seeds, unless `ROLLCALL_TEST_SEEDS` names others: `ROLLCALL_TEST_SEEDS=3,4,5 cargo test --test it three_nodes`.

use std::time::{Duration, Instant};

use rollcall::dev::Faults;

use crate::world::changes::crowd;
use crate::world::dice::Dice;
use crate::world::history::{History, Read, Said};
use crate::world::service::{Deployment, Node, Setup, World, run_test};
use crate::world::street::Street;
use crate::world::wait::until;

const CHANGES: usize = 2_000;
/// At most so many changes a second.
const CHANGES_PER_SECOND: u32 = 400;
const READERS_PER_NODE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_agrees_with_the_acknowledged_history_and_in_the_end_with_the_origin() {
    let seeds = std::env::var("ROLLCALL_TEST_SEEDS").unwrap_or_else(|_| "1,7".to_owned());
    for seed in seeds.split(',').map(|seed| seed.trim().parse().expect("seeds are numbers")) {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut setup = Setup { clerk: crowd(&mut dice), ..Setup::default() };
    setup.bounds.staleness = Duration::from_millis(*dice.pick(&[1_000, 500, 250]));
    setup.bounds.ttl = Duration::from_secs(*dice.pick(&[300, 3]));
    let latency_ms = *dice.pick(&[0, 20, 80]);
    let (bound, ttl) = (setup.bounds.staleness, setup.bounds.ttl);
    println!("seed {seed}: a bound of {bound:?}, a TTL of {ttl:?}, an origin that takes {latency_ms} ms");
    run_test(Deployment::Redis(3), setup, async |world: &mut World| {
        world.clerk.faults().set(Faults { latency_ms, ..Faults::default() });
        let nodes = world.nodes.iter().map(Node::url).collect();
        let street = Street::of(&world.clerk, world.http.clone(), nodes, bound);
        street.history().limit_ages(ttl, world.bounds().grace);
        let began = Instant::now();
        let readers = street.gather(READERS_PER_NODE, &mut dice);
        street.change_while(|changes| changes < CHANGES, CHANGES_PER_SECOND, &mut dice).await;
        let took = began.elapsed();
        let last = street.history().all_acknowledged().expect("every message was taken");
        until("the bound to pass", async || (last.elapsed() > bound).then_some(())).await;
        street.expect_the_truth_everywhere(|key| world.redis_ref().query(&["GET", key])).await?;
        let reads = street.end(readers).await;
        judge(seed, &mut street.history(), &reads, took);
        Ok(())
    })
    .await;
}

fn judge(seed: u64, history: &mut History, reads: &[Read], took: Duration) {
    let wrong = history.judge(reads);
    assert!(wrong.is_empty(), "seed {seed}: {} of {} answers are wrong, first {}", wrong.len(), reads.len(), wrong[0]);
    let count = |is_meant: fn(&Said) -> bool| reads.iter().filter(|read| is_meant(&read.said)).count();
    let (yes, no) = (count(|said| matches!(said, Said::Rows(_))), count(|said| *said == Said::NotAMember));
    let nothing = count(|said| *said == Said::Nothing);
    let late = history.latest_yes(reads);
    println!("{CHANGES} changes in {took:?}; {} reads: {yes} yes, {no} no, {nothing} nothing; latest yes {late:?}", reads.len());
    assert!(yes > 200 && no > 100, "too few to mean anything");
    assert!(nothing * 100 < reads.len(), "nothing was away");
    assert_eq!(count(|said| *said == Said::Lost), 0, "nobody hung up");
}
