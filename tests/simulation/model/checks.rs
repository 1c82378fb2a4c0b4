//! The tests of the model: with all rules on nothing is found in any scene, and with any one off something is in its own.
//!
//! What is printed is what was looked at. With all rules on, each scene is looked at to the end where it is small, and else to
//! a depth of its own: so many steps from the beginning. By hand deeper, one scene at a time, for it takes memory:
//! `ROLLCALL_TEST_DEPTH=17 cargo nextest run --success-output final -E 'test(=model::checks::i6_…)'`. `ROLLCALL_TEST_TRACES=1`
//! says how each mistake comes about.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::rules::Rules;
use super::scene::Scene;
use super::scenes;
use super::world::World;

/// A scene in which less can happen than this holds of nothing.
const STATES_MIN: usize = 1_000;

/// Looks at everything that can happen in a scene, or at paths up to this length, until one of the invariants does not hold;
/// answers the way to it, and how many states were looked at.
fn explore(scene: Scene, rules: Rules, depth_max: Option<usize>, invariant: &str) -> (Option<String>, usize) {
    let (name, begun) = (scene.name, Instant::now());
    let world = World { scene, rules };
    let wanted: BTreeSet<_> =
        world.properties().iter().map(|property| property.name).filter(|name| name.starts_with(invariant)).collect();
    let builder = world.checker().finish_when(HasDiscoveries::AnyOf(wanted.clone())).threads(2);
    let builder = match depth_max {
        Some(depth) => builder.target_max_depth(depth),
        None => builder,
    };
    let checker = builder.spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let looked_at = format!("{states} states, {depth} deep, {:.1} s", begun.elapsed().as_secs_f64());
    let found = checker.discoveries().into_iter().find(|(property, _)| wanted.contains(property));
    let Some((property, path)) = found else {
        println!("{name}: nothing in {looked_at}");
        return (None, states);
    };
    let end = format!("{:#?}", path.last_state());
    let actions: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
    println!("{name}: {property}: not after {} steps; {looked_at}", actions.len());
    (Some(format!("{property}\n  {}\n{end}", actions.join("\n  "))), states)
}

fn finds_nothing(scene: Scene, depth_max: Option<usize>) {
    let by_hand = std::env::var("ROLLCALL_TEST_DEPTH").ok().and_then(|depth| depth.parse().ok());
    let depth_max = depth_max.map(|limit| limit.max(by_hand.unwrap_or_default()));
    let (found, states) = explore(scene, Rules::ALL, depth_max, "I");
    assert!(found.is_none(), "{}", found.unwrap_or_default());
    assert!(states >= STATES_MIN, "{states} states are too few to mean anything");
}

/// With this rule off, this invariant does not hold.
fn breaks(scene: Scene, rules: Rules, invariant: &str) {
    let (found, _) = explore(scene, rules, None, invariant);
    let found = found.expect("without the rule, something is found: else it is not needed, or the model cannot see why");
    if std::env::var_os("ROLLCALL_TEST_TRACES").is_some() {
        println!("{found}");
    }
}

macro_rules! all_rules_on {
    ($($test:ident: $scene:ident $depth:expr;)*) => {
        $(#[test]
        fn $test() {
            finds_nothing(scenes::$scene(), $depth);
        })*
    };
}

macro_rules! a_rule_off {
    ($($test:ident: [$($rule:ident)+] in $scene:ident breaks $invariant:literal;)*) => {
        $(#[test]
        fn $test() {
            breaks(scenes::$scene(), Rules { $($rule: false,)+ ..Rules::ALL }, $invariant);
        })*
    };
}

all_rules_on! {
    i4_i5_i6_hold_when_a_change_says_only_whom_it_concerns: eviction Some(13);
    i4_i5_i6_hold_when_guards_are_lost_and_landings_fail: troubled_eviction Some(15);
    i4_i5_i6_hold_when_somebody_else_writes_the_value: foreign_value Some(15);
    i6_holds_when_a_hit_takes_its_time: slow_hit None;
    i4_i5_i6_hold_when_the_origin_lags: lag Some(14);
    i4_i5_i6_hold_when_a_rejoin_overtakes_the_leave: rejoin Some(13);
    i4_i5_i6_hold_when_a_role_changes: role Some(18);
    i4_i6_hold_when_a_change_names_no_user: unfiled Some(18);
    i4_i6_hold_when_a_node_cannot_read_the_change: unreadable None;
    i4_i6_hold_when_the_stream_is_trimmed_too_early: trimmed None;
    i4_i6_hold_when_redis_is_back_at_its_beginning: failover Some(15);
    i4_i6_hold_when_what_was_acknowledged_is_lost: failed_over Some(20);
    i4_holds_when_what_was_recorded_is_lost_in_redis: failed_over_unrecorded Some(60);
    i4_i6_hold_while_the_history_is_put_back: repaired Some(16);
    i4_i5_i6_hold_when_the_history_is_lost_during_a_flight: failed_over_in_flight Some(16);
    i4_i5_i6_hold_when_redis_is_back_during_a_flight: failover_in_flight Some(14);
    i4_i6_hold_when_redis_is_back_twice: two_failovers Some(18);
    i4_i6_hold_when_redis_is_emptied: flushed Some(14);
    i10_holds_when_the_message_of_a_join_is_late: denial Some(14);
    i10_holds_when_who_was_refused_joins: denied_before Some(14);
    i4_holds_when_a_join_is_read_late: expected None;
    i4_i5_i6_hold_when_a_trimmed_change_names_no_user: trimmed_unfiled Some(16);
    i4_i5_i6_hold_when_a_node_starts_anew: restarted Some(14);
    i4_i6_hold_when_a_node_starts_behind_a_trimmed_stream: restarted_late Some(16);
    i6_i7_hold_in_grace: grace None;
    i7_i10_hold_for_a_no_in_grace: grace_of_a_no None;
}

