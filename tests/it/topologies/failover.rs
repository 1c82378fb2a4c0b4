//! A failover under load, and one that loses what was last acknowledged: what holds with every replica awaited, and how soon
//! every node is right without. I2, I4 to I6.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::watch::{ADA, BOUND, Watch, Yes};
use crate::world::changes::crowd;
use crate::world::dice::Dice;
use crate::world::history::Said;
use crate::world::sentinels::Sentinels;
use crate::world::service::{Database, Deployment, Node, Setup, World, run_test};
use crate::world::street::Street;
use crate::world::wait::{until, until_eq};

const NODES: usize = 3;
const READERS_PER_NODE: usize = 4;
const CHANGES_PER_SECOND: u32 = 25;
/// Changes before the primary dies, and after another one serves.
const BEFORE: usize = 40;
const AFTER: usize = 20;
/// Where replicas are awaited they get nothing more so long before the primary dies.
const CUT_BEFORE: Duration = Duration::from_millis(300);
/// What is revoked while nothing reaches the replicas.
const LOST: [&str; 5] = ["harbour-works", "northfold-bakery", "copperline-rail", "lantern-and-loom", "orchard-nine"];
/// Without replicas awaited every node is right so soon after another primary was promoted.
const RIGHT_WITHIN: Duration = Duration::from_secs(2);
const STREAM: [&str; 4] = ["XRANGE", "user-orgs:~changes", "-", "+"];

fn setup() -> Setup {
    Setup { database: Database::Postgres, ..Setup::default() }
}

/// What came of a failover under load.
struct Outcome {
    /// Everything wrong, and what was wrong though it was asked later than every node has to be right.
    wrong: Vec<String>,
    late: Vec<String>,
    told: String,
}

/// The world changes and readers ask all the time; the first primary goes, another one is promoted, and at the end every node
/// agrees with the origin.
async fn fail_over_under_load(replicas: u32, end: End) -> Outcome {
    let mut dice = Dice::new(1);
    let mut outcome = None;
    run_test(Deployment::Bare, Setup { clerk: crowd(&mut dice), ..setup() }, async |world: &mut World| {
        let mut redis = Sentinels::start(2).await;
        for _ in 0..NODES {
            world.add_node_on(&redis.url(), replicas).await;
        }
        let urls = world.nodes.iter().map(Node::url).collect();
        let street = Street::of(&world.clerk, world.http.clone(), urls, BOUND);
        // What ends with an organization has no entry of its own, which could be looked for.
        street.let_organizations_last();
        let readers = street.gather(READERS_PER_NODE, &mut dice);
        let is_served = AtomicBool::new(false);
        let striking = async {
            until("enough to be acknowledged", async || (street.history().acknowledged().0 >= BEFORE).then_some(())).await;
            let struck = strike(&mut redis, &street, world, replicas, end).await;
            is_served.store(true, Ordering::Relaxed);
            struck
        };
        let (first, second) = (&mut dice.fork(), &mut dice.fork());
        let changing = street.change_while(|_| !is_served.load(Ordering::Relaxed), CHANGES_PER_SECOND, first);
        let ((promoted, at, served), changes) = tokio::join!(striking, changing);
        street.change_while(|changes| changes < AFTER, CHANGES_PER_SECOND, second).await;
        let last = street.history().all_acknowledged().expect("every message was taken");
        until("the bound to pass", async || (last.elapsed() > BOUND).then_some(())).await;
        street.expect_the_truth_everywhere(|key| redis.servers[promoted].query(&["GET", key])).await?;
        let reads = street.end(readers).await;
        let mut history = street.history();
        let count = |is_meant: fn(&Said) -> bool| reads.iter().filter(|read| is_meant(&read.said)).count();
        let (yes, no) = (count(|said| matches!(said, Said::Rows(_))), count(|said| *said == Said::NotAMember));
        assert!(yes > 200 && no > 50, "too few to mean anything");
        let (wrong, latest_yes) = (history.judge(&reads), history.latest_yes(&reads));
        let reads: Vec<_> = reads.into_iter().filter(|read| read.began > at + RIGHT_WITHIN).collect();
        let late = history.judge(&reads);
        let told = format!(
            "{end:?}, {replicas} awaited: served {served:?} after the promotion; {} changes, {yes} yes, {no} no; {} wrong, {} of them late; latest yes {latest_yes:?}",
            changes + AFTER,
            wrong.len(),
            late.len()
        );
        println!("{told}");
        outcome = Some(Outcome { wrong, late, told });
        Ok(())
    })
    .await;
    outcome.expect("it came to its end")
}

/// The first primary goes. Answers which one was promoted and when, and how long it took until every node served from it.
async fn strike(redis: &mut Sentinels, street: &Street, world: &World, replicas: u32, end: End) -> (usize, Instant, Duration) {
    if replicas > 0 {
        // From here on there is something to lose, if anything is acknowledged.
        redis.cut_replication().await;
        let cut = Instant::now();
        until("some messages to come", async || (cut.elapsed() > CUT_BEFORE).then_some(())).await;
    }
    let acknowledged = street.history().acknowledged().1;
    let mut breaks = Vec::new();
    for node in 0..NODES {
        breaks.push(world.told_of(node).await.expect("an answer")["stream"]["breaks"].as_u64());
    }
    match end {
        End::Dies => redis.servers[0].kill(),
        End::StandsStill => redis.servers[0].pause(),
        End::IsDeposed => drop(redis.fail_over().await),
    }
    if replicas > 0 {
        redis.heal_replication();
        for replica in &redis.servers[1..] {
            let entries = replica.query(&STREAM);
            let lost: Vec<_> = acknowledged.iter().filter(|id| !entries.contains(id.as_str())).collect();
            assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
        }
    }
    let promoted = redis.promoted_after(0).await;
    let at = Instant::now();
    if replicas > 0 {
        redis.bring_back_as_a_replica_of(promoted).await;
    }
    for (node, before) in breaks.into_iter().enumerate() {
        until("the node to come over", async || {
            let told = world.told_of(node).await.ok()?;
            (told["stream"]["breaks"].as_u64() > before && told["status"] == "ready").then_some(())
        })
        .await;
    }
    (promoted, at, at.elapsed())
}

