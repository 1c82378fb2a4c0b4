//! The rules that keep answers right, each by its number, so that one can be taken out and seen to be needed.
//!
//! Without the feature `rule-switches` every rule holds, and asking costs nothing: the answer is a constant. With it one rule
//! can be taken out for the life of a process, and `tests/it/switches` shows on a real Redis what goes wrong then. Such a
//! build is refused where it is optimised. This file names nothing but `std`, so that the refusal can be tried by itself.

#[cfg(all(feature = "rule-switches", not(debug_assertions)))]
compile_error!("rule-switches takes rules of the protocol out: it is for tests, and no build that is used may have it");

macro_rules! rules {
    ($($(#[$doc:meta])+ $rule:ident = $number:literal;)+) => {
        /// A rule: of what lies in Redis, of the fence, or of the facts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rule {
            $($(#[$doc])+ $rule,)+
        }

        impl Rule {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$rule),+];

            /// The section it is in, and its place there.
            pub const fn number(self) -> &'static str {
                match self {
                    $(Self::$rule => $number,)+
                }
            }
        }
    };
}

rules! {
    /// Absent never equals absent: a guard that is gone refuses a landing.
    MissingGuardRefuses = "redis-1a";
    /// The lease is taken before the origin is asked.
    LeaseBeforeOrigin = "redis-1b";
    /// An invalidation takes the value away.
    InvalidationTakesValue = "redis-2a";
    /// An invalidation makes a new lease, which empties the guard.
    InvalidationRenewsLease = "redis-2b";
    /// Invalidations and appends run when memory is full.
    ChangesExceedMemory = "redis-2c";
    /// Only what was appended to the stream is acknowledged.
    AppendBeforeAcknowledgement = "redis-2d";
    /// Where replicas are awaited, only what they have is acknowledged.
    ReplicasAreAwaited = "redis-2e";
    /// The as-of is the moment before the origin was asked.
    AsOfIsTheBegin = "redis-3";
    /// A value lives for the TTL less its age.
    ValueLivesFromItsAsOf = "redis-4a";
    /// A reading is as old in the next tier as it was in the one before.
    AgeOutlivesTheTier = "redis-4b";
    /// The local tier looks at the shared one again after a while.
    LocalTierLooksAgain = "redis-4c";
    /// A value that its guard does not vouch for is a miss.
    DigestTiesValueToGuard = "redis-5a";
    /// A value of a foreign shape is a miss, and never an empty list.
    ForeignShapeIsAMiss = "redis-5b";
    /// An answer over a connection to a former primary is none.
    OldTagIsAMiss = "redis-6a";
    /// Only a primary vouches for anything.
    OnlyAPrimaryVouches = "redis-6b";
    /// A master that reaches too few of its cluster vouches for nothing.
    OnlyAMajorityVouches = "redis-6c";
    /// Readers ignore members that they do not know.
    UnknownMembersAreIgnored = "redis-7";
    /// A start refuses a Redis that may evict the stream.
    EvictingRedisIsRefused = "redis-8";
    /// What a clock that was set back says twice dates nothing, also to who starts later.
    StampsSaidTwiceDateNothing = "redis-9";

    /// An answer is judged by the fence.
    FenceIsJudged = "fence-1";
    /// The fence moves to the moment the question was sent, not to the moment it was answered.
    FenceMovesToTheQuestion = "fence-2";
    /// The entries of an answer are applied before the fence moves.
    EntriesBeforeFence = "fence-3";
    /// A full page does not move the fence.
    FullPageIsAskedAgain = "fence-4";
    /// Entries that were added and never seen are a gap.
    EntriesAreCounted = "fence-5";
    /// A gap makes local entries pass the shared tier once more.
    BreakClearsStanding = "fence-6";
    /// So does an entry that cannot be read.
    UnreadableClearsStanding = "fence-7";
    /// The stream of another primary is a break.
    HistoryIsCompared = "fence-8";
    /// After a lost history, readings begun before are no answers.
    DoubtAfterLostHistory = "fence-9";
    /// A flight during which continuity was lost lands nowhere.
    DoubtedFlightLandsNowhere = "fence-10";
    /// A lost history is whole only after the journal was applied again.
    RepairBeforeWhole = "fence-11";
    /// A history that was lost once more meanwhile is not whole.
    WholeOnlyIfNothingWasLostSince = "fence-12";
    /// The doubt is lifted after what was put back is applied.
    EntriesBeforeDoubtIsLifted = "fence-13";
    /// A change drops the local entry.
    ChangeDropsEntry = "fence-14";
    /// An entry lands only under the stripe that was read before the facts were looked at.
    StripeIsChecked = "fence-15";
    /// A fact is remembered before the stripe is bumped.
    FactBeforeBump = "fence-16";
    /// The stripe is bumped before the entry is dropped.
    BumpBeforeDrop = "fence-17";
    /// A fact that is filed under no user moves the counter.
    UnfiledFactMovesCounter = "fence-18";
    /// It moves the counter after it was remembered.
    FactBeforeCounter = "fence-19";
    /// Readings from before what is gone from the stream unread are no answers.
    MissingEntriesAreAFloor = "fence-20";
    /// Who comes from another primary and appended there has the journal applied once more.
    LeftElsewhereIsDoubted = "fence-21";

    /// A membership that ended is dropped from readings.
    DeadMembershipIsDropped = "facts-1";
    /// So it is from readings that began a while after it: the origin's replicas may lag.
    DeadOutranksForAWhile = "facts-2";
    /// A newer role replaces an older one.
    NewerRoleReplaces = "facts-3";
    /// An older role replaces nothing.
    OlderRoleLoses = "facts-4";
    /// A reading that lacks an announced membership is kept only briefly.
    KeptBrieflyWithoutExpected = "facts-5";
    /// The memberships of an organization that ended are dropped.
    DeadOrganizationIsDropped = "facts-6";
    /// A newer name, slug or picture replaces an older one.
    NewerProfileReplaces = "facts-7";
    /// Who was deleted is unknown, whatever the origin says.
    DeadUserIsUnknown = "facts-8";
    /// Facts are merged, never replaced.
    FactsAreMerged = "facts-9";
    /// A reading from before the oldest fact that is left is no answer.
    LostFactsAreAFloor = "facts-10";
    /// A shared value begun before a change that is remembered is a miss.
    SharedValueBegunBeforeAChangeIsAMiss = "facts-11";
    /// A reading that names an organization in doubt is no answer.
    DoubtedOrganizationIsVoid = "facts-12";
    /// A shared value that lacks an announced membership is a miss after that while, whoever landed it.
    SharedValueWithoutExpectedIsBrief = "facts-13";
    /// A shared value of a user who is gone is a miss, whoever landed it.
    SharedValueOfTheDeadIsAMiss = "facts-14";
}

