//! A checker that finds nothing proves nothing.

use rollcall::dev::{NewOrganization, NewUser};

use super::*;

const BOUND: Duration = Duration::from_secs(1);

/// One user, a member of one organization until an event that was acknowledged at once.
fn ended() -> (History, Row, Instant) {
    let mut world = ClerkWorld::new();
    world.create_user(NewUser { id: Some("user_1".to_owned()), ..NewUser::default() }).expect("a user");
    let new = NewOrganization { id: Some("org_1".to_owned()), name: "One".to_owned(), slug: None, created_by: None };
    world.create_organization(new).expect("an organization");
    world.grant("user_1", "org_1", "org:member").expect("a member");
    let row = truth(&world, "user_1").expect("a user").remove(0);
    let mut history = History::of(&world, &["user_1".to_owned()], &["org_1".to_owned()], BOUND);
    let event = history.happened(Instant::now());
    history.acknowledge(event);
    history.ended(event, &row.membership_id);
    (history, row, Instant::now())
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
    let read = Read { node: 0, user: "user_1".to_owned(), about, is_demanded, lag_max: None, began, ended: began, said, stamp };
    let wrong = history.judge(&[read]);
    assert!(wrong.iter().all(|wrong| !expected.is_empty() && wrong.contains(expected)), "{wrong:?}");
    assert_eq!(wrong.is_empty(), expected.is_empty(), "{expected}");
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
    check(&mut history, About::List, false, at, Said::Rows(vec![row]), "");
}

#[test]
fn an_answer_is_held_to_its_own_age_and_lag() {
    let (mut history, row, at) = ended();
    let mut check = |age_ms, lag_ms, expected: &str| {
        let stamp = Stamp { age: Duration::from_millis(age_ms), lag: Duration::from_millis(lag_ms) };
        let yes = (Said::Rows(vec![row.clone()]), Some(stamp));
        check_stamped(&mut history, About::List, false, at + BOUND / 2, yes, expected);
    };
    check(60_000, 600, "");
    check(60_000, 400, "a late yes");
    check(400, 60_000, "a late yes");
    check(0, 60_000, "a late yes");
    check(60_000, 1_100, "in its own words");
}
