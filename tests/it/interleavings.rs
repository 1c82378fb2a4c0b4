//! Schedules that once bit somebody, forced: an answer is held after it was read, a change passes, the answer is let go.
//! I5 and I11, in every tier, on the node that takes the change and on the others.
//!
//! Most changes here are evictions of a user whose membership ended without a word: they tell nothing but "read again", so no
//! remembered fact can mend what lands after them.

use std::time::{Duration, Instant};

use rollcall::dev::{Act, Faults, Rule};
use serde_json::json;

use crate::world::answer::Answer;
use crate::world::service::{Deployment, READ_KEY, Setup, World, run_on_both, run_test};
use crate::world::wait::{until, until_eq};

const ADA: &str = "user_ada";
const LIST: &str = "/v1/users/user_ada/orgs";
const WORKS: &str = "harbour-works";

impl World {
    /// Ada's membership ends, and nobody tells us but an operator, who evicts her through node `number`.
    pub async fn revoke_and_evict_at(&self, number: usize) -> anyhow::Result<Instant> {
        self.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(self.evict_at(number, ADA).await?.status, 204);
        Ok(Instant::now())
    }

    /// Whether node `number` lists the membership that ended.
    pub async fn still_lists(&self, number: usize) -> anyhow::Result<bool> {
        Ok(lists_works(&self.list_at(number, ADA).await?))
    }

    /// Whether what Redis holds of Ada, if anything, names the membership that ended.
    pub fn redis_still_lists(&mut self) -> bool {
        self.redis().query(&["GET", "user-orgs:user_ada"]).contains("org_harbour_works")
    }
}

fn lists_works(list: &Answer) -> bool {
    list.slugs().contains(&WORKS.to_owned())
}

/// The fill is slow, the revocation is quick: the slow answer must not win.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_slow_fill_does_not_bring_back_a_revoked_member() {
    run_on_both(Setup::default, async |world: &mut World| {
        let slow = world.clerk.hold_next_answer_about(ADA);
        let reading = world.begin(0, "/v1/users/user_ada/orgs/harbour-works", &[]);
        slow.reached().await?;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        slow.release();
        reading.answer().await?.is_not_a_member();
        world.check(ADA, WORKS).await?.is_not_a_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_fill_that_an_eviction_overtook_lands_nowhere() {
    run_on_both(Setup::default, async |world: &mut World| {
        let (slow, reading) = world.begin_slow_list(0, ADA).await?;
        world.revoke_and_evict_at(0).await?;
        slow.release();
        reading.answer().await?;
        assert!(!world.still_lists(0).await?);
        Ok(())
    })
    .await;
}

/// One node holds an answer of the origin while another takes the change.
#[tokio::test(flavor = "multi_thread")]
async fn i5_the_late_answer_of_another_node_lands_nowhere() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        let (slow, reading) = world.begin_slow_list(1, ADA).await?;
        let acknowledged = world.revoke_and_evict_at(0).await?;
        slow.release();
        reading.answer().await?;
        assert!(!world.redis_still_lists());
        world.until_all_know(acknowledged, LIST, |answer| answer.status == 200 && !lists_works(answer)).await;
        Ok(())
    })
    .await;
}

/// The same with a node that does not hear of the change at all: Redis refuses what began before.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_node_that_does_not_hear_the_stream_fills_nothing_old_into_redis() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        let (slow, reading) = world.begin_slow_list(1, ADA).await?;
        proxy.deafen().await;
        world.revoke_and_evict_at(0).await?;
        slow.release();
        assert_eq!(reading.answer().await?.slugs().len(), 11, "refused, it reads again");
        assert!(!world.redis_still_lists());
        assert!(world.metric_of(1, "rollcall_fills_refused_total", "lease").await >= 1.0);
        Ok(())
    })
    .await;
}

/// Absent never equals absent: a guard that went while the origin was asked refuses the fill as a new one would.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_fill_whose_guard_is_gone_is_refused() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let (slow, reading) = world.begin_slow_list(0, ADA).await?;
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        assert_eq!(world.redis().query(&["DEL", "{user-orgs:user_ada}:guard"]), "1");
        slow.release();
        assert_eq!(reading.answer().await?.slugs().len(), 11);
        assert!(!world.redis_still_lists());
        Ok(())
    })
    .await;
}

