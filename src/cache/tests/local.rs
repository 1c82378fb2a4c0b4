//! The local tier: its bound, its turns, and what it counts.

use super::super::answer::Content;
use super::super::local::{Entry, Local};
use crate::domain::{List, Moment, OrganizationRef, UserId};
use crate::protocol::denial::Denied;

fn user(n: usize) -> UserId {
    UserId::parse(&format!("user_{n}")).expect("id")
}

fn land(local: &Local, user: &UserId, content: Content) -> bool {
    local.land(user, local.stripe(user), Entry::new(content, Moment::ZERO, Moment::ZERO, Moment::ZERO))
}

fn slug(n: usize) -> Denied {
    Denied::Organization(OrganizationRef::parse(&format!("{}{n}", "s".repeat(200))).expect("slug"))
}

#[test]
fn i12_refusals_count_and_are_given_back_with_their_entry() {
    let local = Local::new(1 << 20);
    land(&local, &user(1), Content::List(List::new(&[])));
    let (bare, _) = local.size();
    for n in 0..100 {
        local.note_denial(&user(1), Moment::ZERO, slug(n));
    }
    let (full, _) = local.size();
    assert!(full > bare + 16 * 200, "{bare} {full}");
    assert!(full < bare + 16 * 400, "only so many are kept");
    land(&local, &user(1), Content::List(List::new(&[])));
    assert_eq!(local.size().0, full, "they are carried over, and counted once");
    local.invalidate(&user(1));
    assert_eq!(local.size(), (0, 0));
}

#[test]
fn i12_refusals_push_out_others() {
    let local = Local::new(64 << 10);
    for n in 0..50 {
        land(&local, &user(n), Content::Unknown);
        for slug_n in 0..16 {
            local.note_denial(&user(n), Moment::ZERO, slug(slug_n));
        }
    }
    let (bytes, users) = local.size();
    assert!(bytes <= 64 << 10 && users < 20 && local.evicted.get() > 0, "{bytes} bytes of {users} users");
}

#[test]
fn lists_in_use_have_their_turn_one_after_the_other_and_again_only_when_hit_again() {
    let local = Local::new(1 << 20);
    for n in 0..200 {
        let content = if n % 5 == 0 { Content::Unknown } else { Content::List(List::new(&[])) };
        land(&local, &user(n), content);
    }
    let hit = |n: usize| local.get(&user(n)).expect("landed").hits.note();
    [1, 2, 5, 64, 131].into_iter().for_each(hit);
    let begun = Moment::ZERO..=Moment::ZERO;
    let round = || -> Vec<UserId> { std::iter::from_fn(|| local.next_in_use(&begun)).collect() };
    assert_eq!(round(), [1, 2, 64, 131].map(user), "nobody is asked about whom the origin does not know");
    assert_eq!(round(), []);
    [131, 2].into_iter().for_each(hit);
    local.invalidate(&user(131));
    let second = Moment::from_micros(1);
    assert_eq!(local.next_in_use(&(second..=second)), None, "read too long ago");
    assert_eq!(round(), [user(2)]);
}

/// Changes remove what others are just inserting: the sum never falls below nothing.
#[test]
fn i12_inserts_and_changes_at_once_leave_the_sum_right() {
    let local = Local::new(1 << 30);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let local = &local;
            scope.spawn(move || {
                for n in 0..200_000 {
                    let user = user(1);
                    match (n + thread) % 2 {
                        0 => _ = land(local, &user, Content::Unknown),
                        _ => _ = local.invalidate(&user),
                    }
                    assert!(local.size().0 < 1 << 40, "less than nothing");
                }
            });
        }
    });
    assert_eq!(local.evicted.get(), 0, "nothing is near the limit");
    local.invalidate(&user(1));
    assert_eq!(local.size(), (0, 0));
}
