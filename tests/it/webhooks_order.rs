//! Messages that come twice, late, or in any order: in the end every answer is the origin's. I3, I4.

use rollcall::dev::{Message, World as ClerkWorld};
use serde_json::Value;

use crate::world::answer::Answer;
use crate::world::service::{Deployment, READ_KEY, Setup, World, run_on_both, run_test};
use crate::world::webhooks::fixture;

const HARBOUR: &str = "org_harbour_works";

/// Every order of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let insert = |order: Vec<usize>| (0..=last).map(move |at| [&order[..at], &[last], &order[at..]].concat());
    orders(last).into_iter().flat_map(insert).collect()
}

/// Sends one message, which must be taken.
async fn send(world: &World, message: &Message) {
    let delivery = world.clerk.sender().deliver_now(message, &world.nodes[0].webhooks()).await;
    assert_eq!(delivery.status, Some(204), "{delivery:?}");
}

/// Role and membership of each user, as answered and as Clerk has it.
async fn in_harbour(world: &World, user: &str) -> anyhow::Result<(Value, Value)> {
    let answer = world.check(user, HARBOUR).await?;
    let answered = if answer.status == 200 { answer.is_member() } else { Value::Null };
    let clerk = world.clerk.world().lock();
    let truth = clerk.membership(user, HARBOUR).expect("in the end everybody is a member");
    let truth = serde_json::json!({"id": truth.id, "role": truth.role});
    Ok((serde_json::json!({"id": answered["membershipId"], "role": answered["role"]}), truth))
}

