//! The rules of the protocol, each of which can be switched off. With all of them on, the checker finds nothing; with one off,
//! it finds the very mistake that the rule is there for.

/// Which rules hold. A field that is false is a mistake made on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The lease is taken before the origin is asked.
    pub lease_before_origin: bool,
    /// A missing guard refuses a landing.
    pub missing_guard_refuses: bool,
    /// An invalidation makes a new lease.
    pub invalidation_renews_lease: bool,
    /// An invalidation takes the value away.
    pub invalidation_takes_value: bool,
    /// A value that is not the one the guard vouches for is a miss.
    pub digest_ties_value_to_guard: bool,
    /// A change is appended to the stream after its invalidation, never before.
    pub append_after_invalidation: bool,
    /// A shared value begun before a change that the node remembers is a miss.
    pub shared_value_begun_before_a_change_is_a_miss: bool,
    /// An answer is judged by the fence.
    pub fence_is_judged: bool,
    /// The fence moves to the moment the question was sent, not to the moment the answer came.
    pub fence_moves_to_the_question: bool,
    /// The entries of an answer are applied before the fence moves.
    pub entries_before_fence: bool,
    /// A hit loads the fence before it looks for the entry.
    pub fence_before_entry: bool,
    /// A fact is remembered before the stripe is bumped and the entry dropped.
    pub fact_before_bump: bool,
    /// The stripe is bumped before the entry is dropped.
    pub bump_before_drop: bool,
    /// A change drops the local entry.
    pub change_drops_entry: bool,
    /// An entry lands only under the stripe that was read before the facts were looked at.
    pub stripe_is_checked: bool,
    /// The facts are applied to a reading.
    pub facts_are_applied: bool,
    /// A fact filed under no user moves the counter.
    pub unfiled_fact_moves_counter: bool,
    /// It moves the counter after it was remembered.
    pub fact_before_counter: bool,
    /// A reading carries the counter from before its facts were applied.
    pub counter_before_facts: bool,
    /// What a node cannot read in the stream makes its entries pass the shared tier once more.
    pub unreadable_clears_standing: bool,
    /// A gap in the stream makes entries pass the shared tier once more.
    pub break_clears_standing: bool,
    /// Entries that were added and never seen are a gap.
    pub entries_are_counted: bool,
    /// A stream of another history is a break.
    pub history_is_compared: bool,
    /// After a lost history, readings begun before are no answers.
    pub doubt_after_lost_history: bool,
    /// A lost history counts as whole only after the journal was applied again.
    pub repair_before_whole: bool,
    /// A history lost once more meanwhile is not whole.
    pub whole_only_if_nothing_was_lost_since: bool,
    /// The doubt is lifted after the entries that the repair appended are applied.
    pub entries_before_doubt_is_lifted: bool,
    /// A flight during which continuity was lost lands nowhere.
    pub doubted_flight_lands_nowhere: bool,
    /// A message is recorded before it is applied.
    pub recorded_before_applied: bool,
    /// A "no" rests on a reading of its window.
    pub denial_has_a_window: bool,
    /// One reading counts as one refusal, however often it is given.
    pub one_reading_is_one_refusal: bool,
    /// A change of the user forgets the refusals.
    pub change_forgets_refusals: bool,
    /// A reading that lacks an announced membership is kept only briefly.
    pub kept_briefly_without_expected: bool,
    /// A shared value that lacks an announced membership is a miss after that while, whoever landed it.
    pub old_shared_value_without_expected_is_a_miss: bool,
    /// A node that starts, or missed something, loads the window of the stream.
    pub window_is_loaded: bool,
    /// Where the stream is trimmed into that window, readings begun before what is left are no answers.
    pub trimmed_window_sets_the_floor: bool,
    /// An answer is judged by the age of its reading.
    pub age_is_judged: bool,
    /// What is given while the origin cannot be asked has an end.
    pub grace_has_an_end: bool,
    /// In grace, too, an answer is judged by the fence.
    pub grace_needs_the_fence: bool,
    /// A "no" is never given in grace.
    pub grace_is_never_a_no: bool,
}

impl Rules {
    /// As in production.
    pub const ALL: Self = Self {
        lease_before_origin: true,
        missing_guard_refuses: true,
        invalidation_renews_lease: true,
        invalidation_takes_value: true,
        digest_ties_value_to_guard: true,
        append_after_invalidation: true,
        shared_value_begun_before_a_change_is_a_miss: true,
        fence_is_judged: true,
        fence_moves_to_the_question: true,
        entries_before_fence: true,
        fence_before_entry: true,
        fact_before_bump: true,
        bump_before_drop: true,
        change_drops_entry: true,
        stripe_is_checked: true,
        facts_are_applied: true,
        unfiled_fact_moves_counter: true,
        fact_before_counter: true,
        counter_before_facts: true,
        unreadable_clears_standing: true,
        break_clears_standing: true,
        entries_are_counted: true,
        history_is_compared: true,
        doubt_after_lost_history: true,
        repair_before_whole: true,
        whole_only_if_nothing_was_lost_since: true,
        entries_before_doubt_is_lifted: true,
        doubted_flight_lands_nowhere: true,
        recorded_before_applied: true,
        denial_has_a_window: true,
        one_reading_is_one_refusal: true,
        change_forgets_refusals: true,
        kept_briefly_without_expected: true,
        old_shared_value_without_expected_is_a_miss: true,
        window_is_loaded: true,
        trimmed_window_sets_the_floor: true,
        age_is_judged: true,
        grace_has_an_end: true,
        grace_needs_the_fence: true,
        grace_is_never_a_no: true,
    };
}
