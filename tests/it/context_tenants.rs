//! A guard in front of a page, `?org=<slug of the URL>&role=…`: it opens the caller's own organizations and no other, whatever
//! slugs were and are called, and each tab has its own.

use futures_util::future::join_all;
use rollcall::dev::{NewOrganization, NewToken, SessionEnd};
use serde_json::json;

use crate::context::{ask, decided, mint, of, run_on_both, session_of, within};
use crate::world::answer::Answer;
use crate::world::service::World;

/// Makes an organization with this slug and creator, and tells of it.
async fn found(world: &World, id: &str, slug: &str, creator: &str) {
    let slug = Some(slug.to_owned());
    let new = NewOrganization { id: Some(id.to_owned()), name: id.to_owned(), slug, created_by: Some(creator.to_owned()) };
    world.deliver(&world.change(|clerk| clerk.create_organization(new))).await;
}

async fn rename(world: &World, organization: &str, slug: &str) {
    world.deliver(&world.change(|clerk| clerk.rename(organization, None, Some(slug)))).await;
}

/// The organization that a slug opens to the caller.
#[track_caller]
fn opened(answer: &Answer) -> String {
    decided(answer, "member")["organization"]["organizationId"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_answers_each_caller_with_a_status_and_a_code_of_its_own() {
    run_on_both(async |world: &mut World| {
        let guard = "?org=harbour-works&role=org:admin";
        assert_eq!(opened(&ask(world, 0, &mint(world, &of("user_ada")), guard).await?), "org_harbour_works");
        let refused = ask(world, 0, &mint(world, &of("user_noor")), guard).await?;
        refused.is_problem(403, "role-missing");
        assert_eq!(refused.header("rollcall-decision"), "role-missing");
        ask(world, 0, &mint(world, &of("user_kofi")), guard).await?.is_not_a_member();
        let bare = world.http.get(format!("{}/v1/context{guard}", world.nodes[0].url())).send().await?;
        Answer::of(bare).await?.lawful().is_problem(401, "caller-unknown");
        ask(world, 0, "a.b.c", guard).await?.is_problem(401, "token-invalid");
        let signed_out = mint(world, &of("user_ada"));
        world.deliver(&world.change(|clerk| clerk.end_session(&session_of(&signed_out), SessionEnd::Ended))).await;
        ask(world, 0, &signed_out, guard).await?.is_problem(401, "session-ended");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_like_ones_own_opens_nothing() {
    run_on_both(async |world: &mut World| {
        found(world, "org_first", "acme", "user_noor").await;
        found(world, "org_second", "acme-2", "user_ada").await;
        let (ada, noor) = (mint(world, &of("user_ada")), mint(world, &of("user_noor")));
        assert_eq!(opened(&ask(world, 0, &ada, "?org=acme-2&role=org:admin").await?), "org_second");
        assert_eq!(opened(&ask(world, 0, &noor, "?org=acme&role=org:admin").await?), "org_first");
        // Of whoever was active when the token was minted the URL says nothing.
        let elsewhere = mint(world, &within("user_ada", "acme-2"));
        for token in [&ada, &elsewhere] {
            for other in ["acme", "org_first", "acme-", "acme-22", "ACME-2", "acme-2.", "acme~2", "org_acme-2", "first"] {
                ask(world, 0, token, &format!("?org={other}")).await?.is_not_a_member();
                ask(world, 0, token, &format!("?org={other}&role=org:admin")).await?.is_not_a_member();
            }
        }
        for other in ["acme-2", "org_second"] {
            ask(world, 0, &noor, &format!("?org={other}&role=org:admin")).await?.is_not_a_member();
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_opens_whose_it_is_now_and_not_whose_it_was() {
    run_on_both(async |world: &mut World| {
        found(world, "org_first", "acme", "user_ada").await;
        found(world, "org_second", "beta", "user_noor").await;
        // Mei is in both, with more to say in the first.
        world.deliver(&world.change(|clerk| clerk.grant("user_mei", "org_first", "org:admin"))).await;
        world.deliver(&world.change(|clerk| clerk.grant("user_mei", "org_second", "org:member"))).await;
        let [ada, noor, mei] = ["user_ada", "user_noor", "user_mei"].map(|user| mint(world, &of(user)));
        let expect = async |token: &str, slug: &str, organization: Option<&str>| {
            let answer = ask(world, 0, token, &format!("?org={slug}")).await?;
            match organization {
                Some(organization) => assert_eq!(opened(&answer), organization, "{slug}"),
                None => answer.is_not_a_member(),
            }
            anyhow::Ok(())
        };
        for (token, first, second) in
            [(&ada, Some("org_first"), None), (&noor, None, Some("org_second")), (&mei, Some("org_first"), Some("org_second"))]
        {
            expect(token, "acme", first).await?;
            expect(token, "beta", second).await?;
        }
        rename(world, "org_first", "acme-new").await;
        for (token, first) in [(&ada, Some("org_first")), (&noor, None), (&mei, Some("org_first"))] {
            expect(token, "acme", None).await?;
            expect(token, "acme-new", first).await?;
        }
        // They swap: by way of a third, as nobody may have two at once.
        rename(world, "org_first", "between").await;
        rename(world, "org_second", "acme-new").await;
        rename(world, "org_first", "beta").await;
        for (token, first, second) in
            [(&ada, Some("org_first"), None), (&noor, None, Some("org_second")), (&mei, Some("org_first"), Some("org_second"))]
        {
            expect(token, "beta", first).await?;
            expect(token, "acme-new", second).await?;
            expect(token, "between", None).await?;
        }
        assert_eq!(opened(&ask(world, 0, &mei, "?org=beta&role=org:admin").await?), "org_first");
        ask(world, 0, &mei, "?org=acme-new&role=org:admin").await?.is_problem(403, "role-missing");
        // Somebody else takes up a name that was given away.
        found(world, "org_third", "acme", "user_kofi").await;
        for token in [&ada, &noor, &mei] {
            expect(token, "acme", None).await?;
        }
        expect(&mint(world, &of("user_kofi")), "acme", Some("org_third")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_in_two_organizations_each_get_their_own() {
    run_on_both(async |world: &mut World| {
        let first = mint(world, &within("user_ada", "harbour-works"));
        let session = Some(session_of(&first));
        let second = NewToken { session, organization: Some("northfold-bakery".to_owned()), ..NewToken::default() };
        let tabs = [(first, "org_harbour_works", "org:admin"), (mint(world, &second), "org_northfold_bakery", "org:member")];
        let expect = async |(token, organization, role): &(String, &str, &str)| {
            let context = decided(&ask(world, 0, token, "").await.expect("an answer"), "context");
            let active = &context["organization"];
            assert_eq!((&active["organizationId"], &active["role"]), (&json!(organization), &json!(role)), "{context}");
            let guarded = ask(world, 0, token, "?org=northfold-bakery&role=org:admin").await.expect("an answer");
            guarded.is_problem(403, "role-missing");
        };
        for _ in 0..20 {
            for tab in &tabs {
                expect(tab).await;
            }
        }
        join_all((0..200).map(|n| expect(&tabs[n % 2]))).await;
        Ok(())
    })
    .await;
}