/// A user is promoted, leaves, joins again and is promoted again: four messages in all 24 orders, every second one twice,
/// with a read after each.
#[tokio::test(flavor = "multi_thread")]
async fn i4_any_order_and_repetition_ends_with_the_truth() {
    let people = orders(4).into_iter().enumerate().map(|(n, order)| (format!("user_p{n}"), order));
    let people: Vec<_> = people.collect();
    let setup = || {
        let mut clerk = ClerkWorld::small();
        for (user, _) in &people {
            clerk.put_into(user, 1).expect("room for a few");
            clerk.grant(user, HARBOUR, "org:member").expect("not a member yet");
        }
        Setup { clerk, ..Setup::default() }
    };
    run_on_both(setup, async |world: &mut World| {
        for (user, order) in &people {
            world.check(user, HARBOUR).await?.is_member();
            let history = [
                world.change(|clerk| clerk.change_role(user, HARBOUR, "org:admin")),
                world.change(|clerk| clerk.revoke(user, HARBOUR)),
                world.change(|clerk| clerk.grant(user, HARBOUR, "org:member")),
                world.change(|clerk| clerk.change_role(user, HARBOUR, "org:billing_manager")),
            ];
            for (place, step) in order.iter().enumerate() {
                for _ in 0..=place % 2 {
                    send(world, &history[*step].messages[0]).await;
                }
                world.check(user, HARBOUR).await?;
            }
        }
        for (user, order) in &people {
            let (answered, truth) = in_harbour(world, user).await?;
            assert_eq!(answered, truth, "{user}, delivered in the order {order:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_message_sent_again_under_its_id_changes_nothing_more() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.check("user_ada", "harbour-works").await?.is_member();
        world.origin_lags();
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        let mut answers = Vec::new();
        for node in [0, 1, 0, 0, 1] {
            assert_eq!(world.deliver_to(node, &left).await[0].status, Some(204));
            world.check("user_ada", "harbour-works").await?.is_not_a_member();
            answers.push(world.list("user_ada").await?.json());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_end_of_an_old_membership_leaves_the_one_made_by_joining_again() {
    run_on_both(Setup::default, async |world: &mut World| {
        let old = world.check("user_ada", "harbour-works").await?.is_member()["membershipId"].clone();
        let left = world.change(|clerk| clerk.revoke("user_ada", "harbour-works"));
        let joined = world.change(|clerk| clerk.grant("user_ada", "harbour-works", "org:member"));
        world.deliver(&joined).await;
        world.check("user_ada", "harbour-works").await?.is_member();
        world.deliver(&left).await;
        let member = world.check("user_ada", "harbour-works").await?.is_member();
        assert_ne!(member["membershipId"], old);
        assert_eq!((&member["membershipId"], &member["role"]), (&joined.id.into(), &"org:member".into()));
        Ok(())
    })
    .await;
}

/// Two roles, the later one first: the origin shows neither yet.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_roles_and_of_two_names_the_later_stays_in_either_order() {
    for is_swapped in [false, true] {
        run_on_both(Setup::default, async |world: &mut World| {
            world.list("user_noor").await?;
            world.origin_lags();
            let role = |role| world.change(|clerk| clerk.change_role("user_noor", HARBOUR, role));
            let name = |name| world.change(|clerk| clerk.rename(HARBOUR, Some(name), None));
            let mut steps = [role("org:admin"), role("org:billing_manager"), name("Harbour & Sons"), name("Harbour")];
            if is_swapped {
                steps.reverse();
            }
            for done in &steps {
                world.deliver(done).await;
                world.list("user_noor").await?;
            }
            let member = world.check("user_noor", HARBOUR).await?.is_member();
            assert_eq!((&member["role"], &member["organizationName"]), (&"org:billing_manager".into(), &"Harbour".into()));
            Ok(())
        })
        .await;
    }
}

/// The origin is ahead of every message here: what it says was read later than what they tell.
#[tokio::test(flavor = "multi_thread")]
async fn late_messages_lose_against_newer_readings() {
    run_on_both(Setup::default, async |world: &mut World| {
        let joined = world.change(|clerk| clerk.grant("user_kofi", HARBOUR, "org:member"));
        let promoted = world.change(|clerk| clerk.change_role("user_kofi", HARBOUR, "org:admin"));
        let renamed = world.change(|clerk| clerk.rename(HARBOUR, Some("Harbour & Sons"), None));
        world.change(|clerk| clerk.change_role("user_kofi", HARBOUR, "org:billing_manager"));
        world.change(|clerk| clerk.rename(HARBOUR, Some("Harbour"), None));
        let truth = world.check("user_kofi", HARBOUR).await?.is_member();
        assert_eq!((&truth["role"], &truth["organizationName"]), (&"org:billing_manager".into(), &"Harbour".into()));
        for done in [&joined, &promoted, &renamed] {
            world.deliver(done).await;
            assert_eq!(world.check("user_kofi", HARBOUR).await?.is_member(), truth);
        }
        Ok(())
    })
    .await;
}

/// The fixtures are of last March. Whoever has changed since is as the origin says.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_months_ago_bring_nothing_back() {
    run_on_both(Setup::default, async |world: &mut World| {
        // Each of them happened again since: promoted and demoted, renamed and named back, ended and joined anew.
        world.change(|clerk| clerk.change_role("user_kofi", "org_northfold_bakery", "org:member"));
        world.change(|clerk| clerk.rename(HARBOUR, Some("Harbour Works"), None));
        world.change(|clerk| clerk.revoke("user_mei", "org_copperline_rail"));
        world.change(|clerk| clerk.grant("user_mei", "org_copperline_rail", "org:member"));
        let asked = [("user_kofi", "org_northfold_bakery"), ("user_noor", HARBOUR), ("user_mei", "org_copperline_rail")];
        let mut truths = Vec::new();
        for (user, organization) in asked {
            truths.push(world.check(user, organization).await?.is_member());
        }
        for name in ["organizationMembership.updated", "organization.updated", "organizationMembership.deleted"] {
            world.take(&fixture(name)).await?;
        }
        // Announced in March, ended since: the origin's word stands.
        world.take(&fixture("organizationMembership.created")).await?;
        world.check("user_kofi", "org_tidewell_energy").await?.is_not_a_member();
        for ((user, organization), truth) in asked.into_iter().zip(truths) {
            assert_eq!(world.check(user, organization).await?.is_member(), truth, "{user}");
        }
        Ok(())
    })
    .await;
}

/// The origin has read, and not yet answered, when the message of a later change comes: the answer is read once more.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_answer_of_the_origin_that_a_message_overtakes_is_not_given() {
    run_on_both(Setup::default, async |world: &mut World| {
        let held = world.clerk.hold_next_answer_about("user_kofi");
        let url = format!("{}/v1/users/user_kofi/orgs/tidewell-energy", world.nodes[0].url());
        let reading = tokio::spawn(world.http.get(url).bearer_auth(READ_KEY).send());
        held.reached().await?;
        let joined = world.change(|clerk| clerk.grant("user_kofi", "tidewell-energy", "org:member"));
        world.deliver(&joined).await;
        held.release();
        Answer::of(reading.await??).await?.is_member();
        assert_eq!(world.list("user_kofi").await?.slugs().len(), 3);
        Ok(())
    })
    .await;
}