/// Everything acknowledged is on both replicas when the primary dies, and no answer is wrong, then or later.
#[tokio::test(flavor = "multi_thread")]
async fn i2_i6_a_failover_under_load_loses_nothing_and_no_answer_is_wrong_where_all_replicas_are_awaited() {
    let outcome = fail_over_under_load(2, End::Dies).await;
    assert!(outcome.wrong.is_empty(), "{}, first {}", outcome.told, outcome.wrong[0]);
}

/// The old primary lives, and for a moment some nodes acknowledge there what others do not hear of.
#[tokio::test(flavor = "multi_thread")]
async fn i6_every_node_is_right_two_seconds_after_a_failover_under_load_from_a_primary_that_lives() {
    let outcome = fail_over_under_load(0, End::IsDeposed).await;
    assert!(outcome.late.is_empty(), "{}, first {}", outcome.told, outcome.late[0]);
}

/// How the primary goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Killed: connections end.
    Dies,
    /// It stands still: connections stay, nothing is answered.
    StandsStill,
    /// It is well, and told some seconds later that it is none any more.
    IsDeposed,
}

/// Everything revoked last is missing from the new primary, which has the old values. The nodes know better, and what a node
/// that starts meanwhile may believe is refused until the journal was applied again.
async fn lose_what_was_last_acknowledged(end: End) {
    run_test(Deployment::Bare, setup(), async |world: &mut World| {
        let mut redis = Sentinels::start(2).await;
        for _ in 0..NODES {
            world.add_node_on(&redis.url(), 0).await;
        }
        for node in 0..NODES {
            world.learn_by_heart(node).await;
        }
        let mut watches: Vec<_> = (0..NODES).map(|node| Watch::begin(world, node, &LOST)).collect();
        until_eq("Ada's value on the replicas", true, || {
            redis.servers[1..].iter().all(|replica| !replica.query(&["GET", "user-orgs:user_ada"]).is_empty())
        })
        .await;
        redis.cut_replication().await;
        let (mut acknowledged, mut ended) = (HashMap::new(), Vec::new());
        for (n, organization) in LOST.into_iter().enumerate() {
            let left = world.change(|clerk| clerk.revoke(ADA, organization));
            for delivery in world.deliver_to(n % NODES, &left).await {
                assert_eq!(delivery.status, Some(204), "{delivery:?}");
            }
            acknowledged.insert(organization.to_owned(), Instant::now());
            ended.push(left.id);
        }
        match end {
            End::Dies => redis.servers[0].kill(),
            End::StandsStill => redis.servers[0].pause(),
            End::IsDeposed => drop(redis.fail_over().await),
        }
        redis.heal_replication();
        for replica in &redis.servers[1..] {
            assert!(!replica.query(&STREAM).contains("membershipDeleted"), "nothing is lost, so nothing is shown");
        }
        let promoted = redis.promoted_after(0).await;
        let since = Instant::now();
        world.start_node_on(&redis.url(), 0).await;
        watches.push(Watch::begin(world, NODES, &LOST));
        let is_whole = || {
            let [replid, whole] = ["replid", "whole"]
                .map(|field| redis.servers[promoted].query(&["HGET", "{user-orgs:~changes}:history", field]));
            redis.servers[promoted].query(&["INFO"]).contains(&format!("master_replid:{replid}")) && whole == "1"
        };
        until_eq("the journal to be applied again", true, is_whole).await;
        let whole = since.elapsed();
        for node in 0..=NODES {
            world.until_ready(node).await;
        }
        let ready = since.elapsed();
        until("time to be wrong in", async || (since.elapsed() > RIGHT_WITHIN + BOUND).then_some(())).await;
        // Twice does no harm: who came over late doubts the history once more.
        let stream = redis.servers[promoted].query(&STREAM);
        assert!(ended.iter().all(|membership| stream.contains(membership)), "all is put back: {stream}");
        let mut wrong = Vec::new();
        for watch in watches {
            let is_late = |yes: &Yes| acknowledged.get(&yes.organization).is_some_and(|at| yes.began > *at + BOUND);
            wrong.extend(watch.end().await.into_iter().filter(is_late));
        }
        let last = wrong.iter().map(|yes| yes.began.saturating_duration_since(since)).max();
        println!(
            "{end:?}: {} wrong answers, the last {last:?} after the promotion; all put back after {whole:?}, all ready after {ready:?}",
            wrong.len()
        );
        assert!(last.is_none_or(|last| last < RIGHT_WITHIN), "{last:?}");
        for node in 0..=NODES {
            for organization in LOST {
                world.ask_of_ada(node, organization).await?.is_not_a_member();
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_every_node_is_right_two_seconds_after_a_failover_that_lost_the_last_acknowledged_entries() {
    lose_what_was_last_acknowledged(End::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_every_node_is_right_two_seconds_after_a_failover_from_a_primary_that_stands_still() {
    lose_what_was_last_acknowledged(End::StandsStill).await;
}