#[cfg(not(feature = "rule-switches"))]
mod switch {
    use super::Rule;

    /// Whether a rule holds: always.
    #[inline(always)]
    pub const fn is_on(_: Rule) -> bool {
        true
    }
}

#[cfg(feature = "rule-switches")]
mod switch {
    use std::sync::OnceLock;

    use super::Rule;

    static OUT: OnceLock<(Rule, fn())> = OnceLock::new();

    /// Whether a rule holds.
    pub fn is_on(rule: Rule) -> bool {
        out() != Some(rule)
    }

    /// The rule that is out.
    pub fn out() -> Option<Rule> {
        OUT.get().map(|(rule, _)| *rule)
    }

    /// Takes a rule out for the life of this process; only the first one goes. `linger` takes the time between two steps that
    /// come in the wrong order because of it: long enough for somebody to come in between.
    pub fn take_out(rule: Rule, linger: fn()) {
        // A second one changes nothing, as told.
        let _ = OUT.set((rule, linger));
    }

    pub(super) fn linger() {
        OUT.get().expect("only where a rule is out").1();
    }

    impl Rule {
        /// A rule by its number.
        pub fn of_number(number: &str) -> Option<Self> {
            Self::ALL.iter().copied().find(|rule| rule.number() == number)
        }
    }
}

pub use switch::*;

/// Does two things in this order while the rule holds, and the other way round, with time between them, while it is out.
#[inline(always)]
pub fn in_order(_rule: Rule, first: impl FnOnce(), second: impl FnOnce()) {
    #[cfg(feature = "rule-switches")]
    if !is_on(_rule) {
        second();
        switch::linger();
        return first();
    }
    first();
    second();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_number_of_its_own() {
        let mut numbers: Vec<_> = Rule::ALL.iter().map(|rule| rule.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Rule::ALL.len());
        assert!(Rule::ALL.iter().all(|rule| is_on(*rule)));
    }
}
