//! Facts over readings: any order, any repetition, any lag of the origin.

use proptest::prelude::*;
use proptest::sample::Index;
use rollcall::domain::Moment;
use rollcall::protocol::facts::outrank;

use crate::drawn;
use crate::history::{at, histories, user};
use crate::memory::Memory;

proptest! {
    #![proptest_config(drawn(2_000))]

    /// I3, I4: hearing is a join.
    #[test]
    fn i3_i4_order_and_repetition_leave_the_same_memory(
        history in histories(12),
        shuffle in prop::collection::vec(any::<Index>(), 0..40),
    ) {
        let heard = history.delivered();
        let mut shuffled = heard.clone();
        shuffled.reverse();
        if !heard.is_empty() {
            shuffled.extend(shuffle.iter().map(|index| heard[index.index(heard.len())].clone()));
        }
        prop_assert_eq!(Memory::of(&heard), Memory::of(&shuffled));
    }

    /// I3: what the facts made of a reading, they leave alone.
    #[test]
    fn i3_applying_facts_twice_is_applying_them_once(history in histories(12), lag in any::<Index>()) {
        let memory = Memory::of(&history.delivered());
        let mut once = history.truths[lag.index(history.truths.len())].clone();
        outrank(&user(), at(0), &mut once, &memory);
        let mut twice = once.clone();
        prop_assert!(!outrank(&user(), at(0), &mut twice, &memory).is_corrected);
        prop_assert_eq!(once, twice);
    }

    /// I4: whatever the origin still showed, once everything is heard the answer holds nothing that has ended and nothing
    /// that has changed; and if it lacks what has begun since, it says that it is not to be kept.
    #[test]
    fn i4_a_lagging_reading_under_all_facts_is_the_truth_or_known_to_lack_something(
        history in histories(16),
        seen in any::<Index>(),
        late in 0..1_000u64,
    ) {
        let memory = Memory::of(&history.delivered());
        let mut answer = history.truths[seen.index(history.truths.len())].clone();
        let as_of = at(history.messages.len()) + std::time::Duration::from_micros(late);
        let outcome = outrank(&user(), as_of, &mut answer, &memory);
        for row in &answer {
            prop_assert!(history.end().contains(row), "{row:?} is not true");
        }
        let is_complete = history.end().iter().all(|row| answer.contains(row));
        prop_assert!(is_complete || outcome.lacks_expected);
    }

    /// A membership that ended does not take its successor with it, in whatever order the two are heard.
    #[test]
    fn who_joins_again_stays(history in histories(16), mut order in prop::collection::vec(any::<u32>(), 16)) {
        order.truncate(history.messages.len());
        let mut heard: Vec<_> = history.delivered();
        heard.sort_by_key(|(_, at)| order.get(at.as_micros() as usize % 16).copied());
        let mut answer = history.end().to_vec();
        outrank(&user(), Moment::ZERO, &mut answer, &Memory::of(&heard));
        prop_assert_eq!(answer, history.end().to_vec());
    }
}
