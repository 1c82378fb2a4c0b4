//! What each message does to answers. The origin lags ten minutes where the message alone must bring the change about: what
//! it says then outranks what the origin still shows.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rollcall::dev::{Done, NewUser, SessionEnd};
use serde_json::{Value, json};

use crate::world::service::{Deployment, Setup, World, run_on_both, run_test};
use crate::world::wait::until;
use crate::world::webhooks::{body, event, fixture};

const HARBOUR: &str = "org_harbour_works";

/// The row of an organization in a user's list.
async fn row(world: &World, user: &str, organization: &str) -> anyhow::Result<Option<Value>> {
    let list = world.list(user).await?.json();
    let rows = list.as_array().expect("a list").iter();
    Ok(rows.into_iter().find(|row| row["organizationId"] == organization).cloned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_membership_is_dropped_though_the_origin_still_shows_it() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_ada", "harbour-works").await?.is_member();
        world.origin_lags();
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.check("user_ada", "harbour-works").await?.is_member();
        world.deliver(&left).await;
        world.check("user_ada", "harbour-works").await?.is_not_a_member();
        let asked = world.ask_with(0, "/v1/users/user_ada/orgs", &[("cache-control", "no-cache")]).await?;
        assert!(!asked.slugs().contains(&"harbour-works".to_owned()) && asked.slugs().len() == 11);
        world.check("user_noor", "harbour-works").await?.is_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_role_replaces_the_older_one_that_the_origin_still_shows() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_ada", "harbour-works?role=org:admin").await?.is_member();
        world.origin_lags();
        let demoted = world.change(|clerk| clerk.change_role("user_ada", "harbour-works", "org:member"));
        world.deliver(&demoted).await;
        world.check("user_ada", "harbour-works?role=org:admin").await?.is_problem(403, "role-missing");
        let member = world.check("user_ada", "harbour-works?role=org:member").await?.is_member();
        assert_eq!(member["updatedAt"], body(&demoted.messages[0])["data"]["updated_at"], "the time goes with the role");
        Ok(())
    })
    .await;
}

/// Clerk's schema allows membership events without a user: they are filed under the membership alone.
#[tokio::test(flavor = "multi_thread")]
async fn membership_events_without_a_user_do_the_same() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_noor").await?;
        world.origin_lags();
        let promoted = world.change(|clerk| clerk.change_role("user_noor", "harbour-works", "org:admin"));
        let left = world.change(|clerk| clerk.revoke("user_noor", "lantern-and-loom"));
        for done in [&promoted, &left] {
            let mut event = body(&done.messages[0]);
            event["data"]["public_user_data"] = Value::Null;
            world.take(&event).await?;
        }
        assert_eq!(world.check("user_noor", "harbour-works").await?.is_member()["role"], "org:admin");
        world.check("user_noor", "lantern-and-loom").await?.is_not_a_member();
        Ok(())
    })
    .await;
}

/// A list that lacks an announced membership is kept for five seconds instead of the TTL. Alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_the_announced_membership_is_kept_only_briefly() {
    run_test(Deployment::Alone, Setup::default(), kept_only_briefly).await;
}

/// The same with Redis: neither tier keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_the_announced_membership_is_kept_only_briefly_in_redis() {
    run_test(Deployment::Redis(1), Setup::default(), kept_only_briefly).await;
}

