//! The master of the stream dies, and its replica takes its place: without what was acknowledged last, or with all of it where
//! replicas are awaited. I2, I5, I6.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rollcall::dev::{Sender, WorldHandle};

use super::watch::Watch;
use super::{CROWD, STREAM, TAKEN_WITHIN, WORKS, is_refused_everywhere, path, revoke_at, value};
use crate::world::asking::crowd as member;
use crate::world::changes::crowd;
use crate::world::cluster::Cluster;
use crate::world::dice::Dice;
use crate::world::history::Said;
use crate::world::redis_server::{query, query_replica};
use crate::world::service::{Deployment, Node, Setup, World, run_test};
use crate::world::street::Street;
use crate::world::wait::{until, until_eq, until_within};

const NODES: usize = 3;
/// Every node is right so soon after the replica was promoted.
const RIGHT_WITHIN: Duration = Duration::from_secs(2);
const ENTRIES: [&str; 4] = ["XRANGE", STREAM, "-", "+"];

const READERS_PER_NODE: usize = 4;
const CHANGES_PER_SECOND: u32 = 25;
/// Changes before the master dies, and after the replica serves.
const BEFORE: usize = 40;
const AFTER: usize = 20;
/// The replica gets nothing more so long before the master dies.
const CUT_BEFORE: Duration = Duration::from_millis(300);

/// These users come and go, and every message is sent to one node after the other until one takes it. Answers how many.
async fn come_and_go(
    users: Vec<String>,
    clerk: WorldHandle,
    sender: Sender,
    endpoints: Vec<String>,
    is_over: Arc<AtomicBool>,
) -> usize {
    let (mut taken, mut endpoints) = (0, endpoints.iter().cycle());
    for user in users.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let done = {
            let mut clerk = clerk.lock();
            let is_member = clerk.membership(user, WORKS).is_some();
            if is_member { clerk.revoke(user, WORKS) } else { clerk.grant(user, WORKS, "org:member") }
        };
        for message in done.expect("the world allows it").messages {
            until_within(TAKEN_WITHIN, "the message to be taken", || {
                let endpoint = endpoints.next().expect("they never end");
                async { sender.deliver_now(&message, endpoint).await.is_taken().then_some(()) }
            })
            .await;
        }
        taken += 1;
    }
    taken
}

/// The nodes know better than the new master; one that starts meanwhile does not, and what it may believe is refused until the
/// journal was applied again.
#[tokio::test(flavor = "multi_thread")]
async fn i5_every_node_is_right_two_seconds_after_the_master_of_the_stream_died_with_what_it_had_acknowledged() {
    let mut cluster = Cluster::start(1).await;
    run_test(Deployment::Bare, Setup::crowded(CROWD), async |world: &mut World| {
        for _ in 0..NODES {
            world.add_node_on(&cluster.url(), 0).await;
        }
        cluster.until_whole().await;
        let users: Vec<_> = (0..CROWD).map(member).collect();
        for user in &users {
            for node in 0..NODES {
                world.ask(node, &path(user)).await?.is_member();
            }
        }
        let master = cluster.first_owner(STREAM);
        let replica = cluster.replica_of(master);
        let port = cluster.port(replica);
        // Whose value is with the stream: it comes back as it was.
        let (lost, others): (Vec<_>, Vec<_>) =
            users.into_iter().partition(|user| cluster.first_owner(&value(user)) == master);
        let is_over = Arc::new(AtomicBool::new(false));
        let endpoints = world.nodes.iter().map(Node::webhooks).collect();
        let (clerk, sender) = (world.clerk.world().clone(), world.clerk.sender().clone());
        let restless = tokio::spawn(come_and_go(others, clerk, sender, endpoints, is_over.clone()));
        let mut watches = vec![Watch::begin(world, &lost, RIGHT_WITHIN)];

        until_eq("the values on the replica", true, || {
            lost.iter().all(|user| query_replica(port, &["GET", &value(user)]).contains(WORKS))
        })
        .await;
        cluster.cut_replication(replica).await;
        let mut ended = Vec::new();
        for (n, user) in lost.iter().enumerate() {
            ended.push(revoke_at(world, n % NODES, user).await.id);
            watches[0].acknowledged(n);
        }
        let entries = query_replica(port, &ENTRIES);
        assert!(ended.iter().all(|id| !entries.contains(id.as_str())), "nothing is lost, so nothing is shown");
        cluster.kill(master);
        let killed = Instant::now();
        cluster.until_promoted(replica).await;
        let promoted = Instant::now();
        world.start_node_on(&cluster.url(), 0).await;
        let left = RIGHT_WITHIN.saturating_sub(promoted.elapsed());
        watches.push(Watch::begin_at(&world.nodes[NODES..], world.http.clone(), &lost, left));
        (0..lost.len()).for_each(|place| watches[1].acknowledged(place));

        let is_whole = || {
            let [replid, whole] =
                ["replid", "whole"].map(|field| query(port, &["HGET", "{user-orgs:~changes}:history", field]));
            query(port, &["INFO"]).contains(&format!("master_replid:{replid}")) && whole == "1"
        };
        until_eq("the journal to be applied again", true, is_whole).await;
        let whole = promoted.elapsed();
        for node in 0..=NODES {
            world.until_ready(node).await;
        }
        let ready = promoted.elapsed();
        for watch in &watches {
            watch.until_judged().await;
        }
        let stream = query(port, &ENTRIES);
        ended.retain(|id| !stream.contains(id.as_str()));
        assert!(ended.is_empty(), "not put back: {ended:?}");
        is_over.store(true, Ordering::Relaxed);
        let taken = restless.await?;
        println!(
            "promoted {:?} after the death; {whole:?} after that all is put back, after {ready:?} all are ready; {taken} others came or went",
            promoted - killed
        );
        for watch in watches {
            let seen = watch.end().await;
            println!("after the promotion: {seen:?}");
            assert_eq!(seen.wrong, 0, "{seen:?}");
        }
        for user in &lost {
            is_refused_everywhere(world, user).await;
        }
        Ok(())
    })
    .await;
}