/// The value has landed in Redis, the node has not heard so yet; then the change passes; then the node hears.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_change_between_the_two_landings_refuses_the_second() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        proxy.hold(b"landed");
        let reading = world.begin_list(1, ADA);
        proxy.until_holding_one().await;
        world.revoke_and_evict_at(1).await?;
        proxy.release();
        reading.answer().await?;
        assert!(!world.still_lists(1).await?);
        assert!(!world.redis_still_lists());
        Ok(())
    })
    .await;
}

/// A node has asked Redis for the value, the change passes everywhere, then the answer comes.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_value_on_its_way_from_redis_is_not_promoted_after_a_change() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        assert!(world.still_lists(0).await?);
        let applied = world.metric_of(1, "rollcall_stream_entries_applied_total", "").await;
        proxy.hold(b"org_harbour_works");
        let reading = world.begin_list(1, ADA);
        proxy.until_holding_one().await;
        world.revoke_and_evict_at(0).await?;
        until("the change", async || {
            (world.metric_of(1, "rollcall_stream_entries_applied_total", "").await > applied).then_some(())
        })
        .await;
        proxy.release();
        reading.answer().await?;
        assert!(!world.still_lists(1).await?);
        Ok(())
    })
    .await;
}

/// Nothing voids a value when an organization ends: who takes it from Redis corrects it first.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_value_from_before_an_organization_ended_is_corrected_on_its_way_from_redis() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        assert!(world.still_lists(1).await?);
        let gone = world.change(|clerk| clerk.delete_organization(WORKS));
        world.deliver(&gone).await;
        assert!(world.redis_still_lists());
        let list = world.list(ADA).await?;
        assert_eq!((list.slugs().len(), list.header("cache-status")), (11, "rollcall; hit; detail=shared"));
        until_eq("a membership that ended in Redis", false, || world.redis_still_lists()).await;
        world.check(ADA, WORKS).await?.is_not_a_member();
        Ok(())
    })
    .await;
}

/// The origin answers from a replica that has not heard of the revocation: the webhook is believed, on nodes that come later too.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_origin_that_lags_does_not_bring_back_a_revoked_member() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        let acknowledged = Instant::now();
        world.clerk.faults().set(Faults { reads_lag_ms: 60_000, ..Faults::default() });
        world.add_node().await;
        for node in [0, 2, 1] {
            until("the revocation", async || (!world.still_lists(node).await.ok()?).then_some(())).await;
            world.check_at(node, ADA, WORKS).await?.is_not_a_member();
            let demanded = world.ask_with(node, LIST, &[("cache-control", "no-cache")]).await?;
            assert_eq!(demanded.slugs().len(), 11);
            assert!(!world.redis_still_lists());
        }
        assert!(acknowledged.elapsed() < Duration::from_secs(5));
        Ok(())
    })
    .await;
}

/// A change of a user in use begins a refresh; the next change overtakes it.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_background_refresh_that_a_change_overtook_lands_nowhere() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list(ADA).await?;
        world.list(ADA).await?;
        let slow = world.clerk.hold_next_answer_about(ADA);
        let demoted = world.change(|clerk| clerk.change_role(ADA, "orchard-nine", "org:member"));
        world.deliver(&demoted).await;
        slow.reached().await?;
        world.revoke_and_evict_at(0).await?;
        assert!(!world.still_lists(0).await?, "it does not wait for the refresh");
        slow.release();
        until("the end of the refresh", async || {
            (world.metric_of(0, "rollcall_fills_refused_total", "overtaken").await >= 1.0).then_some(())
        })
        .await;
        assert!(!world.still_lists(0).await?);
        Ok(())
    })
    .await;
}

