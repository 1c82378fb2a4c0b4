//! A checker that finds nothing proves nothing.

use rollcall::dev::{NewOrganization, NewUser};

use super::*;

const BOUND: Duration = Duration::from_secs(1);

/// One user, a member of one organization.
fn living() -> (ClerkWorld, History, Row) {
    let mut world = ClerkWorld::new();
    world.create_user(NewUser { id: Some("user_1".to_owned()), ..NewUser::default() }).expect("a user");
    let new = NewOrganization { id: Some("org_1".to_owned()), name: "One".to_owned(), slug: None, created_by: None };
    world.create_organization(new).expect("an organization");
    world.grant("user_1", "org_1", "org:member").expect("a member");
    let row = truth(&world, "user_1").expect("a user").remove(0);
    let history = History::of(&world, &["user_1".to_owned()], &["org_1".to_owned()], BOUND);
    (world, history, row)
}

/// The same, until an event that was acknowledged at once.
fn ended_in_world() -> (ClerkWorld, History, Row, Instant) {
    let (mut world, mut history, row) = living();
    let done = world.revoke("user_1", "org_1").expect("a member");
    let event = history.note(Instant::now(), &world, &done);
    history.acknowledge(event);
    (world, history, row, Instant::now())
}

fn ended() -> (History, Row, Instant) {
    let (_, history, row, at) = ended_in_world();
    (history, row, at)
}

#[track_caller]
fn check(history: &mut History, about: About, is_demanded: bool, began: Instant, said: Said, expected: &str) {
    check_stamped(history, about, is_demanded, began, (said, None), expected);
}

#[track_caller]
fn check_stamped(
    history: &mut History,
    about: About,
    is_demanded: bool,
    began: Instant,
    (said, stamp): (Said, Option<Stamp>),
    expected: &str,
) {
    check_read(history, Read { is_demanded, stamp, ..read_of(about, said, began) }, expected);
}

fn read_of(about: About, said: Said, began: Instant) -> Read {
    let (user, ended) = ("user_1".to_owned(), began);
    Read { node: 0, user, about, role: None, is_demanded: false, lag_max: None, began, ended, said, stamp: None }
}

#[track_caller]
fn check_read(history: &mut History, read: Read, expected: &str) {
    let wrong = history.judge(&[read]);
    assert!(wrong.iter().all(|wrong| !expected.is_empty() && wrong.contains(expected)), "{wrong:?}");
    assert_eq!(wrong.is_empty(), expected.is_empty(), "{expected}");
}

fn stamp(age_ms: u64, lag_ms: u64) -> Stamp {
    let (age, lag) = (Duration::from_millis(age_ms), Duration::from_millis(lag_ms));
    Stamp { age, lag, oldest: age, oldest_seconds: age.as_secs(), is_grace: false, is_one_of_many: false }
}

#[test]
fn a_yes_is_right_until_the_bound_has_passed() {
    let (mut history, row, at) = ended();
    let yes = || Said::Rows(vec![row.clone()]);
    let id = || About::Id("org_1".to_owned());
    check(&mut history, id(), false, at + BOUND / 2, yes(), "");
    check(&mut history, id(), false, at + BOUND * 2, yes(), "a late yes");
    check(&mut history, About::List, false, at + BOUND * 2, yes(), "a late yes");
    check(&mut history, id(), true, at + BOUND / 2, yes(), "a late yes");
    check(&mut history, About::Id("org_2".to_owned()), false, at, yes(), "not what was asked for");
    check(&mut history, id(), false, at, Said::Rows(vec![Row { role: "org:admin".to_owned(), ..row.clone() }]), "a role that");
}

#[test]
fn a_no_is_wrong_while_the_membership_lasts() {
    let (mut history, row, at) = ended();
    let id = || About::Id("org_1".to_owned());
    check(&mut history, id(), false, at, Said::NotAMember, "");
    check(&mut history, id(), false, at, Said::UserUnknown, "a living user");
    history.memberships.get_mut(&row.membership_id).expect("it is there").ended = None;
    check(&mut history, id(), false, at, Said::NotAMember, "a false no");
    check(&mut history, About::List, false, at, Said::Rows(vec![]), "a gap");
    check(&mut history, About::List, false, at, Said::Rows(vec![row.clone()]), "");
    check(&mut history, About::List, false, at, Said::Rows(vec![row.clone(), row]), "twice");
    check(&mut history, About::List, false, at, Said::NotAMember, "a list is never a no");
}

#[test]
fn an_answer_is_held_to_its_own_age_and_lag() {
    let (mut history, row, at) = ended();
    let mut check = |age_ms, lag_ms, expected: &str| {
        let stamp = stamp(age_ms, lag_ms);
        let yes = (Said::Rows(vec![row.clone()]), Some(stamp));
        check_stamped(&mut history, About::List, false, at + BOUND / 2, yes, expected);
    };
    check(60_000, 600, "");
    check(60_000, 400, "a late yes");
    check(400, 60_000, "a late yes");
    check(0, 60_000, "a late yes");
    check(60_000, 1_100, "in its own words");
}

