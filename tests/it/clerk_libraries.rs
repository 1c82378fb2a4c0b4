//! Clerk's own libraries, as npm and PyPI have them, on the stand-in: what they make of its pages, shapes, refusals, limits and
//! keys is what an application would see of Clerk. So the stand-in is worth testing against.

use rollcall::dev::{Act, AsOf, Faults, INSTANCE_ID, NewToken, Options, Rule, SessionEnd, StandIn, World as ClerkWorld};
use serde_json::{Value, json};

use crate::world::libraries::{CLERK_NODE, CLERK_PYTHON, Library, ask};
use crate::world::webhooks::now;

const LIBRARIES: [Library; 2] = [CLERK_NODE, CLERK_PYTHON];
const ADA: &str = "user_ada";
/// Seconds; longer than any test takes, however busy the machine is.
const HOUR: i64 = 3_600;

async fn start(world: ClerkWorld) -> StandIn {
    StandIn::start(Options { world, ..Options::default() }).await.expect("Clerk starts")
}

/// Asks with the right key wherever a question names none.
async fn outcomes(library: Library, clerk: &StandIn, questions: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let with_key = |mut question: Value| {
        let fields = question.as_object_mut().expect("a question is an object");
        fields.entry("key").or_insert_with(|| json!(clerk.secret_key()));
        question
    };
    let questions: Vec<Value> = questions.into_iter().map(with_key).collect();
    ask(library, clerk.address(), &questions).await
}

/// Asks, and every question comes out as it should.
async fn come_out(library: Library, clerk: &StandIn, expected: impl IntoIterator<Item = (Value, Value)>) {
    let (questions, expected): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    let outcomes = outcomes(library, clerk, questions.iter().cloned()).await;
    for ((question, expected), outcome) in questions.iter().zip(expected).zip(outcomes) {
        assert_eq!(outcome, expected, "{library:?} {question}");
    }
}

fn ok(answer: impl Into<Value>) -> Value {
    json!({ "ok": answer.into() })
}

