//! Every rule of the protocol, taken out once: with all rules on the checker finds nothing wrong, and with this one out it
//! finds the mistake that the rule prevents. On a real Redis, with the real service, in a schedule that is forced.
//!
//! The checker is the judge of histories (`world/history`), who also judges the runs with faults. Here a witness notes what a
//! scenario does to the origin, what was acknowledged, every answer with what it says of itself, and what others may read in
//! Redis. A scenario asks nothing but what callers ask, and the judge finds what is wrong. Three rules keep from what is no answer to a
//! caller, and their scenarios look for it themselves:
//!
//! - redis-2c, changes run when memory is full: without it webhooks are refused. Nobody is told anything wrong, only late.
//! - redis-6a, an answer of a former primary is none: what it would let in is kept from callers by the doubt of a lost history, too,
//!   so it is seen in the room of Redis only.
//! - redis-8, a Redis that evicts is refused: what is wrong is that a node starts.
//!
//! A scenario is written once and run twice: here, and in a process of its own in which the rule is out. Only in builds of the
//! feature `rule-switches`.

mod crowd;
mod facts;
mod fence;
mod lost_history;
mod order;
mod redis;

use std::pin::Pin;
use std::process::Command;

use rollcall::cli::switches::take_out;
use rollcall::protocol::rules::Rule;

use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::witness::FINDING;

/// In the process in which a rule is out: its number.
const OUT: &str = "ROLLCALL_TEST_RULE_OUT";
/// What that process says when something was found.
const FOUND: &str = "found without";

/// What the judge does not find: see above.
const NOT_JUDGED: [Rule; 3] = [Rule::ChangesExceedMemory, Rule::OldTagIsAMiss, Rule::EvictingRedisIsRefused];

/// What is wrong, if anything is.
type Found = Option<String>;

/// The scenario of each rule, and the test that runs it. A rule without one does not compile.
macro_rules! switches {
    ($($rule:ident: $test:ident by $scenario:path;)+) => {
        fn scenario(rule: Rule) -> Pin<Box<dyn Future<Output = Found>>> {
            match rule {
                $(Rule::$rule => Box::pin($scenario()),)+
            }
        }

        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            check(Rule::$rule, concat!(module_path!(), "::", stringify!($test))).await;
        })+
    };
}