#[test]
fn an_answer_is_held_to_what_its_node_can_have_heard() {
    let (mut history, row, at) = ended();
    history.memberships.get_mut(&row.membership_id).expect("it is there").ended = None;
    history.limit_ages(Duration::from_secs(300), Duration::from_secs(600));
    history.cut(0, at, at + BOUND * 8);
    let mut check = |began, stamp, expected: &str| {
        check_stamped(&mut history, About::List, false, began, (Said::Rows(vec![row.clone()]), Some(stamp)), expected);
    };
    check(at + BOUND / 2, stamp(60_000, 500), "");
    check(at + BOUND / 2, stamp(60_000, 400), "while it was cut off");
    check(at + BOUND * 9, stamp(60_000, 400), "");
    check(at + BOUND / 2, stamp(301_000, 500), "older than the TTL");
    check(at + BOUND / 2, Stamp { is_grace: true, ..stamp(301_000, 500) }, "");
    check(at + BOUND / 2, stamp(60_000, 1_100), "in its own words");
    check(at + BOUND / 2, Stamp { is_one_of_many: true, ..stamp(60_000, 1_100) }, "");
    check(at + BOUND / 2, Stamp { oldest_seconds: 59, ..stamp(60_000, 500) }, "contradict");
    check(at + BOUND / 2, Stamp { oldest: Duration::from_secs(59), oldest_seconds: 59, ..stamp(60_000, 500) }, "contradict");
}

#[test]
fn a_role_is_missing_only_where_another_was() {
    let (mut world, mut history, row) = living();
    let at = Instant::now();
    let asked = |role: &str, said: Said, began: Instant| Read {
        role: Some(role.to_owned()),
        ..read_of(About::Id("org_1".to_owned()), said, began)
    };
    let yes = || Said::Rows(vec![row.clone()]);
    check_read(&mut history, asked("org:member", yes(), at), "");
    check_read(&mut history, asked("org:admin", yes(), at), "not the role");
    check_read(&mut history, asked("org:admin", Said::RoleMissing, at), "");
    check_read(&mut history, asked("org:member", Said::RoleMissing, at), "a role that is there");
    check_read(&mut history, read_of(About::Id("org_1".to_owned()), Said::RoleMissing, at), "no role was asked for");
    let done = world.change_role("user_1", "org_1", "org:admin").expect("a member");
    let event = history.note(at, &world, &done);
    check_read(&mut history, asked("org:admin", Said::RoleMissing, at), "");
    history.acknowledge(event);
    let later = Instant::now() + BOUND * 2;
    check_read(&mut history, asked("org:admin", Said::RoleMissing, later), "a role that is there");
    check_read(&mut history, asked("org:member", Said::RoleMissing, later), "");
    check_read(&mut history, asked("org:member", yes(), later), "a late role");
}

/// Who hears the stream knows what ended, whatever the origin says; nobody knows of what began.
#[test]
fn an_origin_that_lags_excuses_who_does_not_hear_the_stream_and_what_is_new() {
    let (mut world, mut history, row, at) = ended_in_world();
    history.let_origin_lag(BOUND);
    let yes = |stamp| (Said::Rows(vec![row.clone()]), Some(stamp));
    let list = || About::List;
    check_stamped(&mut history, list(), false, at + BOUND * 9 / 10, yes(stamp(0, 0)), "a late yes");
    check_stamped(&mut history, list(), false, at + BOUND * 9 / 10, yes(stamp(0, 2_000)), "");
    check_stamped(&mut history, list(), false, at + BOUND * 5 / 2, yes(stamp(0, 5_000)), "a late yes");
    let done = world.grant("user_1", "org_1", "org:member").expect("a new member");
    let event = history.note(at, &world, &done);
    history.acknowledge(event);
    check_stamped(&mut history, list(), false, at + BOUND * 5, (Said::Rows(vec![]), Some(stamp(0, 0))), "");
    check_stamped(&mut history, list(), false, at + BOUND * 9, (Said::Rows(vec![]), Some(stamp(0, 0))), "a gap");
}

/// What happens to a user takes the value away at once, as soon as it is acknowledged or the user was evicted; what happens to
/// an organization is told by the TTL alone.
#[test]
fn a_value_in_redis_is_from_after_what_was_acknowledged() {
    #[track_caller]
    fn check(history: &History, row: &Row, began: Instant, expected: &str) {
        let wrong = history.judge_values(&[Value { user: "user_1".to_owned(), rows: vec![row.clone()], began }]);
        assert_eq!(wrong.is_empty(), expected.is_empty(), "{wrong:?}");
        assert!(wrong.iter().all(|wrong| wrong.contains(expected)), "{wrong:?}");
    }
    const TTL: Duration = Duration::from_secs(300);
    let (mut world, mut history, row) = living();
    history.limit_ages(TTL, Duration::ZERO);
    let promoted = world.change_role("user_1", "org_1", "org:admin").expect("a member");
    let event = history.note(Instant::now(), &world, &promoted);
    check(&history, &row, Instant::now() + BOUND, "");
    history.acknowledge(event);
    check(&history, &row, Instant::now() + BOUND, "a late role");
    let row = truth(&world, "user_1").expect("a user").remove(0);
    let left = world.revoke("user_1", "org_1").expect("a member");
    history.note(Instant::now(), &world, &left);
    check(&history, &row, Instant::now() + BOUND, "");
    check(&history, &row, Instant::now() + TTL + BOUND, "a late value");
    history.acknowledge_all_of("user_1", Instant::now());
    check(&history, &row, Instant::now() + BOUND, "a late value");

    let (mut world, mut history, row) = living();
    history.limit_ages(TTL, Duration::ZERO);
    let gone = world.delete_organization("org_1").expect("an organization");
    let event = history.note(Instant::now(), &world, &gone);
    history.acknowledge(event);
    check(&history, &row, Instant::now() + BOUND, "");
    check(&history, &row, Instant::now() + TTL + BOUND, "a late value");
}
