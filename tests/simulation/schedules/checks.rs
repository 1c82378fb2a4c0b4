//! The tests: in the right order nothing is found in any schedule, and in each wrong one it is found what the order is there
//! for.
//!
//! How many schedules are drawn is fixed, and so is the seed that they are drawn from: half at random, half by PCT, which stops a
//! thread at few places that it chooses well. `ROLLCALL_TEST_SCHEDULES` and `ROLLCALL_TEST_SEED` draw more, or others, by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

use super::habits::{self, Habits};
use super::{scenes, sync};

/// Schedules of each kind.
const SCHEDULES: usize = 3_000;
const SEED: u64 = 0x5eed_0f07_da7e;
/// How many times PCT changes its mind.
const DEPTH: usize = 3;

fn by_hand<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs the scene under every schedule that this scheduler draws; answers what the first panic says, and after how many.
fn run(scheduler: impl Scheduler + 'static, scene: impl Fn() + Send + Sync + 'static) -> Result<usize, (usize, String)> {
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = tried.clone();
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    let attempt = AssertUnwindSafe(move || {
        Runner::new(scheduler, config).run(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            scene();
        })
    });
    let ended = catch_unwind(attempt);
    let tried = tried.load(Ordering::Relaxed);
    match ended {
        Ok(_) => Ok(tried),
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err((tried, said.rsplit("original panic: ").next().unwrap_or_default().to_owned()))
        }
    }
}

/// The same at random, and by PCT.
fn run_both(scene: impl Fn() + Clone + Send + Sync + 'static) -> [Result<usize, (usize, String)>; 2] {
    let schedules = by_hand("ROLLCALL_TEST_SCHEDULES").unwrap_or(SCHEDULES);
    let seed = by_hand("ROLLCALL_TEST_SEED").unwrap_or(SEED);
    println!("{schedules} schedules of each kind at most, seed {seed}");
    let random = run(RandomScheduler::new_from_seed(seed, schedules), scene.clone());
    [random, run(PctScheduler::new_from_seed(seed, DEPTH, schedules), scene)]
}

fn finds_nothing(scene: impl Fn() + Clone + Send + Sync + 'static) {
    for (kind, ended) in ["at random", "by PCT"].into_iter().zip(run_both(scene)) {
        if let Err((schedule, said)) = ended {
            panic!("{kind}, in schedule {schedule}: {said}");
        }
    }
}

/// What is wrong is found by one of the two at least, and it is a breach of this invariant.
fn finds(invariant: &str, scene: impl Fn() + Clone + Send + Sync + 'static) {
    let ended = run_both(scene);
    println!("at random: {:?}\nby PCT: {:?}", ended[0], ended[1]);
    let found: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
    assert!(!found.is_empty(), "the order does not matter, or the schedules cannot see why it does");
    assert!(found.iter().all(|(_, said)| said.starts_with(invariant)), "something else was found");
}

macro_rules! right {
    ($($test:ident: $scene:ident;)*) => {
        $(#[test]
        fn $test() {
            finds_nothing(|| scenes::$scene(Habits::RIGHT));
        })*
    };
}

macro_rules! wrong {
    ($($test:ident: $how:ident as $habit:ident in $scene:ident breaks $invariant:literal;)*) => {
        $(#[test]
        fn $test() {
            finds($invariant, || scenes::$scene(Habits { $how: habits::$habit, ..Habits::RIGHT }));
        })*
    };
}

right! {
    i5_i6_hold_when_changes_meet_readings_and_callers: evictions;
    i6_holds_for_who_waited_for_a_flight: flights;
    i6_holds_when_a_change_names_no_user: unfiled;
    i6_holds_when_changes_were_missed: missed;
    i5_holds_for_tokens_of_a_node_that_starts: first_heard;
    i5_holds_for_tokens_after_a_lost_history: put_back;
    i6_holds_for_tokens: told;
}

#[test]
fn i12_the_bytes_of_a_small_tier_add_up() {
    finds_nothing(scenes::little_room);
}

#[test]
fn i5_the_stripe_is_compared_under_the_lock() {
    sync::loosen();
    finds("I", || scenes::evictions(Habits::RIGHT));
}

wrong! {
    i5_the_stripe_is_bumped_before_the_entry_is_dropped: apply as drop_before_bump in evictions breaks "I";
    i5_a_change_bumps_the_stripe: apply as drop_without_bump in evictions breaks "I";
    i5_the_stripe_is_read_before_the_origin_is_asked: fly as stripe_after_the_origin in evictions breaks "I";
    i6_entries_are_applied_before_the_fence_moves: apply as apply_after_the_fence in evictions breaks "I6";
    i6_a_hit_loads_the_fence_before_the_entry: hit as entry_before_fence in evictions breaks "I6";
    i6_a_change_overtakes_a_flight_before_the_fence_moves: apply as apply_after_the_fence in flights breaks "I6";
    i6_a_fact_is_remembered_before_the_counter_moves: apply as counter_before_fact in unfiled breaks "I6";
    i6_an_unfiled_fact_moves_the_counter_before_the_fence: apply as apply_after_the_fence in unfiled breaks "I6";
    i6_a_reading_carries_the_counter_from_before_its_facts: fly as counter_after_the_facts in unfiled breaks "I6";
    i6_a_hit_compares_the_counter: hit as counter_unread in unfiled breaks "I6";
    i6_who_missed_something_clears_the_standing_before_the_fence_moves: break_off as break_after_the_fence in missed breaks "I6";
    i6_who_missed_something_clears_the_standing: break_off as break_untold in missed breaks "I6";
    i6_a_flight_reads_the_standing_before_the_origin_is_asked: fly as standing_after_the_origin in missed breaks "I6";
    i5_a_token_asks_for_the_fence_before_the_facts: stand as heard_after_the_facts in first_heard breaks "I5";
    i6_a_token_loads_the_fence_before_the_facts: stand as heard_after_the_facts in told breaks "I6";
    i5_a_token_asks_for_the_doubt_before_the_facts: stand as doubted_after_the_facts in put_back breaks "I5";
}