switches! {
    MissingGuardRefuses: redis_1a_a_guard_that_is_gone_refuses_a_landing by redis::a_late_fill_whose_guard_is_gone;
    LeaseBeforeOrigin: redis_1b_the_lease_is_taken_before_the_origin_is_asked by redis::a_late_fill;
    InvalidationTakesValue: redis_2a_an_invalidation_takes_the_value_away by redis::a_value_after_its_invalidation;
    InvalidationRenewsLease: redis_2b_an_invalidation_makes_a_new_lease by redis::a_late_fill;
    ChangesExceedMemory: redis_2c_changes_run_when_memory_is_full by redis::a_full_memory;
    AppendBeforeAcknowledgement: redis_2d_what_is_acknowledged_was_appended by redis::an_eviction_elsewhere;
    ReplicasAreAwaited: redis_2e_what_is_acknowledged_is_on_the_replicas by redis::a_replica_that_left;
    AsOfIsTheBegin: redis_3_the_as_of_is_when_the_origin_was_asked by redis::a_slow_origin;
    ValueLivesFromItsAsOf: redis_4a_a_value_lives_from_its_as_of by redis::a_corrected_value;
    AgeOutlivesTheTier: redis_4b_a_reading_takes_its_age_along by redis::a_promoted_reading;
    LocalTierLooksAgain: redis_4c_the_local_tier_looks_again by redis::a_value_deleted_by_somebody;
    DigestTiesValueToGuard: redis_5a_a_value_of_another_digest_is_a_miss by redis::a_value_written_by_somebody;
    ForeignShapeIsAMiss: redis_5b_a_foreign_shape_is_never_an_empty_list by redis::a_value_of_a_foreign_shape;
    OldTagIsAMiss: redis_6a_an_answer_of_a_former_primary_is_none by redis::an_answer_of_a_former_primary;
    OnlyAPrimaryVouches: redis_6b_a_deposed_primary_vouches_for_nothing by redis::a_deposed_primary;
    OnlyAMajorityVouches: redis_6c_a_master_with_a_minority_vouches_for_nothing by redis::a_master_with_a_minority;
    UnknownMembersAreIgnored: redis_7_unknown_members_are_ignored by redis::an_entry_of_a_later_release;
    EvictingRedisIsRefused: redis_8_a_redis_that_evicts_is_refused by redis::a_redis_that_evicts;
    StampsSaidTwiceDateNothing: redis_9_what_a_clock_says_twice_dates_nothing by redis::a_start_after_the_clock_was_set_back;

    FenceIsJudged: fence_1_an_answer_is_judged_by_the_fence by crowd::a_link_that_stalls;
    FenceMovesToTheQuestion: fence_2_the_fence_moves_to_when_it_was_asked by fence::an_append_during_an_answer;
    EntriesBeforeFence: fence_3_entries_are_applied_before_the_fence_moves by fence::an_entry_that_takes_its_time;
    FullPageIsAskedAgain: fence_4_a_full_page_does_not_move_the_fence by fence::more_entries_than_a_page;
    EntriesAreCounted: fence_5_entries_are_counted by fence::a_stream_trimmed_past_a_node;
    BreakClearsStanding: fence_6_a_gap_clears_the_standing by lost_history::an_eviction_the_stream_lost;
    UnreadableClearsStanding: fence_7_what_cannot_be_read_clears_the_standing by fence::an_entry_nobody_can_read;
    HistoryIsCompared: fence_8_another_primary_is_a_break by lost_history::a_start_on_a_redis_set_back;
    DoubtAfterLostHistory: fence_9_after_a_lost_history_older_readings_are_doubted by lost_history::a_start_before_the_repair;
    DoubtedFlightLandsNowhere: fence_10_a_doubted_flight_lands_nowhere by lost_history::a_flight_from_before;
    RepairBeforeWhole: fence_11_the_journal_is_applied_before_the_history_is_whole by lost_history::a_start_on_a_redis_set_back;
    WholeOnlyIfNothingWasLostSince: fence_12_a_history_lost_once_more_is_not_whole by lost_history::a_second_loss;
    EntriesBeforeDoubtIsLifted: fence_13_entries_are_applied_before_the_doubt_is_lifted by lost_history::an_answer_that_lifts_doubt;
    ChangeDropsEntry: fence_14_a_change_drops_the_local_entry by redis::an_eviction_here;
    StripeIsChecked: fence_15_an_entry_lands_only_under_its_stripe by order::a_change_between_the_landings;
    FactBeforeBump: fence_16_a_fact_is_remembered_before_the_stripe_is_bumped by order::a_read_while_an_end_is_applied;
    BumpBeforeDrop: fence_17_the_stripe_is_bumped_before_the_entry_is_dropped by order::a_landing_while_an_eviction_is_applied;
    UnfiledFactMovesCounter: fence_18_an_unfiled_fact_moves_the_counter by crowd::life;
    FactBeforeCounter: fence_19_an_unfiled_fact_is_remembered_before_the_counter_moves
        by order::a_read_while_an_unfiled_end_is_applied;
    MissingEntriesAreAFloor: fence_20_who_missed_something_trusts_nothing_from_before by fence::a_stream_trimmed_past_an_end;
    LeftElsewhereIsDoubted: fence_21_what_was_left_at_a_deposed_primary_is_put_back
        by lost_history::a_node_that_comes_from_a_deposed_primary;

    DeadMembershipIsDropped: facts_1_a_membership_that_ended_is_dropped by facts::an_end_that_names_no_user;
    DeadOutranksForAWhile: facts_2_an_end_outranks_later_readings_for_a_while by facts::an_end_the_origin_has_not_heard_of;
    NewerRoleReplaces: facts_3_a_newer_role_replaces_an_older_one by facts::a_role_the_origin_has_not_heard_of;
    OlderRoleLoses: facts_4_an_older_role_replaces_nothing by facts::a_role_told_late;
    KeptBrieflyWithoutExpected: facts_5_a_reading_without_what_was_announced_is_kept_briefly by facts::a_join_the_origin_has_not_heard_of;
    DeadOrganizationIsDropped: facts_6_an_organization_that_ended_is_dropped by crowd::life;
    NewerProfileReplaces: facts_7_a_newer_name_replaces_an_older_one by crowd::life_of_names;
    DeadUserIsUnknown: facts_8_a_deleted_user_is_unknown by facts::a_user_the_origin_still_knows;
    FactsAreMerged: facts_9_facts_are_merged by facts::two_roles_in_the_wrong_order;
    LostFactsAreAFloor: facts_10_readings_from_before_a_lost_fact_are_no_answers by facts::a_fact_pushed_out;
    SharedValueBegunBeforeAChangeIsAMiss: facts_11_a_shared_value_from_before_a_change_is_a_miss by facts::a_value_that_comes_back;
    DoubtedOrganizationIsVoid: facts_12_a_reading_of_a_doubted_organization_is_none by facts::a_message_that_cannot_be_read;
    SharedValueWithoutExpectedIsBrief: facts_13_a_value_without_what_was_announced_is_brief
        by facts::a_list_landed_by_who_has_not_heard_of_a_join;
    SharedValueOfTheDeadIsAMiss: facts_14_a_value_of_who_is_gone_is_a_miss by facts::a_list_landed_by_who_has_not_heard_of_an_end;
}

