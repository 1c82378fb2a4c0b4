//! The sweep: what no webhook told is found, counted once and evicted everywhere; what was told is not counted, however late
//! the message and however the origin lags; and nobody waits for it. I8, I12.

use std::time::Duration;

use rollcall::dev::{Act, Done, Faults, Rule, World as ClerkWorld, WorldError};
use rollcall::domain::Moment;
use rollcall::ingest::SweepPace;

use crate::world::asking::crowd;
use crate::world::service::{Deployment, Setup, World, run_on_both, run_test};
use crate::world::wait::until;

const ADA: &str = "user_ada";
const NOOR: &str = "user_noor";
const WORKS: &str = "harbour-works";
/// Long enough for a test to do something before a difference is settled.
const A_WHILE: Duration = Duration::from_secs(2);

fn paced(settle_after: Duration) -> Setup {
    let sweep = SweepPace { every: Duration::from_millis(5), age_min: Duration::ZERO, settle_after };
    Setup { sweep, ..Setup::default() }
}

fn quick() -> Setup {
    paced(Duration::from_millis(50))
}

fn unhurried() -> Setup {
    paced(A_WHILE)
}

impl World {
    async fn unannounced(&self, number: usize) -> f64 {
        self.metric_of(number, "rollcall_unannounced_changes_total", "").await
    }

    async fn explained(&self) -> f64 {
        self.metric_of(0, "rollcall_differences_explained_total", "").await
    }

    async fn compared(&self, outcome: &str) -> f64 {
        self.metric_of(0, "rollcall_entries_compared_total", outcome).await
    }

    async fn steps(&self, outcome: &str) -> f64 {
        self.metric_of(0, "rollcall_sweep_steps_total", outcome).await
    }

    async fn until_compared(&self, outcome: &str, count: f64) {
        until(&format!("{count} compared as {outcome}"), async || (self.compared(outcome).await >= count).then_some(())).await;
    }

    async fn until_explained(&self) {
        until("the difference to be explained", async || (self.explained().await >= 1.0).then_some(())).await;
    }

    /// So many steps of an outcome, from the beginning.
    async fn until_steps(&self, outcome: &str, count: f64) {
        until(&format!("steps {outcome}"), async || (self.steps(outcome).await >= count).then_some(())).await;
    }

    /// So many more steps of an outcome.
    async fn until_more(&self, outcome: &str, count: f64) {
        let before = self.steps(outcome).await;
        self.until_steps(outcome, before + count).await;
    }

    /// So many more steps that came to nothing: the other side failed, or it was left alone because of that.
    async fn until_more_in_vain(&self, count: f64) {
        let vain = async || self.steps("failed").await + self.steps("yielded").await;
        let before = vain().await;
        until("steps in vain", async || (vain().await >= before + count).then_some(())).await;
    }

    /// The user's entry is hit in the first node, from now on in use.
    async fn hit(&self, user: &str) -> anyhow::Result<()> {
        self.list(user).await?.came("hit; detail=local");
        Ok(())
    }

