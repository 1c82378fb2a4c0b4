//! What the verbs do to the world, and what they say about it.

use super::*;

fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.body).expect("a message is JSON")
}

fn organizations_of(world: &World, user: &str) -> Vec<String> {
    let rows = world.memberships(user, AsOf::Now).expect("the user is there");
    rows.into_iter().map(|row| row.organization.clone()).collect()
}

#[test]
fn the_small_world_is_as_promised_and_the_same_in_every_run() {
    let world = World::small();
    let description = world.describe();
    assert_eq!(description["organizations"].as_array().map(Vec::len), Some(14));
    assert_eq!(description["users"].as_array().map(Vec::len), Some(6));
    assert_eq!(organizations_of(&world, "user_tomas"), Vec::<String>::new());
    assert_eq!(organizations_of(&world, "user_ada").len(), 12);
    assert_eq!(world.membership("user_noor", "lantern-and-loom").map(|row| row.role.as_str()), Some("org:admin"));
    assert_eq!(world.membership("user_noor", "harbour-works").map(|row| row.role.as_str()), Some("org:member"));
    assert_eq!(description, World::small().describe());
    assert_eq!(world.page("user_ada", 500, 0, AsOf::Now), World::small().page("user_ada", 500, 0, AsOf::Now));
}

#[test]
fn who_joins_again_gets_a_new_membership() {
    let mut world = World::small();
    let left = world.revoke("user_ada", "harbour-works").expect("ada is in it");
    let joined = world.grant("user_ada", "org_harbour_works", "org:member").expect("ada is out");
    assert_ne!(left.id, joined.id);
    assert_eq!(body(&left.messages[0])["data"]["id"], left.id);
    assert_eq!(body(&left.messages[0])["data"]["updated_at"], body(&left.messages[0])["data"]["created_at"]);
    assert_eq!(body(&joined.messages[0])["type"], "organizationMembership.created");
    assert_eq!(body(&joined.messages[0])["data"]["public_user_data"]["user_id"], "user_ada");
    assert_eq!(organizations_of(&world, "user_ada")[0], "org_harbour_works", "newest first");
}

#[test]
fn every_write_is_later_than_the_one_before() {
    let mut world = World::small();
    let mut last = 0;
    for n in 0..50 {
        let role = if n % 2 == 0 { "org:admin" } else { "org:member" };
        let done = world.change_role("user_kofi", "northfold-bakery", role).expect("kofi is in it");
        let updated_at = body(&done.messages[0])["data"]["updated_at"].as_i64().expect("a time");
        assert!(updated_at > last && updated_at > EPOCH_MS);
        last = updated_at;
    }
}

#[test]
fn a_slug_moves_and_is_free_again() {
    let mut world = World::small();
    let done = world.rename("harbour-works", Some("Harbour & Sons"), Some("harbour-and-sons")).expect("free");
    assert_eq!(body(&done.messages[0])["data"]["slug"], "harbour-and-sons");
    assert!(world.organization("harbour-works", AsOf::Now).is_none());
    let created_by = Some("user_tomas".to_owned());
    let new = NewOrganization { name: "Other".to_owned(), slug: Some("harbour-works".to_owned()), created_by, id: None };
    let done = world.create_organization(new).expect("the slug is free");
    assert_eq!(
        done.messages.iter().map(|m| m.event_type).collect::<Vec<_>>(),
        ["organization.created", "organizationMembership.created"]
    );
    assert_eq!(world.membership("user_tomas", "harbour-works").map(|row| row.role.as_str()), Some("org:admin"));
    let taken = world.rename("quiet-room", None, Some("harbour-works"));
    assert_eq!(taken.expect_err("quiet room has no slug"), WorldError::OrganizationUnknown("quiet-room".to_owned()));
    let taken = world.rename("org_quiet_room", None, Some("harbour-works"));
    assert_eq!(taken.expect_err("taken"), WorldError::Taken("harbour-works".to_owned()));
}

#[test]
fn deletions_take_the_memberships_along_and_announce_them_only_if_told_to() {
    for cascades in [false, true] {
        let mut world = World::small();
        world.set_cascades(cascades);
        let done = world.delete_organization("orchard-nine").expect("it is there");
        assert_eq!(done.messages.len(), if cascades { 2 } else { 1 });
        assert_eq!(body(&done.messages[0])["data"]["deleted"], true);
        assert_eq!(organizations_of(&world, "user_ada").len(), 11);
        let done = world.delete_user("user_ada").expect("she is there");
        assert_eq!(done.messages.len(), if cascades { 12 } else { 1 });
        assert!(world.memberships("user_ada", AsOf::Now).is_none());
        assert_eq!(world.organization_shape("harbour-works", AsOf::Now).expect("there")["members_count"], 1);
    }
}