/// The scenario finds nothing here, and something where the rule is out.
async fn check(rule: Rule, test: &str) {
    assert!(test.contains(&format!("::{}_", rule.number().replace('-', "_"))), "{test} is of rule {}", rule.number());
    if std::env::var(OUT).is_ok_and(|number| number == rule.number()) {
        take_out(rule);
        let found = scenario(rule).await;
        let found = found.expect("something is found: else the rule is not needed, or the scenario cannot see why");
        assert_eq!(found.starts_with(FINDING), !NOT_JUDGED.contains(&rule), "found by somebody else: {found}");
        println!("{FOUND} {}: {found}", rule.number());
    } else {
        assert_eq!(scenario(rule).await, None, "with all rules on");
        tokio::task::block_in_place(|| expect_found_without(rule, test));
    }
}

/// Runs the same test in a process in which the rule is out.
fn expect_found_without(rule: Rule, test: &str) {
    let (_, test) = test.split_once("::").expect("a module of this binary");
    let mut again = Command::new(std::env::current_exe().expect("this binary"));
    let ended = again.args([test, "--exact", "--nocapture"]).env(OUT, rule.number()).output().expect("it runs again");
    let said = String::from_utf8_lossy(&ended.stdout);
    let found = said.lines().find(|line| line.contains(FOUND));
    let found = found.filter(|_| ended.status.success());
    let found = found.unwrap_or_else(|| panic!("nothing {FOUND} {rule:?}: {said}{}", String::from_utf8_lossy(&ended.stderr)));
    println!("{found}");
}

/// Runs a scenario in a world of this deployment.
async fn find(deployment: Deployment, setup: Setup, scenario: impl AsyncFnOnce(&mut World) -> anyhow::Result<Found>) -> Found {
    let mut found = None;
    run_test(deployment, setup, async |world: &mut World| {
        found = scenario(world).await?;
        Ok(())
    })
    .await;
    found
}

/// The same, where everything is noted: what the judge of the history finds wrong with what was answered.
async fn judged(deployment: Deployment, setup: Setup, scenario: impl AsyncFnOnce(&mut World) -> anyhow::Result<()>) -> Found {
    find(deployment, setup, async |world: &mut World| {
        world.call_a_witness();
        scenario(world).await?;
        Ok(world.witness().verdict())
    })
    .await
}

/// What is said of it when it is so.
fn wrong(is_so: bool, what: &str) -> Found {
    is_so.then(|| what.to_owned())
}