/// The world changes and readers ask all the time. Everything acknowledged is on the replica when its master dies, and no
/// answer is wrong, then or later.
#[tokio::test(flavor = "multi_thread")]
async fn i2_i6_a_failover_of_the_stream_loses_nothing_and_no_answer_is_wrong_where_replicas_are_awaited() {
    let mut dice = Dice::new(1);
    run_test(Deployment::Bare, Setup { clerk: crowd(&mut dice), ..Setup::default() }, async |world: &mut World| {
        let mut cluster = Cluster::start(1).await;
        for _ in 0..NODES {
            world.add_node_on(&cluster.url(), 1).await;
        }
        let urls = world.nodes.iter().map(Node::url).collect();
        let street = Street::of(&world.clerk, world.http.clone(), urls, world.bounds().staleness);
        // What ends with an organization has no entry of its own, which could be looked for.
        street.let_organizations_last();
        let readers = street.gather(READERS_PER_NODE, &mut dice);
        let is_served = AtomicBool::new(false);
        let striking = async {
            until("enough to be acknowledged", async || (street.history().acknowledged().0 >= BEFORE).then_some(())).await;
            strike(&mut cluster, &street, world).await;
            is_served.store(true, Ordering::Relaxed);
        };
        let (first, second) = (&mut dice.fork(), &mut dice.fork());
        let ((), changes) =
            tokio::join!(striking, street.change_while(|_| !is_served.load(Ordering::Relaxed), CHANGES_PER_SECOND, first));
        street.change_while(|changes| changes < AFTER, CHANGES_PER_SECOND, second).await;
        let last = street.history().all_acknowledged().expect("every message was taken");
        until("the bound to pass", async || (last.elapsed() > world.bounds().staleness).then_some(())).await;
        street.expect_the_truth_everywhere(|key| cluster.query_owner(&["GET", key])).await?;
        let reads = street.end(readers).await;
        let count = |is_meant: fn(&Said) -> bool| reads.iter().filter(|read| is_meant(&read.said)).count();
        let (yes, no) = (count(|said| matches!(said, Said::Rows(_))), count(|said| *said == Said::NotAMember));
        let wrong = street.history().judge(&reads);
        println!("{} changes, {yes} yes, {no} no, {} wrong", changes + AFTER, wrong.len());
        assert!(yes > 200 && no > 50, "too few to mean anything");
        assert!(wrong.is_empty(), "{} wrong, first {}", wrong.len(), wrong[0]);
        Ok(())
    })
    .await;
}

/// The master of the stream dies some time after its replica got the last of it, and comes back as a replica.
async fn strike(cluster: &mut Cluster, street: &Street, world: &World) {
    let master = cluster.first_owner(STREAM);
    let replica = cluster.replica_of(master);
    // From here on there is something to lose, if anything is acknowledged.
    cluster.cut_replication(replica).await;
    let cut = Instant::now();
    until("some messages to come", async || (cut.elapsed() > CUT_BEFORE).then_some(())).await;
    let acknowledged = street.history().acknowledged().1;
    let mut breaks = Vec::new();
    for node in 0..NODES {
        breaks.push(world.told_of(node).await.expect("an answer")["stream"]["breaks"].as_u64());
    }
    cluster.kill(master);
    let killed = Instant::now();
    let entries = query_replica(cluster.port(replica), &ENTRIES);
    let lost: Vec<_> = acknowledged.iter().filter(|id| !entries.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    cluster.heal_replication(replica);
    cluster.until_promoted(replica).await;
    let promoted = Instant::now();
    // Until it is back nothing is acknowledged.
    tokio::task::block_in_place(|| cluster.restart(master));
    for (node, before) in breaks.into_iter().enumerate() {
        until("the node to come over", async || {
            let told = world.told_of(node).await.ok()?;
            (told["stream"]["breaks"].as_u64() > before && told["status"] == "ready").then_some(())
        })
        .await;
    }
    println!("promoted {:?} after the death, served by all {:?} after that", promoted - killed, promoted.elapsed());
}