#[test]
fn a_ban_ends_the_sessions_and_leaves_the_memberships() {
    let mut world = World::small();
    let session = world.start_session("user_noor").expect("she is there").id;
    let done = world.ban("user_noor").expect("she is there");
    assert_eq!(done.messages.iter().map(|m| m.event_type).collect::<Vec<_>>(), ["user.updated", "session.revoked"]);
    assert_eq!(body(&done.messages[0])["data"]["banned"], true);
    assert_eq!(body(&done.messages[1])["data"]["id"], session);
    assert_eq!(organizations_of(&world, "user_noor").len(), 2);
    let ended = world.end_session(&session, SessionEnd::Ended);
    assert_eq!(ended.expect_err("gone"), WorldError::SessionUnknown(session));
}

#[test]
fn a_read_can_be_answered_from_before_the_last_writes() {
    let mut world = World::small();
    let before = AsOf::At(wall_ms() - 1);
    world.revoke("user_ada", "harbour-works").expect("ada is in it");
    world.rename("lantern-and-loom", Some("Loom"), None).expect("it is there");
    world.delete_user("user_ivo").expect("he is there");
    let old = world.page("user_ada", 500, 0, before).expect("ada was there");
    let new = world.page("user_ada", 500, 0, AsOf::Now).expect("ada is there");
    assert_eq!((old.total_count, new.total_count), (12, 11));
    let name = |page: &Page| {
        let row = page.data.iter().find(|row| row["organization"]["id"] == "org_lantern_and_loom").expect("a row");
        row["organization"]["name"].clone()
    };
    assert_eq!((name(&old), name(&new)), (json!("Lantern & Loom"), json!("Loom")));
    assert!(world.page("user_ivo", 10, 0, before).is_some());
    assert!(world.page("user_ivo", 10, 0, AsOf::Now).is_none());
}

#[test]
fn what_is_gone_at_once_is_gone_at_one_moment() {
    let mut world = World::new();
    world.put_into("user_many", 501).expect("room");
    world.delete_user("user_many").expect("there");
    assert!(world.page("user_many", 10, 0, AsOf::At(wall_ms())).is_none(), "not at a time yet to come");
}

#[test]
fn pages_cover_the_list_without_gap_or_overlap() {
    let mut world = World::new();
    world.put_into("user_many", 501).expect("room");
    world.put_into("user_some", 137).expect("the organizations are shared");
    let pages = [0, 200, 400].map(|offset| world.page("user_many", 200, offset, AsOf::Now).expect("there"));
    let ids: BTreeSet<String> = pages.iter().flat_map(|page| &page.data).map(|row| row["id"].to_string()).collect();
    assert_eq!((ids.len(), pages[2].data.len(), pages[0].total_count), (501, 101, 501));
    let times: Vec<i64> = pages.iter().flat_map(|page| &page.data).filter_map(|row| row["created_at"].as_i64()).collect();
    assert!(times.is_sorted_by(|a, b| a > b));
}

#[test]
fn a_refused_verb_changes_nothing() {
    let mut world = World::small();
    let before = world.describe();
    let user = |id: &str| NewUser { id: Some(id.to_owned()), ..NewUser::default() };
    assert!(matches!(world.create_user(user("user_ada")), Err(WorldError::Taken(_))));
    assert!(matches!(world.create_user(user("a/b")), Err(WorldError::Malformed { .. })));
    assert!(matches!(world.grant("user_ada", "harbour-works", "org:admin"), Err(WorldError::AlreadyAMember { .. })));
    assert!(matches!(world.grant("user_tomas", "harbour-works", ""), Err(WorldError::Malformed { .. })));
    assert!(matches!(world.grant("user_x", "harbour-works", "org:admin"), Err(WorldError::UserUnknown(_))));
    assert!(matches!(world.revoke("user_tomas", "harbour-works"), Err(WorldError::NotAMember { .. })));
    assert!(matches!(world.delete_organization("nowhere"), Err(WorldError::OrganizationUnknown(_))));
    assert_eq!(world.describe(), before);
}

#[test]
fn memberships_that_nobody_can_see_any_more_are_forgotten() {
    let mut world = World::small();
    for _ in 0..20 {
        world.seed(|world| {
            world.grant("user_tomas", "harbour-works", "org:member").expect("out");
            world.revoke("user_tomas", "harbour-works").expect("in");
        });
    }
    assert_eq!(world.of_user["user_tomas"].len(), 20, "seeded within ten minutes of each other");
    world.grant("user_tomas", "harbour-works", "org:member").expect("out");
    assert_eq!(world.of_user["user_tomas"].len(), 1);
    assert_eq!(world.memberships.len(), 21);
}
