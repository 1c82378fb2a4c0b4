//! How things are done: in the right order, which is the cache's own; or each in a wrong one, put together from the same steps,
//! to see that the schedules find it out.

use std::time::Duration;

use rollcall::domain::{Change, List, Moment, SessionId};
use rollcall::ports::{Break, StreamSink};
use rollcall::protocol::freshness::{Candidate, Verdict, Wants};

use super::answer::Content;
use super::doors::{begun, truth};
use super::facts::TokenStanding;
use super::room::{Cache, Seen, seen, user};
use crate::clock::NOW;

/// One way of doing each of the things whose order matters.
#[derive(Clone, Copy)]
pub struct Habits {
    /// The reader of the stream takes an entry in, and moves the fence.
    pub apply: fn(&Cache, &Change, Moment),
    /// The reader has missed entries, and moves the fence when it has loaded what is left.
    pub break_off: fn(&Cache, Moment),
    pub fly: fn(&Cache),
    pub hit: fn(&Cache) -> Option<Seen>,
    /// What is known of a token of session 1 of user 1, and up to which fence.
    pub stand: fn(&Cache) -> (TokenStanding, Moment),
}

impl Habits {
    /// As in production.
    pub const RIGHT: Self = Self { apply, break_off, fly, hit: Cache::hit_now, stand };
}

/// When the changes of these scenes pass: before the readings began, so that no value is refused for its age alone.
pub fn passed() -> Moment {
    begun() - Duration::from_secs(1)
}

fn apply(cache: &Cache, change: &Change, fence: Moment) {
    StreamSink::apply(cache, change, passed());
    cache.inner.parts.fence.advance(fence);
}

fn break_off(cache: &Cache, fence: Moment) {
    cache.broke(Break::EntriesMissed);
    cache.inner.parts.fence.advance(fence);
}

fn fly(cache: &Cache) {
    cache.fly_unseen();
}

fn stand(cache: &Cache) -> (TokenStanding, Moment) {
    cache.token_standing(&user(1), &session(), 0, begun(), NOW)
}

pub fn session() -> SessionId {
    SessionId::parse("sess_1").expect("id")
}

/// Whether the stream was heard is asked when the facts were looked at.
pub fn heard_after_the_facts(cache: &Cache) -> (TokenStanding, Moment) {
    let standing = match cache.inner.facts.token_standing(&user(1), &session(), 0, begun()) {
        TokenStanding::Alive if cache.inner.parts.fence.is_unreached() => TokenStanding::InDoubt,
        standing => standing,
    };
    (standing, cache.inner.parts.fence.load(NOW))
}

/// What is doubted is asked when the facts were looked at.
pub fn doubted_after_the_facts(cache: &Cache) -> (TokenStanding, Moment) {
    let fence = cache.inner.parts.fence.load(NOW);
    // Begun now, in nobody's doubt.
    let standing = match cache.inner.facts.token_standing(&user(1), &session(), 0, NOW) {
        TokenStanding::Alive if !cache.inner.facts.may_trust(begun()) => TokenStanding::InDoubt,
        standing => standing,
    };
    (standing, fence)
}

/// The fence moves before the entries that it vouches for are applied.
pub fn apply_after_the_fence(cache: &Cache, change: &Change, fence: Moment) {
    cache.inner.parts.fence.advance(fence);
    StreamSink::apply(cache, change, passed());
}

/// The entry is dropped, as one that is too old is, before the stripe is bumped: a change of a stranger bumps it too.
pub fn drop_before_bump(cache: &Cache, _: &Change, fence: Moment) {
    cache.inner.local.sweep(Duration::ZERO, NOW);
    cache.inner.local.invalidate(&user(2));
    cache.inner.parts.fence.advance(fence);
}

/// The entry is dropped, and the stripe is not bumped at all.
pub fn drop_without_bump(cache: &Cache, _: &Change, fence: Moment) {
    cache.inner.local.sweep(Duration::ZERO, NOW);
    cache.inner.parts.fence.advance(fence);
}

/// The counter moves before the fact is remembered.
pub fn counter_before_fact(cache: &Cache, change: &Change, fence: Moment) {
    cache.inner.facts.doubt_before(passed());
    let Change::MembershipDeleted { membership, .. } = change else { unreachable!("only what is filed under nobody") };
    let filed = Change::MembershipDeleted { membership: membership.clone(), user: Some(user(1)) };
    cache.inner.facts.remember(&filed, passed());
    cache.inner.parts.fence.advance(fence);
}

/// The fence moves, and only then entries have to pass the shared tier again.
pub fn break_after_the_fence(cache: &Cache, fence: Moment) {
    cache.inner.parts.fence.advance(fence);
    cache.broke(Break::EntriesMissed);
}

/// Nobody is told that entries were missed.
pub fn break_untold(cache: &Cache, fence: Moment) {
    cache.inner.parts.fence.advance(fence);
}

/// The stripe is read when the origin has answered.
pub fn stripe_after_the_origin(cache: &Cache) {
    let rows = truth(cache.inner.clerk.now());
    let counters = (cache.inner.facts.generation(), cache.inner.facts.standing());
    let stripe = cache.inner.local.stripe(&user(1));
    let entry = cache.entry(Content::List(List::new(&rows)), begun(), cache.reread_at(NOW, None), false, counters);
    cache.inner.local.land(&user(1), stripe, entry);
}

/// The counter is read when the facts are applied.
pub fn counter_after_the_facts(cache: &Cache) {
    let stripe = cache.inner.local.stripe(&user(1));
    let mut rows = truth(cache.inner.clerk.now());
    cache.apply_facts(&user(1), begun(), &mut rows);
    let counters = (cache.inner.facts.generation(), cache.inner.facts.standing());
    let entry = cache.entry(Content::List(List::new(&rows)), begun(), cache.reread_at(NOW, None), false, counters);
    cache.inner.local.land(&user(1), stripe, entry);
}

/// Standing and counter are read when the origin has answered.
pub fn standing_after_the_origin(cache: &Cache) {
    let stripe = cache.inner.local.stripe(&user(1));
    let rows = truth(cache.inner.clerk.now());
    let counters = (cache.inner.facts.generation(), cache.inner.facts.standing());
    let entry = cache.entry(Content::List(List::new(&rows)), begun(), cache.reread_at(NOW, None), false, counters);
    cache.inner.local.land(&user(1), stripe, entry);
}

/// The entry is found before the fence is loaded.
pub fn entry_before_fence(cache: &Cache) -> Option<Seen> {
    let entry = cache.inner.local.get(&user(1))?;
    let generation = cache.inner.facts.generation();
    let fence = cache.inner.parts.fence.load(NOW);
    vouched(cache, entry.generation == generation, &entry.content, fence)
}

/// The entry is given whatever counter it carries.
pub fn counter_unread(cache: &Cache) -> Option<Seen> {
    let fence = cache.inner.parts.fence.load(NOW);
    let entry = cache.inner.local.get(&user(1))?;
    vouched(cache, true, &entry.content, fence)
}

fn vouched(cache: &Cache, is_current: bool, content: &Content, fence: Moment) -> Option<Seen> {
    let candidate = Candidate { as_of: begun(), fence };
    let verdict = cache.inner.parts.bounds.judge(candidate, &Wants::default(), NOW, NOW);
    (is_current && verdict == Verdict::Good).then(|| seen(content, fence))
}