async fn kept_only_briefly(world: &mut World) -> anyhow::Result<()> {
    world.list("user_kofi").await?;
    world.origin_lags();
    let joined = world.change(|clerk| clerk.grant("user_kofi", "tidewell-energy", "org:member"));
    world.deliver(&joined).await;
    // With Redis the node hears of it a second time, by the stream, and forgets once more.
    until("the entry of the stream", async || {
        let applied = world.metric("rollcall_stream_entries_applied_total").await.ok()?;
        (applied.is_none_or(|entries| entries == 1.0)).then_some(())
    })
    .await;
    let (began, reads) = (Instant::now(), world.clerk.calls().of_user("user_kofi"));
    assert_eq!(world.list("user_kofi").await?.slugs().len(), 2, "the origin does not show it yet");
    world.origin_is_current();
    assert_eq!(world.clerk.calls().of_user("user_kofi"), reads + 1);
    // Seldom: whoever looks just when the stream was not heard for a second is told by the origin.
    let looked = Cell::new(Instant::now());
    until("the membership", async || {
        if looked.get().elapsed() < Duration::from_millis(250) {
            return None;
        }
        looked.set(Instant::now());
        row(world, "user_kofi", "org_tidewell_energy").await.ok()?
    })
    .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "kept too long: {took:?}");
    assert_eq!(world.clerk.calls().of_user("user_kofi"), reads + 2, "and within that time it was kept");
    assert!(took > Duration::from_secs(4), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_is_known_at_once_however_often_they_were_unknown() {
    run_on_both(Setup::default, async |world: &mut World| {
        // Two reads of the origin that say "unknown" make the third answer rest on the second for two seconds.
        until("a second read", async || {
            world.list("user_lena").await.ok()?.is_problem(404, "user-unknown");
            (world.clerk.calls().of_user("user_lena") == 2).then_some(())
        })
        .await;
        let new = NewUser { id: Some("user_lena".to_owned()), ..NewUser::default() };
        let signed_up = world.change(|clerk| clerk.create_user(new));
        world.list("user_lena").await?.is_problem(404, "user-unknown");
        world.deliver(&signed_up).await;
        assert_eq!(world.list("user_lena").await?.slugs().len(), 0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_user_is_unknown_without_asking_the_origin() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_ivo", "quillmark-press").await?.is_member();
        world.origin_lags();
        let gone = world.change(|clerk| clerk.delete_user("user_ivo"));
        world.deliver(&gone).await;
        for path in ["orgs", "orgs/quillmark-press", "orgs/org_harbour_works?role=org:admin"] {
            let answer = world.ask_with(0, &format!("/v1/users/user_ivo/{path}"), &[("cache-control", "no-cache")]).await?;
            answer.is_problem(404, "user-unknown");
            assert_eq!(answer.header("rollcall-decision"), "user-unknown");
        }
        assert_eq!(world.clerk.calls().of_user("user_ivo"), 1, "only before");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_organization_has_its_new_name_and_slug_for_every_member() {
    run_on_both(Setup::default, async |world: &mut World| {
        for user in ["user_ada", "user_noor"] {
            world.check(user, "harbour-works").await?.is_member();
        }
        world.origin_lags();
        let renamed = world.change(|clerk| clerk.rename(HARBOUR, Some("Harbour & Sons"), Some("harbour-and-sons")));
        world.deliver(&renamed).await;
        for user in ["user_ada", "user_noor"] {
            let member = world.check(user, "harbour-and-sons").await?.is_member();
            assert_eq!(member["organizationName"], "Harbour & Sons");
            assert_eq!(member["organizationUpdatedAt"], body(&renamed.messages[0])["data"]["updated_at"]);
            world.check(user, "harbour-works").await?.is_not_a_member();
            assert_eq!(world.check(user, HARBOUR).await?.is_member(), member, "by id as well");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_loses_its_slug_is_found_by_id_alone() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_noor", "harbour-works").await?.is_member();
        world.origin_lags();
        let renamed = world.change(|clerk| clerk.rename(HARBOUR, None, Some("")));
        world.deliver(&renamed).await;
        assert_eq!(world.check("user_noor", HARBOUR).await?.is_member()["organizationSlug"], Value::Null);
        world.check("user_noor", "harbour-works").await?.is_not_a_member();
        Ok(())
    })
    .await;
}

/// Whether Clerk announces the end of each membership too is not documented: both are handled.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_organization_is_nobodys_with_and_without_the_end_of_each_membership() {
    for cascades in [false, true] {
        run_on_both(Setup::default, async |world: &mut World| {
            for user in ["user_ada", "user_noor"] {
                world.check(user, HARBOUR).await?.is_member();
            }
            world.origin_lags();
            world.clerk.world().lock().set_cascades(cascades);
            let deleted = world.change(|clerk| clerk.delete_organization(HARBOUR));
            assert_eq!(deleted.messages.len(), if cascades { 3 } else { 1 });
            world.deliver(&deleted).await;
            for user in ["user_ada", "user_noor"] {
                world.check(user, HARBOUR).await?.is_not_a_member();
                assert_eq!(row(world, user, HARBOUR).await?, None);
            }
            Ok(())
        })
        .await;
    }
}

/// What changes no membership evicts nobody: the answer is the same, from memory.
async fn leaves_noor_alone(world: &World, done: &Done) -> anyhow::Result<()> {
    let before = world.check("user_noor", "lantern-and-loom").await?.is_member();
    let reads = world.clerk.calls().of_user("user_noor");
    world.deliver(done).await;
    let after = world.check("user_noor", "lantern-and-loom").await?;
    assert_eq!((after.is_member(), after.header("cache-status")), (before, "rollcall; hit; detail=local"));
    assert_eq!(world.clerk.calls().of_user("user_noor"), reads);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_a_lock_a_new_name_and_the_end_of_a_session_leave_memberships_alone() {
    run_on_both(Setup::default, async |world: &mut World| {
        leaves_noor_alone(world, &world.change(|clerk| clerk.rename_user("user_noor", "Nora"))).await?;
        for how in [SessionEnd::Ended, SessionEnd::Removed, SessionEnd::Revoked] {
            let started = world.change(|clerk| clerk.start_session("user_noor"));
            leaves_noor_alone(world, &started).await?;
            leaves_noor_alone(world, &world.change(|clerk| clerk.end_session(&started.id, how))).await?;
        }
        let mut locked = world.change(|clerk| clerk.rename_user("user_noor", "Noor"));
        let mut event = body(&locked.messages[0]);
        event["data"]["locked"] = true.into();
        locked.messages[0].body = event.to_string().into();
        leaves_noor_alone(world, &locked).await?;
        world.change(|clerk| clerk.start_session("user_noor"));
        let banned = world.change(|clerk| clerk.ban("user_noor"));
        assert_eq!(banned.messages.len(), 2, "the user, and the session that ends by it");
        leaves_noor_alone(world, &banned).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_no_membership_is_ignored_and_acknowledged() {
    let fixtures = [
        "role.created",
        "role.updated",
        "role.deleted",
        "permission.created",
        "permission.updated",
        "permission.deleted",
        "organization.created",
        "organizationInvitation.created",
        "organizationInvitation.accepted",
        "organizationInvitation.revoked",
        "organizationDomain.created",
        "organizationDomain.updated",
        "organizationDomain.deleted",
        "session.created",
        "session.pending",
        "email.created",
        "user.updated",
    ];
    run_on_both(Setup::default, async |world: &mut World| {
        world.list("user_ada").await?;
        for name in fixtures {
            world.take(&fixture(name)).await?;
        }
        for later in ["waitlistEntry.created", "organizationMembership.renamed", "user", ""] {
            world.take(&event(later, json!({"id": "user_ada", "organization": {"id": HARBOUR}}))).await?;
        }
        assert_eq!(world.deliveries("ignored").await?, fixtures.len() as u64 + 4);
        assert_eq!(world.list("user_ada").await?.header("cache-status"), "rollcall; hit; detail=local");
        Ok(())
    })
    .await;
}

/// A message of a known type that cannot be read must not leave what it names as it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_evicts_everybody_it_names() {
    let unreadable = [
        event("organizationMembership.updated", json!({"id": "orgmem_1", "public_user_data": {"user_id": "user_ada"}}))
            .to_string(),
        event("user.deleted", json!({"deleted": true, "note": "about user_ada and others"})).to_string(),
        event("organization.updated", json!({"id": HARBOUR, "name": 7})).to_string(),
        json!({"data": {"id": "user_ada"}}).to_string(),
        json!(["user_ada"]).to_string(),
        r#"{"type":"user.deleted","data":{"id":"user_ada""#.to_owned(),
    ];
    run_on_both(Setup::default, async |world: &mut World| {
        for (place, body) in unreadable.iter().enumerate() {
            world.list("user_ada").await?;
            // Clerk has changed, and all that we hear of it is this.
            let name = format!("Harbour {place}");
            world.change(|clerk| clerk.rename(HARBOUR, Some(&name), None));
            let answer = world.post(&world.webhook(body.clone())).await?;
            assert_eq!(answer.status, 204, "{body}: {answer:?}");
            let seen = row(world, "user_ada", HARBOUR).await?.expect("a member")["organizationName"].clone();
            assert_eq!(seen, name, "{body}");
        }
        assert_eq!(world.deliveries("unparsable").await?, unreadable.len() as u64);
        Ok(())
    })
    .await;
}

/// Clerk's samples have seconds where its servers have milliseconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_in_seconds_is_understood() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_ada", "harbour-works").await?.is_member();
        world.origin_lags();
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        let mut in_seconds = body(&left.messages[0]);
        in_seconds["timestamp"] = (in_seconds["timestamp"].as_i64().expect("a time") / 1_000).into();
        world.take(&in_seconds).await?;
        world.check("user_ada", "harbour-works").await?.is_not_a_member();
        let age = world.metric("rollcall_event_age_seconds_sum").await?.expect("it is measured");
        assert!(age < 60.0, "it happened just now, not {age} s ago");
        Ok(())
    })
    .await;
}

/// Who reads Redis by hand never finds an ended membership once its end was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn i2_an_acknowledged_change_is_gone_from_redis_and_is_in_the_stream() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let membership = world.check("user_ada", "harbour-works").await?.is_member()["membershipId"].clone();
        let membership = membership.as_str().expect("an id").to_owned();
        world.until_shared("user_ada").await;
        assert!(world.redis().query(&["GET", "user-orgs:user_ada"]).contains(&membership));
        world.origin_lags();
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        world.deliver(&left).await;
        assert!(!world.redis().query(&["GET", "user-orgs:user_ada"]).contains(&membership));
        let entries = world.redis().query(&["XRANGE", "user-orgs:~changes", "-", "+"]);
        let entry = entries.lines().find(|line| line.contains(&membership)).expect("an entry");
        assert_eq!(serde_json::from_str::<Value>(entry)?["kind"], "membershipDeleted");
        for person in ["Ada", "Farrowby", "@example.test", "img."] {
            assert!(!entries.contains(person), "nothing of a person: {entries}");
        }
        Ok(())
    })
    .await;
}
