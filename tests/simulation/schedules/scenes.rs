//! Who runs at the same time, and what must hold whatever the schedule is. Everybody is at user 1, who has one membership.

use std::time::Duration;

use rollcall::domain::{Change, MembershipId, Moment, OrganizationId, OrganizationRef};
use rollcall::ports::StreamSink;
use rollcall::protocol::denial::Denied;
use shuttle::thread;

use super::doors::begun;
use super::facts::TokenStanding;
use super::flown::Flown;
use super::habits::{Habits, passed, session};
use super::local::Entry;
use super::room::{Cache, Seen, changes_in, fence_of, seen, user};
use super::sync::Ordering;
use crate::clock::NOW;

type Work = Box<dyn FnOnce(&Cache) + Send>;

/// Runs all of it at the same time, to the end.
fn at_once(cache: &Cache, work: Vec<Work>) {
    let begin = |work: Work| {
        let cache = cache.clone();
        thread::spawn(move || work(&cache))
    };
    let threads: Vec<_> = work.into_iter().map(begin).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it says itself what is wrong"));
}

fn stranger() -> OrganizationId {
    OrganizationId::parse("org_2").expect("id")
}

fn work(act: impl FnOnce(&Cache) + Send + 'static) -> Work {
    Box::new(act)
}

/// Whatever a fence vouches for must be behind the answer.
fn vouch(found: Option<Seen>, by: &str) {
    if let Some(Seen { changes, vouched }) = found {
        assert!(changes >= Some(vouched), "I6: {by} with {changes:?} changes behind it, and {vouched} vouched for");
    }
}

/// The origin, and what is in Redis, after a change.
fn change_truth(cache: &Cache, to: u64) {
    cache.inner.clerk.changes.store(to, Ordering::SeqCst);
    cache.inner.redis.void();
}

/// Changes that say only whom they concern, while readings are under way from the origin and from Redis, and callers come.
pub fn evictions(habits: Habits) {
    let cache = Cache::new(false, 1 << 20);
    let stream = move |cache: &Cache| {
        for n in 1..=2 {
            // Of nobody here: it only moves the counter, so that entries are looked at once more.
            StreamSink::apply(cache, &Change::OrganizationDeleted { organization: stranger() }, passed());
            change_truth(cache, n);
            let change = Change::Evicted { users: vec![user(1)], organizations: vec![] };
            (habits.apply)(cache, &change, fence_of(n));
        }
    };
    let calls = move |cache: &Cache| (0..3).for_each(|_| vouch((habits.hit)(cache), "a hit"));
    let lands = move |cache: &Cache| (habits.fly)(cache);
    let looks = |cache: &Cache| vouch(cache.look(), "a shared value");
    let catches_up = |cache: &Cache| (0..2).for_each(|_| _ = cache.catch_up(&user(1)));
    at_once(&cache, vec![work(stream), work(lands), work(lands), work(looks), work(catches_up), work(calls)]);

    let kept = cache.inner.local.get(&user(1)).map(|entry| changes_in(&entry.content));
    assert!(kept.is_none_or(|kept| kept == Some(2)), "I5: {kept:?} is kept in this process after two changes");
    let shared = cache.look().map(|seen| seen.changes);
    assert!(shared.is_none_or(|shared| shared == Some(2)), "I5: {shared:?} is kept in Redis after two changes");
}

/// Without Redis: what a flight answers its callers, under the fence that it read: a change takes it out of the sky.
pub fn flights(habits: Habits) {
    let cache = Cache::without_redis();
    let stream = move |cache: &Cache| {
        change_truth(cache, 1);
        let change = Change::Evicted { users: vec![user(1)], organizations: vec![] };
        (habits.apply)(cache, &change, fence_of(1));
    };
    let flies = |cache: &Cache| {
        if let Flown::Landed(reading) = cache.fly_seen() {
            vouch(Some(seen(&reading.content, reading.candidate.fence)), "a flight");
        }
    };
    at_once(&cache, vec![work(stream), work(flies), work(flies)]);
}

/// A membership ends in a message that names no user, and the origin never hears of it: only the fact and the counter help.
pub fn unfiled(habits: Habits) {
    let cache = Cache::new(true, 1 << 20);
    cache.fly_unseen();
    let ended = Change::MembershipDeleted { membership: MembershipId::parse("orgmem_1").expect("id"), user: None };
    let stream = move |cache: &Cache| (habits.apply)(cache, &ended, fence_of(1));
    let is_right = |found: Option<Seen>, by: &str| {
        if let Some(Seen { changes: Some(_), vouched: 1.. }) = found {
            panic!("I6: {by} with a membership whose end is vouched for");
        }
    };
    let calls = move |cache: &Cache| (0..3).for_each(|_| is_right((habits.hit)(cache), "a hit"));
    let lands = move |cache: &Cache| (habits.fly)(cache);
    let looks = move |cache: &Cache| is_right(cache.look(), "a shared value");
    let catches_up = |cache: &Cache| _ = cache.catch_up(&user(1));
    at_once(&cache, vec![work(stream), work(lands), work(looks), work(catches_up), work(calls)]);
    is_right((habits.hit)(&cache), "a hit at the end");
}