/// Where the stand-in tells nothing of a parameter or a wait, there is none.
fn refused(status: u16, code: &str) -> Value {
    json!({ "error": { "status": status, "code": code, "parameter": null, "retryAfter": null } })
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_any_length_are_whole_page_by_page() {
    // Memberships, rows of a page, requests.
    const LISTS: [(usize, usize, u64); 6] = [(0, 10, 1), (1, 1, 1), (10, 10, 1), (11, 10, 2), (137, 10, 14), (501, 500, 2)];
    let mut world = ClerkWorld::small();
    for (count, ..) in LISTS {
        world.put_into(&format!("user_{count}"), count).expect("a new user");
    }
    let clerk = start(world).await;
    for library in LIBRARIES {
        clerk.calls().reset();
        let questions = LISTS.map(|(count, limit, _)| json!({ "do": "every", "user": format!("user_{count}"), "limit": limit }));
        let outcomes = outcomes(library, &clerk, questions).await;
        for ((count, _, requests), outcome) in LISTS.into_iter().zip(outcomes) {
            let user = format!("user_{count}");
            let ids: Vec<String> = {
                let world = clerk.world().lock();
                world.memberships(&user, AsOf::Now).expect("a user").iter().map(|row| row.id.clone()).collect()
            };
            assert_eq!((ids.len(), &outcome), (count, &ok(ids)), "{library:?}");
            assert_eq!(clerk.calls().of_user(&user), requests, "{library:?} {user}");
        }
    }
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_organizations_and_memberships_have_shapes_that_their_libraries_read() {
    let clerk = start(ClerkWorld::small()).await;
    let (user, works, room, row) = {
        let world = clerk.world().lock();
        let organization = |id: &str, members: usize| {
            let row = world.organization(id, AsOf::Now).expect("it is in the world");
            // No slug is an empty one.
            let slug = row.slug.clone().unwrap_or_default();
            json!({ "id": id, "slug": slug, "name": row.name, "members": members, "createdAt": row.created_at })
        };
        let ada = world.user(ADA, AsOf::Now).expect("she is in the world");
        let user = json!({
            "id": ADA, "firstName": "Ada", "lastName": "Farrowby", "email": ada.email, "isBanned": false,
            "createdAt": ada.created_at,
        });
        let room = organization("org_quiet_room", 1);
        let mei = world.membership("user_mei", "org_quiet_room").expect("she is in it");
        let row = json!({
            "id": "orgmem_mei_quiet_room", "role": "org:admin", "permissions": 6, "organization": room, "user": "user_mei",
            "createdAt": mei.created_at, "updatedAt": mei.updated_at,
        });
        (user, organization("org_harbour_works", 2), room, row)
    };
    for library in LIBRARIES {
        let questions = [
            (json!({ "do": "user", "id": ADA }), ok(user.clone())),
            (json!({ "do": "organization", "id": "org_harbour_works" }), ok(works.clone())),
            (json!({ "do": "organization", "id": "harbour-works" }), ok(works.clone())),
            (json!({ "do": "organization", "id": "org_quiet_room" }), ok(room.clone())),
            (json!({ "do": "page", "user": "user_mei", "limit": 1 }), ok(json!({ "total": 3, "rows": [row] }))),
            (json!({ "do": "page", "user": "user_tomas" }), ok(json!({ "total": 0, "rows": [] }))),
        ];
        come_out(library, &clerk, questions).await;
        let page = outcomes(library, &clerk, [json!({ "do": "page", "user": ADA })]).await.remove(0);
        assert_eq!((page["ok"]["rows"].as_array().map(Vec::len), &page["ok"]["total"]), (Some(10), &json!(12)), "{library:?}");
    }
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_read_as_clerks() {
    let clerk = start(ClerkWorld::small()).await;
    let [unknown, wrong_key] = [refused(404, "resource_not_found"), refused(401, "clerk_key_invalid")];
    let [limit, offset] = ["limit", "offset"].map(|parameter| {
        let mut refused = refused(422, "form_param_value_invalid");
        refused["error"]["parameter"] = json!(parameter);
        refused
    });
    for library in LIBRARIES {
        let questions = [
            (json!({ "do": "page", "user": "user_nobody" }), unknown.clone()),
            (json!({ "do": "user", "id": "user_nobody" }), unknown.clone()),
            (json!({ "do": "organization", "id": "nowhere" }), unknown.clone()),
            (json!({ "do": "page", "user": ADA, "limit": 501 }), limit.clone()),
            (json!({ "do": "page", "user": ADA, "offset": -1 }), offset.clone()),
            (json!({ "do": "page", "user": ADA, "key": "sk_test_another" }), wrong_key.clone()),
            (json!({ "do": "user", "id": ADA, "key": "sk_test_another" }), wrong_key.clone()),
            (json!({ "do": "organization", "id": "harbour-works", "key": "sk_test_another" }), wrong_key.clone()),
        ];
        come_out(library, &clerk, questions).await;
    }
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_they_are_told_when_to_come_back_and_do_not_come_back_by_themselves() {
    let clerk = start(ClerkWorld::small()).await;
    for library in LIBRARIES {
        clerk.calls().reset();
        clerk.faults().set(Faults::of([Rule::next(Act::Status { status: 429, retry_after: Some(7) }, 3)]));
        let mut limited = refused(429, "too_many_requests");
        limited["error"]["retryAfter"] = json!(7);
        let questions = [
            (json!({ "do": "page", "user": ADA }), limited.clone()),
            (json!({ "do": "user", "id": ADA }), limited.clone()),
            (json!({ "do": "organization", "id": "harbour-works" }), limited),
            (json!({ "do": "page", "user": "user_tomas" }), ok(json!({ "total": 0, "rows": [] }))),
            (json!({ "do": "keys" }), ok(vec![INSTANCE_ID])),
        ];
        come_out(library, &clerk, questions).await;
        assert_eq!(clerk.calls().total(), 5, "{library:?}");
    }
    clerk.stop().await;
}

/// Where they differ: what is for a moment only, npm's library reports, and PyPI's asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_trouble_is_reported_by_one_library_and_sat_out_by_the_other() {
    let clerk = start(ClerkWorld::small()).await;
    let nothing = ok(json!({ "total": 0, "rows": [] }));
    for (library, expected, requests) in [(CLERK_NODE, refused(503, "service_unavailable"), 1), (CLERK_PYTHON, nothing, 2)] {
        clerk.calls().reset();
        clerk.faults().set(Faults::of([Rule::next(Act::Status { status: 503, retry_after: None }, 1)]));
        come_out(library, &clerk, [(json!({ "do": "page", "user": "user_tomas" }), expected)]).await;
        assert_eq!(clerk.calls().of_user("user_tomas"), requests, "{library:?}");
    }
    clerk.stop().await;
}

fn refused_for(reason: &str) -> Value {
    json!({ "error": { "reason": reason } })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_verified_with_the_published_keys() {
    let [clerk, another] = [start(ClerkWorld::small()).await, start(ClerkWorld::small()).await];
    let claims = |from: i64, to: i64| {
        let [from, to] = [from, to].map(|offset| now() + offset);
        json!({
            "iss": clerk.issuer(), "sub": ADA, "sid": "sess_1", "azp": "https://app.example.test", "v": 2, "sts": "active",
            "iat": from, "nbf": from, "exp": to, "o": { "id": "org_harbour_works", "rol": "admin" },
        })
    };
    let good = clerk.sign_token(&claims(0, HOUR));
    let verified = ok(json!({ "user": ADA, "session": "sess_1", "organization": "org_harbour_works" }));
    for library in LIBRARIES {
        clerk.calls().reset();
        let verify = |token: &str| json!({ "do": "verify", "token": token });
        let for_party = |party: &str| json!({ "do": "verify", "token": good, "parties": [party] });
        let questions = [
            (verify(&good), verified.clone()),
            (for_party("https://app.example.test"), verified.clone()),
            (for_party("https://other.example.test"), refused_for("token-invalid-authorized-parties")),
            (verify(&clerk.sign_token(&claims(-2 * HOUR, -HOUR))), refused_for("token-expired")),
            (verify(&clerk.sign_token(&claims(HOUR, 2 * HOUR))), refused_for("token-not-active-yet")),
            (verify(&another.sign_token(&claims(0, HOUR))), refused_for("token-invalid-signature")),
        ];
        come_out(library, &clerk, questions).await;
        // PyPI's library takes a signature that does not fit for one of a key that was replaced, and asks once more.
        let requests = if library == CLERK_PYTHON { 2 } else { 1 };
        assert_eq!(clerk.calls().seen().by_path["GET /v1/jwks"], requests, "{library:?}");
    }
    clerk.stop().await;
    another.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_session_are_minted_until_it_ends_and_verified_until_their_key_is_retired() {
    let clerk = start(ClerkWorld::small()).await;
    let [session, ended] = {
        let mut world = clerk.world().lock();
        let [session, ended] = ["user_mei"; 2].map(|user| world.start_session(user).expect("she is in the world").id);
        world.end_session(&ended, SessionEnd::Revoked).expect("it is hers");
        [session, ended]
    };
    let minted = || {
        clerk
            .mint(&NewToken { session: Some(session.clone()), lives_seconds: Some(HOUR), ..NewToken::default() })
            .expect("a session")
    };
    let retired = minted();
    clerk.rotate_keys(true);
    let old = minted();
    clerk.rotate_keys(false);
    let new = minted();
    let verified = ok(json!({ "user": "user_mei", "session": session, "organization": null }));
    for library in LIBRARIES {
        let mint = |session: &str| json!({ "do": "mint", "session": session, "seconds": 45 });
        let verify = |token: &str| json!({ "do": "verify", "token": token });
        let questions = [
            (mint(&session), ok(json!({ "user": "user_mei", "session": session, "seconds": 45 }))),
            (mint(&ended), refused(404, "resource_not_found")),
            (mint("sess_nobody"), refused(404, "resource_not_found")),
            (verify(&old), verified.clone()),
            (verify(&new), verified.clone()),
            (verify(&retired), refused_for("jwk-kid-mismatch")),
            (verify("nonsense"), refused_for("token-invalid")),
        ];
        come_out(library, &clerk, questions).await;
    }
    clerk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_token_of_either_version_is_of_that_user_in_that_organization_with_that_role() {
    let clerk = start(ClerkWorld::small()).await;
    let session = clerk.world().lock().start_session(ADA).expect("she is in the world").id;
    let sign_in = |version: u8, organization: Option<&str>| {
        let new = NewToken {
            session: Some(session.clone()),
            organization: organization.map(str::to_owned),
            version: Some(version),
            lives_seconds: Some(HOUR),
            ..NewToken::default()
        };
        let token = clerk.mint(&new).expect("a session");
        json!({ "do": "signIn", "token": token, "publishable": clerk.publishable_key() })
    };
    let in_none = json!({ "user": ADA, "session": session });
    let as_admin = json!({
        "user": ADA, "session": session, "organization": "org_harbour_works", "slug": "harbour-works", "role": "org:admin",
        "permissions": ["org:ledger:view", "org:ledger:edit", "org:crew:view"],
    });
    let as_member = json!({
        "user": ADA, "session": session, "organization": "org_northfold_bakery", "slug": "northfold-bakery",
        "role": "org:member", "permissions": ["org:ledger:view"],
    });
    let questions = [1, 2].into_iter().flat_map(|version| {
        [
            (sign_in(version, None), ok(in_none.clone())),
            (sign_in(version, Some("harbour-works")), ok(as_admin.clone())),
            (sign_in(version, Some("northfold-bakery")), ok(as_member.clone())),
        ]
    });
    come_out(CLERK_NODE, &clerk, questions).await;
    clerk.stop().await;
}
