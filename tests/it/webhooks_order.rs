//! Messages that come twice, late, or in any order: in the end every answer is the origin's. I3, I4.

use rollcall::dev::{Message, World as ClerkWorld};

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

/// Membership and role of a user in the harbour, as answered.
async fn answered(world: &World, user: &str) -> anyhow::Result<Option<(String, String)>> {
    let answer = world.check(user, HARBOUR).await?;
    if answer.status == 404 {
        answer.is_not_a_member();
        return Ok(None);
    }
    let member = answer.is_member();
    let text = |name: &str| member[name].as_str().expect("a text").to_owned();
    Ok(Some((text("membershipId"), text("role"))))
}

/// The same as it is at Clerk.
fn truth(world: &World, user: &str) -> Option<(String, String)> {
    let clerk = world.clerk.world().lock();
    clerk.membership(user, HARBOUR).map(|row| (row.id.clone(), row.role.clone()))
}

/// A user is promoted, leaves, joins again, is promoted again, and asked about after each. Each of the four messages is sent as
/// soon as it exists and those before it in the order were sent, every second one twice. Whenever all that happened was told,
/// the answer is the truth.
async fn live_through(world: &World, user: &str, order: &[usize]) -> anyhow::Result<()> {
    let step = |number| match number {
        0 => world.change(|clerk| clerk.change_role(user, HARBOUR, "org:admin")),
        1 => world.change(|clerk| clerk.revoke(user, HARBOUR)),
        2 => world.change(|clerk| clerk.grant(user, HARBOUR, "org:member")),
        _ => world.change(|clerk| clerk.change_role(user, HARBOUR, "org:billing_manager")),
    };
    let (mut happened, mut sent) = (Vec::new(), 0);
    for number in 0..order.len() {
        happened.push(step(number));
        while let Some(next) = order.get(sent).filter(|next| **next < happened.len()) {
            for _ in 0..=sent % 2 {
                send(world, &happened[*next].messages[0]).await;
            }
            sent += 1;
        }
        let answered = answered(world, user).await?;
        if sent == happened.len() {
            assert_eq!(answered, truth(world, user), "{user}, told in the order {order:?}, after {sent}");
        }
    }
    Ok(())
}

/// All 24 orders, a user each.
#[tokio::test(flavor = "multi_thread")]
async fn i4_any_order_and_repetition_ends_with_the_truth() {
    let setup = || {
        let mut clerk = ClerkWorld::small();
        for n in 0..24 {
            let user = format!("user_{n}");
            clerk.put_into(&user, 1).expect("room for a few");
            clerk.grant(&user, HARBOUR, "org:member").expect("not a member yet");
        }
        Setup { clerk, ..Setup::default() }
    };
    run_on_both(setup, async |world: &mut World| {
        for (n, order) in orders(4).iter().enumerate() {
            let user = format!("user_{n}");
            assert_eq!(answered(world, &user).await?, truth(world, &user));
            live_through(world, &user, order).await?;
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