/// A change that this node never hears of passes, and it hears that it missed something: entries must pass Redis again.
pub fn missed(habits: Habits) {
    let cache = Cache::new(false, 1 << 20);
    cache.fly_unseen();
    let stream = move |cache: &Cache| {
        change_truth(cache, 1);
        (habits.break_off)(cache, fence_of(1));
    };
    let calls = move |cache: &Cache| (0..3).for_each(|_| vouch((habits.hit)(cache), "a hit"));
    let lands = move |cache: &Cache| (habits.fly)(cache);
    let looks = |cache: &Cache| vouch(cache.look(), "a shared value");
    let catches_up = |cache: &Cache| _ = cache.catch_up(&user(1));
    at_once(&cache, vec![work(stream), work(lands), work(looks), work(catches_up), work(calls)]);
    vouch((habits.hit)(&cache), "a hit at the end");
}

fn is_never_alive(habits: Habits, cache: Cache, stream: impl FnOnce(&Cache) + Send + 'static) {
    let asks = move |cache: &Cache| {
        for _ in 0..2 {
            assert!((habits.stand)(cache).0 != TokenStanding::Alive, "I5: a token whose session had ended is taken");
        }
    };
    at_once(&cache, vec![work(stream), work(asks), work(asks)]);
    assert!((habits.stand)(&cache).0 == TokenStanding::Dead, "I5: a token whose session had ended is not dead at the end");
}

fn session_ended() -> Change {
    Change::SessionEnded { session: session(), user: None }
}

/// A node that starts hears of an end for the first time, and reaches the end of the stream.
pub fn first_heard(habits: Habits) {
    is_never_alive(habits, Cache::unheard(), move |cache| (habits.apply)(cache, &session_ended(), fence_of(1)));
}

/// A node hears of an end; whoever is told meanwhile that the session lives is not told that it was heard as far as the end.
pub fn told(habits: Habits) {
    let cache = Cache::new(false, 0);
    let asks = move |cache: &Cache| {
        for _ in 0..2 {
            let (standing, fence) = (habits.stand)(cache);
            let is_wrong = standing == TokenStanding::Alive && fence >= fence_of(1);
            assert!(!is_wrong, "I6: a token is taken under a fence that vouches for the end of its session");
        }
    };
    let stream = move |cache: &Cache| (habits.apply)(cache, &session_ended(), fence_of(1));
    at_once(&cache, vec![work(stream), work(asks), work(asks)]);
}

/// An end was lost with the stream's history: it is put back, and then nothing is doubted any more.
pub fn put_back(habits: Habits) {
    let cache = Cache::new(false, 0);
    cache.inner.facts.doubt_before(NOW);
    is_never_alive(habits, cache, |cache| {
        StreamSink::apply(cache, &session_ended(), passed());
        cache.inner.facts.doubt_before(Moment::ZERO);
    });
}

/// What an entry of these scenes costs is far more than this many, and two fit.
const ROOM: u64 = 1_600;

/// Entries are landed, replaced, refused from, dropped, swept and pushed out of a tier with little room.
pub fn little_room() {
    let cache = Cache::new(false, ROOM);
    let slug = |n: usize| Denied::Organization(OrganizationRef::parse(&format!("slug-{n}")).expect("slug"));
    let lands = |n: usize| {
        work(move |cache| {
            for n in [n, 3 - n] {
                let local = &cache.inner.local;
                let content = super::answer::Content::Unknown;
                local.land(&user(n), local.stripe(&user(n)), Entry::new(content, begun(), NOW, NOW));
                let (bytes, _) = local.size();
                assert!(bytes < 1 << 40, "I12: less than nothing is held");
            }
        })
    };
    let refuses = move |cache: &Cache| (1..3).for_each(|n| cache.inner.local.note_denial(&user(n), begun(), slug(n)));
    let changes = |cache: &Cache| _ = cache.inner.local.invalidate(&user(1));
    let sweeps = |cache: &Cache| {
        cache.inner.local.next_in_use(&(begun()..=NOW));
        cache.inner.local.sweep(Duration::ZERO, NOW);
    };
    at_once(&cache, vec![lands(1), lands(2), work(refuses), work(changes), work(sweeps)]);

    let (bytes, _) = cache.inner.local.size();
    assert!(bytes <= ROOM, "I12: {bytes} bytes are held at the end");
    (1..3).for_each(|n| _ = cache.inner.local.invalidate(&user(n)));
    assert_eq!(cache.inner.local.size(), (0, 0), "I12: nothing is held, and nothing is counted");
}