    /// A list that is read, becomes another at the origin, and is then in use.
    async fn in_use_when(
        &self,
        user: &str,
        verb: impl FnOnce(&mut ClerkWorld) -> Result<Done, WorldError>,
    ) -> anyhow::Result<Done> {
        self.list(user).await?;
        let done = self.change(verb);
        self.hit(user).await?;
        Ok(done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_no_webhook_told_is_found_counted_once_and_mended() {
    run_on_both(quick, async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        until("it to be counted", async || (world.unannounced(0).await == 1.0).then_some(())).await;
        world.check(ADA, WORKS).await?.is_not_a_member();
        // It goes on looking at the new list, and has nothing to say of it.
        let same = world.compared("same").await;
        until("the new list to be compared again", async || {
            world.list(ADA).await.ok()?;
            (world.compared("same").await >= same + 3.0).then_some(())
        })
        .await;
        assert_eq!((world.unannounced(0).await, world.steps("evicted").await), (1.0, 1.0));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_counts() {
    run_on_both(quick, async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.change_role(ADA, WORKS, "org:member")).await?;
        world.in_use_when(NOOR, |clerk| clerk.grant(NOOR, "velvet-anvil", "org:member")).await?;
        world.in_use_when("user_kofi", |clerk| clerk.rename("willow-ledger", Some("Other"), None)).await?;
        world.in_use_when("user_mei", |clerk| clerk.delete_organization("org_quiet_room")).await?;
        world.in_use_when("user_ivo", |clerk| clerk.delete_user("user_ivo")).await?;
        until("all to be counted", async || (world.unannounced(0).await == 5.0).then_some(())).await;
        assert_eq!(world.check(ADA, WORKS).await?.is_member()["role"], "org:member");
        assert_eq!(world.check("user_kofi", "willow-ledger").await?.is_member()["organizationName"], "Other");
        world.list("user_ivo").await?.is_user_unknown();
        Ok(())
    })
    .await;
}

/// The other node has the old list and looks at nothing by itself for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_forgets_what_one_found_out() {
    run_test(Deployment::Redis(1), quick(), async |world: &mut World| {
        world.sweep = SweepPace::default();
        world.add_node().await;
        world.list(ADA).await?;
        world.check_at(1, ADA, WORKS).await?.is_member();
        world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        let is_known = async || (world.check_at(1, ADA, WORKS).await.ok()?.status == 404).then_some(());
        until("the other node to forget", is_known).await;
        assert_eq!((world.unannounced(0).await, world.unannounced(1).await), (1.0, 0.0));
        Ok(())
    })
    .await;
}

/// Redis keeps no list of a user whom Clerk does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_gone_without_a_word_is_gone_from_redis_too() {
    run_test(Deployment::Redis(1), quick(), async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.delete_user(ADA)).await?;
        world.until_steps("evicted", 1.0).await;
        assert_eq!(world.redis().query(&["EXISTS", "user-orgs:user_ada"]), "0");
        world.list(ADA).await?.is_user_unknown();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_after_the_reading_explains_it() {
    run_on_both(unhurried, async |world: &mut World| {
        let left = world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        world.until_compared("different", 1.0).await;
        world.deliver(&left).await;
        world.until_explained().await;
        assert_eq!(world.unannounced(0).await, 0.0);
        assert_eq!(world.steps("evicted").await, 0.0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_while_the_origin_answers_explains_it() {
    run_on_both(quick, async |world: &mut World| {
        world.list(ADA).await?;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        let first = world.clerk.hold_next_answer_about(ADA);
        world.hit(ADA).await?;
        first.reached().await?;
        world.deliver(&left).await;
        first.release();
        world.until_steps("compared", 1.0).await;
        world.until_more("idle", 3.0).await;
        assert_eq!((world.compared("different").await, world.unannounced(0).await), (0.0, 0.0));
        world.check(ADA, WORKS).await?.is_not_a_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_during_the_second_reading_explains_it() {
    run_on_both(unhurried, async |world: &mut World| {
        let left = world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        world.until_compared("different", 1.0).await;
        let second = world.clerk.hold_next_answer_about(ADA);
        second.reached().await?;
        world.deliver(&left).await;
        second.release();
        world.until_explained().await;
        assert_eq!(world.unannounced(0).await, 0.0);
        Ok(())
    })
    .await;
}

/// An eviction tells nothing but "read again", and that somebody knew.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_meanwhile_explains_it() {
    run_on_both(unhurried, async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        world.until_compared("different", 1.0).await;
        assert_eq!(world.evict(ADA).await?.status, 204);
        world.until_explained().await;
        assert_eq!((world.unannounced(0).await, world.steps("evicted").await), (0.0, 0.0));
        Ok(())
    })
    .await;
}

/// What a later release writes to the stream may be the message.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_explains_it() {
    run_test(Deployment::Redis(1), unhurried(), async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        world.until_compared("different", 1.0).await;
        world.redis().query(&["XADD", "user-orgs:~changes", "*", "change", r#"{"kind":"somethingNew"}"#]);
        world.until_explained().await;
        assert_eq!((world.unannounced(0).await, world.steps("evicted").await), (0.0, 0.0));
        Ok(())
    })
    .await;
}

/// The message passes while the node that found the difference hears nothing of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_hear_the_stream_counts_nothing() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.sweep = paced(Duration::from_secs(2)).sweep;
        let proxy = world.add_node_behind_a_proxy().await;
        world.list_at(1, ADA).await?;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.list_at(1, ADA).await?;
        let metric = async |name: &str, label: &str| world.metric_of(1, name, label).await;
        until("the difference", async || (metric("rollcall_entries_compared_total", "different").await == 1.0).then_some(()))
            .await;
        proxy.deafen().await;
        world.deliver(&left).await;
        // Its time comes meanwhile.
        let calls = world.clerk.calls().of_user(ADA);
        until("steps in vain", async || (metric("rollcall_sweep_steps_total", "yielded").await > 500.0).then_some(())).await;
        assert_eq!(world.clerk.calls().of_user(ADA), calls);
        proxy.release();
        until("the difference to be explained", async || {
            (metric("rollcall_differences_explained_total", "").await == 1.0).then_some(())
        })
        .await;
        assert_eq!(world.unannounced(1).await, 0.0);
        Ok(())
    })
    .await;
}

/// A rename names no user: nothing overtakes the reading, and the fact stands in the old list too.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_was_told_is_no_difference() {
    run_on_both(quick, async |world: &mut World| {
        world.list(ADA).await?;
        let renamed = world.change(|clerk| clerk.rename(WORKS, Some("Other Works"), None));
        let first = world.clerk.hold_next_answer_about(ADA);
        world.hit(ADA).await?;
        first.reached().await?;
        world.deliver(&renamed).await;
        first.release();
        world.until_compared("same", 1.0).await;
        assert_eq!((world.compared("different").await, world.unannounced(0).await), (0.0, 0.0));
        Ok(())
    })
    .await;
}

/// Clerk's replica is behind what this node has read: an older time gives it away.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_reading_says_nothing() {
    run_on_both(quick, async |world: &mut World| {
        world.change(|clerk| clerk.change_role(ADA, WORKS, "org:member"));
        world.list(ADA).await?;
        world.clerk.faults().set(Faults { reads_lag_ms: 600_000, ..Faults::default() });
        world.hit(ADA).await?;
        world.until_compared("unclear", 1.0).await;
        world.until_more("idle", 3.0).await;
        assert_eq!((world.compared("different").await, world.unannounced(0).await), (0.0, 0.0));
        Ok(())
    })
    .await;
}

/// A replica that is behind lacks a membership, which shows in no time: the second reading has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_that_the_second_reading_does_not_confirm_is_none() {
    run_on_both(unhurried, async |world: &mut World| {
        world.found_quietly("new-quay", ADA);
        assert_eq!(world.list(ADA).await?.slugs().len(), 13);
        world.clerk.faults().set(Faults { reads_lag_ms: 600_000, ..Faults::default() });
        world.hit(ADA).await?;
        world.until_compared("different", 1.0).await;
        world.clerk.faults().clear();
        world.until_explained().await;
        assert_eq!((world.unannounced(0).await, world.steps("evicted").await), (0.0, 0.0));
        assert_eq!(world.list(ADA).await?.slugs().len(), 13);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_origin_that_is_away_says_nothing_and_is_asked_again_when_it_is_back() {
    run_on_both(unhurried, async |world: &mut World| {
        world.list(ADA).await?;
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.origin_answers(500);
        for _ in 0..3 {
            world.hit(ADA).await?;
            until("a step in vain", async || (world.steps("failed").await + world.steps("yielded").await > 0.0).then_some(()))
                .await;
        }
        world.check(ADA, WORKS).await?.is_member();
        assert_eq!((world.compared("").await, world.steps("evicted").await), (0.0, 0.0));
        world.clerk.faults().clear();
        until("the first reading", async || {
            world.hit(ADA).await.ok()?;
            (world.compared("different").await == 1.0).then_some(())
        })
        .await;
        until("it to be counted", async || (world.unannounced(0).await == 1.0).then_some(())).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_second_reading_that_fails_settles_nothing_and_is_made_again() {
    run_on_both(unhurried, async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        world.until_compared("different", 1.0).await;
        world.origin_answers(500);
        world.until_steps("failed", 1.0).await;
        assert_eq!((world.unannounced(0).await, world.explained().await), (0.0, 0.0));
        world.clerk.faults().clear();
        until("it to be counted", async || (world.unannounced(0).await == 1.0).then_some(())).await;
        Ok(())
    })
    .await;
}

/// A user whom Clerk fails for keeps nobody else waiting, and is not tried for ever.
#[tokio::test(flavor = "multi_thread")]
async fn i12_a_difference_that_cannot_be_settled_is_given_up() {
    run_test(Deployment::Alone, unhurried(), async |world: &mut World| {
        world.in_use_when(ADA, |clerk| clerk.revoke(ADA, WORKS)).await?;
        world.until_compared("different", 1.0).await;
        world.clerk.faults().add(Rule::always(Act::WrongTotal { by: 1 }).of_user(ADA));
        world.in_use_when("user_mei", |clerk| clerk.revoke("user_mei", "org_quiet_room")).await?;
        until("the other to be settled", async || (world.unannounced(0).await >= 1.0).then_some(())).await;
        until("it to be given up", async || {
            (world.metric_of(0, "rollcall_differences_given_up_total", "").await >= 1.0).then_some(())
        })
        .await;
        assert_eq!(world.unannounced(0).await, 1.0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_told_of_the_eviction_when_it_is_back() {
    run_test(Deployment::Redis(1), quick(), async |world: &mut World| {
        world.list(ADA).await?;
        world.change(|clerk| clerk.revoke(ADA, WORKS));
        let [first, second] = [(); 2].map(|()| world.clerk.hold_next_answer_about(ADA));
        world.hit(ADA).await?;
        first.reached().await?;
        first.release();
        second.reached().await?;
        world.redis().pause();
        second.release();
        world.until_more_in_vain(2.0).await;
        assert!(world.unannounced(0).await <= 1.0);
        world.redis().resume();
        world.until_steps("evicted", 1.0).await;
        assert_eq!(world.unannounced(0).await, 1.0);
        let entries = world.redis().query(&["XRANGE", "user-orgs:~changes", "-", "+"]);
        assert!(entries.contains(r#"{"kind":"evicted","users":["user_ada"]"#), "{entries}");
        Ok(())
    })
    .await;
}

/// In turn: everybody in use once, whoever is not in use never.
#[tokio::test(flavor = "multi_thread")]
async fn only_entries_in_use_are_asked_about_and_each_once() {
    let setup = || Setup { sweep: quick().sweep, ..Setup::crowded(100) };
    run_on_both(setup, async |world: &mut World| {
        for n in 0..100 {
            world.list(&crowd(n)).await?;
        }
        for n in (0..100).step_by(2) {
            world.hit(&crowd(n)).await?;
        }
        world.until_compared("same", 50.0).await;
        world.until_more("idle", 10.0).await;
        for n in 0..100 {
            assert_eq!(world.clerk.calls().of_user(&crowd(n)), if n % 2 == 0 { 2 } else { 1 }, "{n}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_read_a_moment_ago_are_left_alone() {
    let pace = SweepPace { age_min: Duration::from_secs(30), ..quick().sweep };
    run_test(Deployment::Alone, Setup { sweep: pace, ..Setup::default() }, async |world: &mut World| {
        world.list(ADA).await?;
        world.hit(ADA).await?;
        world.until_more("idle", 10.0).await;
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        Ok(())
    })
    .await;
}

/// 900 requests flow in over 10 s; a tenth of them is one in 111 ms, however quick the pace.
#[tokio::test(flavor = "multi_thread")]
async fn i12_the_sweep_keeps_to_its_share_of_the_budget() {
    let setup = Setup { sweep: quick().sweep, origin_rate: 1_000, ..Setup::crowded(20) };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        for n in 0..20 {
            world.list(&crowd(n)).await?;
            world.hit(&crowd(n)).await?;
        }
        world.until_compared("same", 12.0).await;
        let times: Vec<Moment> = world.clerk.calls().times(10);
        let took = times[9].since(times[0]);
        assert!(took >= Duration::from_millis(9 * 111 - 50), "ten in {took:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_the_sweep_yields_to_everybody_who_waits() {
    let setup = Setup { sweep: quick().sweep, origin_rate: 1_000, ..Setup::crowded(300) };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        world.list(ADA).await?;
        let reads: Vec<_> = (0..300).map(|n| world.begin_list(0, &crowd(n))).collect();
        until("reads to wait", async || (world.readiness().await.ok()?.json()["origin"]["waiting"].as_u64()? > 50).then_some(()))
            .await;
        world.hit(ADA).await?;
        world.until_more("yielded", 3.0).await;
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        for read in reads {
            read.answer().await?;
        }
        until("its turn", async || (world.clerk.calls().of_user(ADA) == 2).then_some(())).await;
        Ok(())
    })
    .await;
}

/// Longer than the second after which an open breaker lets somebody through.
#[tokio::test(flavor = "multi_thread")]
async fn i8_the_sweep_does_not_probe_an_origin_that_fails() {
    run_test(Deployment::Alone, quick(), async |world: &mut World| {
        world.list(ADA).await?;
        world.hit(ADA).await?;
        world.origin_answers(500);
        until("the breaker to open", async || {
            // As long as it is closed, the sweep tries whoever is in use.
            world.hit(ADA).await.ok()?;
            (world.metric_of(0, "rollcall_origin_breaker_opened_total", "").await == 1.0).then_some(())
        })
        .await;
        let calls = world.clerk.calls().of_user(ADA);
        world.until_more("yielded", 300.0).await;
        assert_eq!(world.clerk.calls().of_user(ADA), calls);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_the_sweep_keeps_the_pause_that_the_origin_asks_for() {
    run_test(Deployment::Alone, quick(), async |world: &mut World| {
        world.list(ADA).await?;
        world.origin_does(Act::Status { status: 429, retry_after: Some(30) });
        world.list(NOOR).await?.could_not_find_out("origin-rate-limited");
        world.hit(ADA).await?;
        world.until_more("yielded", 5.0).await;
        assert_eq!(world.clerk.calls().of_user(ADA), 1);
        Ok(())
    })
    .await;
}