/// Who asked before the change may be told what was true then, within the bound; after it, no more.
#[tokio::test(flavor = "multi_thread")]
async fn i6_who_asked_before_the_change_is_not_told_the_old_reading_past_the_bound() {
    let setup = || {
        let mut setup = Setup::default();
        setup.bounds.staleness = Duration::from_millis(300);
        setup
    };
    run_on_both(setup, async |world: &mut World| {
        let (slow, reading) = world.begin_slow_list(0, ADA).await?;
        let acknowledged = world.revoke_and_evict_at(0).await?;
        until("the bound to pass", async || (acknowledged.elapsed() > world.bounds().staleness).then_some(())).await;
        slow.release();
        assert_eq!(reading.answer().await?.slugs().len(), 11);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_who_asks_after_the_change_does_not_wait_for_the_flight_from_before() {
    run_on_both(Setup::default, async |world: &mut World| {
        let (slow, before) = world.begin_slow_list(0, ADA).await?;
        world.revoke_and_evict_at(0).await?;
        assert!(!world.still_lists(0).await?);
        slow.release();
        before.answer().await?;
        assert!(!world.still_lists(0).await?);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_reader_that_is_overtaken_again_and_again_is_answered() {
    run_on_both(Setup::default, async |world: &mut World| {
        let mut slow = world.clerk.hold_next_answer_about(ADA);
        let reading = world.begin_list(0, ADA);
        for _ in 0..20 {
            until("a flight or the answer", async || (slow.is_reached() || reading.is_answered()).then_some(())).await;
            if reading.is_answered() {
                break;
            }
            assert_eq!(world.evict_at(0, ADA).await?.status, 204);
            let next = world.clerk.hold_next_answer_about(ADA);
            std::mem::replace(&mut slow, next).release();
        }
        assert!(reading.is_answered(), "twenty changes, and no answer");
        assert_eq!(reading.answer().await?.slugs().len(), 12);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_many_readers_are_served_by_one_flight() {
    run_on_both(Setup::default, async |world: &mut World| {
        let slow = world.clerk.hold_next_answer_about(ADA);
        let readers: Vec<_> = (0..20).map(|_| world.begin_list(0, ADA)).collect();
        world.until_under_way(0, 20).await;
        slow.release();
        let mut led = 0;
        for reader in readers {
            let answer = reader.answer().await?;
            assert_eq!(answer.slugs().len(), 12);
            led += usize::from(answer.header("cache-status") == "rollcall; fwd=miss; stored");
        }
        assert_eq!((led, world.clerk.calls().of_user(ADA)), (1, 1));
        Ok(())
    })
    .await;
}

/// A flight under way is too old for who demands the origin now; the next one serves all of them.
#[tokio::test(flavor = "multi_thread")]
async fn i11_no_cache_joins_only_flights_begun_after_it_and_two_reads_serve_all() {
    run_on_both(Setup::default, async |world: &mut World| {
        let (slow, leader) = world.begin_slow_list(0, ADA).await?;
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        let demanding: Vec<_> = (0..10).map(|_| world.begin(0, LIST, &[("cache-control", "no-cache")])).collect();
        world.until_under_way(0, 11).await;
        slow.release();
        for reader in demanding {
            assert_eq!(reader.answer().await?.slugs().len(), 11, "begun after the membership ended");
        }
        leader.answer().await?;
        assert_eq!(world.clerk.calls().of_user(ADA), 2);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_client_that_hangs_up_takes_nothing_from_the_others() {
    run_on_both(Setup::default, async |world: &mut World| {
        let (slow, leader) = world.begin_slow_list(0, ADA).await?;
        let follower = world.begin_list(0, ADA);
        world.until_under_way(0, 2).await;
        leader.hang_up().await;
        slow.release();
        assert_eq!(follower.answer().await?.slugs().len(), 12);
        world.until_under_way(0, 0).await;
        assert_eq!(world.list(ADA).await?.header("cache-status"), "rollcall; hit; detail=local");
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        Ok(())
    })
    .await;
}

/// Nobody else asks: what the origin was asked for is kept all the same.
#[tokio::test(flavor = "multi_thread")]
async fn i11_the_flight_of_a_client_that_hung_up_lands() {
    run_on_both(Setup::default, async |world: &mut World| {
        let (slow, leader) = world.begin_slow_list(0, ADA).await?;
        leader.hang_up().await;
        slow.release();
        world.until_under_way(0, 0).await;
        assert_eq!(world.list(ADA).await?.slugs().len(), 12);
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        Ok(())
    })
    .await;
}

/// A batch gives up after two seconds, and drops what it waited for.
#[tokio::test(flavor = "multi_thread")]
async fn i11_the_flight_of_a_batch_that_gave_up_lands() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let slow = world.clerk.hold_next_answer_about(ADA);
        let checks = json!({"checks": [{"userId": ADA, "org": WORKS}]});
        let batch = world.http.post(format!("{}/v1/checks", world.nodes[0].url())).bearer_auth(READ_KEY).json(&checks);
        let answer = Answer::of(batch.send().await?).await?.json();
        assert_eq!(answer["results"][0]["reason"], "unavailable");
        assert!(slow.is_reached());
        // Nothing goes on that nobody waits for, but the flight.
        world.until_under_way(0, 0).await;
        slow.release();
        until("the landing", async || (world.metric_of(0, "rollcall_local_users", "").await == 1.0).then_some(())).await;
        assert_eq!(world.list(ADA).await?.header("cache-status"), "rollcall; hit; detail=local");
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_an_origin_that_hangs_leaves_no_follower_waiting() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.clerk.faults().add(Rule::next(Act::Hang, 1));
        let began = Instant::now();
        let readers: Vec<_> = (0..10).map(|_| world.begin_list(0, ADA)).collect();
        for reader in readers {
            reader.answer().await?.could_not_find_out("origin-unavailable");
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        assert_eq!(world.list(ADA).await?.slugs().len(), 12);
        Ok(())
    })
    .await;
}

/// The stream is trimmed past a node that has not heard of the last change: it knows that it missed something, and not what. A
/// value of Redis from before could name what that change took away.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_node_past_which_the_stream_was_trimmed_trusts_no_value_from_before() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        assert_eq!(world.list_at(0, ADA).await?.slugs().len(), 12);
        proxy.deafen().await;
        proxy.mute();
        // No user's value is touched: the organization is to be dropped from whatever is read.
        let gone = world.change(|clerk| {
            clerk.set_cascades(false);
            clerk.delete_organization(WORKS)
        });
        world.deliver(&gone).await;
        world.redis().query(&["XTRIM", "user-orgs:~changes", "MAXLEN", "0"]);
        proxy.release();
        until("the other node to notice", async || {
            (world.metric_of(1, "rollcall_stream_breaks_total", "entries-missed").await >= 1.0).then_some(())
        })
        .await;
        // Until it has loaded what is left it may answer by what it knew a moment ago, as far as the bound goes.
        until("the organization to be gone there", async || (!world.still_lists(1).await.ok()?).then_some(())).await;
        Ok(())
    })
    .await;
}

/// A node that has not heard of a join yet lands what a lagging origin says, under the lease that the join left. The others
/// wait five seconds for the origin, not as long as that value lives.
#[tokio::test(flavor = "multi_thread")]
async fn i4_a_list_from_before_a_join_is_no_answer_to_who_knows_of_the_join() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let proxy = world.add_node_behind_a_proxy().await;
        proxy.deafen().await;
        let joined = world.change(|clerk| clerk.grant("user_kofi", WORKS, "org:member"));
        world.deliver_to(0, &joined).await;
        world.clerk.faults().set(Faults { reads_lag_ms: 60_000, ..Faults::default() });
        assert!(!world.list_at(1, "user_kofi").await?.slugs().contains(&WORKS.to_owned()), "it cannot know");
        world.clerk.faults().set(Faults::default());
        let life = world.redis().query(&["TTL", "user-orgs:user_kofi"]).parse::<u64>()?;
        assert!(life > 60, "it did not know that this is brief: {life}");
        until("the new organization", async || {
            let list = world.list_at(0, "user_kofi").await.ok()?;
            list.slugs().contains(&WORKS.to_owned()).then_some(())
        })
        .await;
        proxy.release();
        Ok(())
    })
    .await;
}