a_rule_off! {
    i5_the_lease_is_taken_before_the_origin_is_asked: [lease_before_origin] in eviction breaks "I5";
    i5_a_missing_guard_refuses: [missing_guard_refuses] in troubled_eviction breaks "I5";
    i5_an_invalidation_makes_a_new_lease: [invalidation_renews_lease] in eviction breaks "I5";
    i5_an_invalidation_takes_the_value_away: [invalidation_takes_value invalidation_renews_lease] in eviction breaks "I5";
    i5_a_digest_ties_the_value_to_its_guard: [digest_ties_value_to_guard] in foreign_value breaks "I5";
    i6_the_append_follows_the_invalidation:
        [append_after_invalidation shared_value_begun_before_a_change_is_a_miss] in eviction breaks "I";
    i6_an_answer_is_judged_by_the_fence: [fence_is_judged] in eviction breaks "I6";
    i6_the_fence_moves_to_when_it_was_asked: [fence_moves_to_the_question] in slow_hit breaks "I6";
    i6_entries_are_applied_before_the_fence_moves: [entries_before_fence] in slow_hit breaks "I6";
    i6_a_hit_loads_the_fence_before_the_entry: [fence_before_entry] in slow_hit breaks "I6";
    i5_a_fact_is_remembered_before_the_stripe_is_bumped: [fact_before_bump] in lag breaks "I";
    i5_the_stripe_is_bumped_before_the_entry_is_dropped: [bump_before_drop] in troubled_eviction breaks "I5";
    i5_a_change_drops_the_local_entry: [change_drops_entry] in slow_hit breaks "I5";
    i5_an_entry_lands_only_under_its_stripe: [stripe_is_checked] in troubled_eviction breaks "I5";
    i4_the_facts_are_applied_to_a_reading: [facts_are_applied] in lag breaks "I";
    i6_an_unfiled_fact_moves_the_counter: [unfiled_fact_moves_counter] in unfiled breaks "I6";
    i6_an_unfiled_fact_is_remembered_before_the_counter_moves: [fact_before_counter] in unfiled breaks "I";
    i6_a_reading_carries_the_counter_from_before_its_facts: [counter_before_facts] in unfiled breaks "I";
    i6_what_cannot_be_read_clears_the_standing: [unreadable_clears_standing] in unreadable breaks "I6";
    i6_a_gap_clears_the_standing: [break_clears_standing trimmed_window_sets_the_floor] in trimmed breaks "I6";
    i6_entries_are_counted: [entries_are_counted] in trimmed breaks "I6";
    i6_histories_are_compared: [history_is_compared] in failover breaks "I6";
    i6_after_a_lost_history_older_readings_are_doubted: [doubt_after_lost_history] in failed_over breaks "I6";
    i6_the_journal_is_applied_before_the_history_is_whole: [repair_before_whole] in failed_over breaks "I";
    i6_a_history_lost_once_more_is_not_whole: [whole_only_if_nothing_was_lost_since] in two_failovers breaks "I";
    i6_entries_are_applied_before_the_doubt_is_lifted: [entries_before_doubt_is_lifted] in repaired breaks "I6";
    i5_a_doubted_flight_lands_nowhere: [doubted_flight_lands_nowhere] in failed_over_in_flight breaks "I6";
    i6_a_message_is_recorded_before_it_is_applied: [recorded_before_applied] in failed_over_unrecorded breaks "I4";
    i10_a_no_has_a_window: [denial_has_a_window] in denial breaks "I10";
    i10_one_reading_is_one_refusal: [one_reading_is_one_refusal] in denial breaks "I10";
    i10_a_change_forgets_the_refusals: [change_forgets_refusals] in denied_before breaks "I10";
    i4_an_old_shared_value_without_what_was_announced_is_a_miss:
        [old_shared_value_without_expected_is_a_miss] in expected breaks "I4";
    i6_a_trimmed_window_sets_the_floor: [trimmed_window_sets_the_floor] in trimmed_unfiled breaks "I6";
    i6_a_node_that_starts_loads_the_window: [window_is_loaded] in restarted breaks "I";
    i6_a_node_that_starts_behind_a_trimmed_stream_knows: [trimmed_window_sets_the_floor] in restarted_late breaks "I6";
    i7_an_answer_is_judged_by_its_age: [age_is_judged] in grace breaks "I7";
    i7_grace_has_an_end: [grace_has_an_end] in grace breaks "I7";
    i6_in_grace_too_the_fence_is_judged: [grace_needs_the_fence] in grace breaks "I6";
    i10_grace_is_never_a_no: [grace_is_never_a_no] in grace_of_a_no breaks "I";
    i4_a_reading_without_what_was_announced_is_kept_briefly: [kept_briefly_without_expected] in expected breaks "I4";
}
