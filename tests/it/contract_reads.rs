//! The two reads: what a list holds, how an organization is named, and what a role has to be.

use serde_json::{Value, json};

use crate::world::service::{Deployment, Setup, World, run_on_both, run_test};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_the_documented_array_in_the_origins_order() {
    run_on_both(Setup::default, async |world: &mut World| {
        let answer = world.list("user_mei").await?;
        assert_eq!(answer.header("content-type"), "application/json");
        let list = answer.json();
        let ids: Vec<_> = list.as_array().expect("a list").iter().map(|row| row["organizationId"].clone()).collect();
        assert_eq!(ids, ["org_quiet_room", "org_copperline_rail", "org_tidewell_energy"], "newest first");
        let (updated_at, organization_updated_at) = {
            let clerk = world.clerk.world().lock();
            let membership = clerk.membership("user_mei", "org_quiet_room").expect("a member").clone();
            let organization = clerk.organization("org_quiet_room", rollcall::dev::AsOf::Now).expect("there").updated_at;
            (membership.updated_at, organization)
        };
        let mut first = list[0].clone();
        let image = first.as_object_mut().expect("an object").remove("imageUrl").expect("a picture, or null");
        assert!(image.is_string() || image.is_null());
        let expected = json!({
            "organizationId": "org_quiet_room", "organizationSlug": null, "organizationName": "Quiet Room", "role": "org:admin",
            "membershipId": "orgmem_mei_quiet_room", "createdAt": updated_at, "updatedAt": updated_at,
            "organizationUpdatedAt": organization_updated_at,
        });
        assert_eq!(first, expected);
        assert_eq!(world.list("user_mei").await?.body, answer.body, "from memory as from the origin");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_answers_the_lists_own_row() {
    run_on_both(Setup::default, async |world: &mut World| {
        let list = world.list("user_ada").await?.json();
        for row in list.as_array().expect("a list") {
            for name in [&row["organizationId"], &row["organizationSlug"]] {
                let answer = world.check("user_ada", name.as_str().expect("a name")).await?;
                assert_eq!(answer.is_member(), *row);
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_named_by_its_id_or_by_its_exact_slug() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.check("user_mei", "org_quiet_room").await?.is_member();
        for other in
            ["quiet-room", "Quiet Room", "ORG_quiet_room", "org_Quiet_room", "org_quiet_roo", "Copperline-Rail", "copperline"]
        {
            world.check("user_mei", &other.replace(' ', ".")).await?.is_not_a_member();
        }
        Ok(())
    })
    .await;
}

/// Whether there is such an organization is nobody's business who is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_of_others_and_one_of_nobody_are_refused_alike() {
    run_on_both(Setup::default, async |world: &mut World| {
        let [of_others, of_nobody] =
            [world.check("user_noor", "willow-ledger").await?, world.check("user_noor", "willow-ledges").await?];
        of_others.is_not_a_member();
        of_nobody.is_not_a_member();
        let mut problems = [of_others.json(), of_nobody.json()];
        problems.iter_mut().for_each(|problem| problem["requestId"] = Value::Null);
        assert_eq!(problems[0], problems[1]);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_roles_asked_for_must_be_the_members_exact_one() {
    run_on_both(Setup::default, async |world: &mut World| {
        let asked = async |query: &str| world.check("user_ada", &format!("harbour-works?{query}")).await;
        for good in ["role=org:admin", "role=org%3Aadmin", "role=org:member&role=org:admin", "role=org:admin&role=x", "other=1"] {
            asked(good).await?.is_member();
        }
        for bad in
            ["role=admin", "role=org:Admin", "role=org:admin,org:member", "role=org:admin%20", "role=org:adm", "role=org:*"]
        {
            let answer = asked(bad).await?;
            answer.is_problem(403, "role-missing");
            assert_eq!(answer.header("rollcall-decision"), "role-missing", "{bad}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_any_text_as_clerk_has_it() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.change(|clerk| clerk.change_role("user_ada", "harbour-works", "org:chef d'équipe & co"));
        let query = "harbour-works?role=org:chef%20d'%C3%A9quipe%20%26%20co";
        assert_eq!(world.check("user_ada", query).await?.is_member()["role"], "org:chef d'équipe & co");
        Ok(())
    })
    .await;
}
