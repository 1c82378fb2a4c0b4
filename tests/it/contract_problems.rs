//! Every way to refuse a request, and which comes first.

use std::time::{Duration, Instant};

use crate::world::service::{ADMIN_KEY, Deployment, EVICT_KEY, READ_KEY, Setup, World, run_on_both, run_test};

const LIST: &str = "/v1/users/user_ada/orgs";

/// What no id holds, as written in a path: a slash, braces, control characters, and what else Clerk or Redis might take
/// for something.
const IN_NO_ID: [&str; 22] = [
    "%2F", "%2f", "%5C", "{", "}", "%7B", "%7D", "%00", "%0A", "%0D%0A", "%1F", "%7F", "%20", "%25", "%252F", "%", "%ZZ",
    "%C3%BC", "%FF", "*", ":", "+",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_id_is_refused_and_never_reaches_the_origin() {
    run_on_both(Setup::default, async |world: &mut World| {
        for part in IN_NO_ID {
            world.ask_raw(&format!("/v1/users/user{part}ada/orgs")).await?.is_problem_of("id-malformed", "userId");
            world.ask_raw(&format!("/v1/users/user{part}ada/orgs/acme")).await?.is_problem_of("id-malformed", "userId");
            world.ask_raw(&format!("/v1/users/user_ada/orgs/harbour{part}works")).await?.is_problem_of("id-malformed", "org");
            let answer = world.send(world.request("DELETE", &format!("/v1/users/a{part}b/orgs")).bearer_auth(EVICT_KEY)).await?;
            assert_eq!(answer.status, 400, "{part}");
        }
        for user in ["..", "%2E%2E", "user.ada", "user~ada", &"x".repeat(129)] {
            world.ask_raw(&format!("/v1/users/{user}/orgs")).await?.is_problem_of("id-malformed", "userId");
        }
        for organization in [".", "..", "%2e%2E", "org_", "org_a.b", &format!("org_{}", "x".repeat(125)), &"s".repeat(257)] {
            world.ask_raw(&format!("/v1/users/user_ada/orgs/{organization}")).await?.is_problem_of("id-malformed", "org");
        }
        assert_eq!(world.clerk.calls().total(), 0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_ids_are_ids() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.list(&"x".repeat(128)).await?.is_user_unknown();
        world.check("user_ada", &"s".repeat(256)).await?.is_not_a_member();
        world.check("user_ada", &format!("org_{}", "x".repeat(124))).await?.is_not_a_member();
        world.check("user_ada", "a.b_c~d-E").await?.is_not_a_member();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn escapes_in_a_path_are_decoded_once() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.ask_raw("/v1/users/user%5Fada/orgs/harbour%2Dworks").await?.is_member();
        world.ask_raw("/v1/users/%75ser_ada/orgs/org%5Fharbour_works?role=org%3Aadmin").await?.is_member();
        world.ask_raw("/v1/users/user%255Fada/orgs").await?.is_problem(400, "id-malformed");
        world.ask_raw("/v1/users/user_ada/orgs/harbour%252Dworks").await?.is_problem(400, "id-malformed");
        world.ask_raw("/v1/users/user_ada/orgs/harbour-works?role=org%253Aadmin").await?.is_problem(403, "role-missing");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_wrong_is_named() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let check = "/v1/users/user_ada/orgs/harbour-works";
        for query in ["role=", "role", "role=org:admin&role=", &format!("role={}", "r".repeat(129))] {
            world.ask(0, &format!("{check}?{query}")).await?.is_problem_of("parameter-invalid", "role");
        }
        for directives in [
            "max-age",
            "max-age=",
            "max-age=x",
            "max-age=-1",
            "max-age=1.5",
            "stale-if-error",
            "stale-if-error=soon",
            "no-cache, only-if-cached",
            "max-age=0, only-if-cached",
            "private, max-age=1s",
        ] {
            world.ask_under(directives, check).await?.is_problem_of("parameter-invalid", "Cache-Control");
            world.ask_under(directives, LIST).await?.is_problem_of("parameter-invalid", "Cache-Control");
            let batch = world.batch_of(0, directives, serde_json::json!([])).await?;
            batch.is_problem_of("parameter-invalid", "Cache-Control");
        }
        for lag in ["", "fast", "-1", "0.5", "1s"] {
            world.ask_with(0, check, &[("rollcall-max-lag", lag)]).await?.is_problem_of("parameter-invalid", "Rollcall-Max-Lag");
        }
        assert_eq!(world.clerk.calls().total(), 0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_known_key_is_told_how_to_bring_one() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let almost = format!("Bearer {}", &READ_KEY[..READ_KEY.len() - 1]);
        let more = format!("Bearer {READ_KEY}x");
        let basic = format!("Basic {READ_KEY}");
        for given in ["", "Bearer", "Bearer ", "Bearer rk_unknown", READ_KEY, &basic, &almost, &more] {
            for (method, path) in [
                ("GET", LIST),
                ("GET", "/v1/users/user_ada/orgs/acme"),
                ("POST", "/v1/checks"),
                ("DELETE", LIST),
                ("GET", "/metrics"),
            ] {
                let answer = world.send(world.request(method, path).header("authorization", given)).await?;
                answer.is_problem(401, "caller-unknown");
                assert_eq!(answer.header("www-authenticate"), "Bearer", "{method} {path}");
            }
        }
        world.send(world.request("GET", LIST)).await?.is_problem(401, "caller-unknown");
        let lower = world.request("GET", LIST).header("authorization", format!("bearer {READ_KEY}"));
        assert_eq!(world.send(lower).await?.status, 200, "the scheme has no case");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_its_scope_says() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for (method, path, read, evict, admin) in [
            ("GET", LIST, 200, 200, 200),
            ("GET", "/v1/users/user_ada/orgs/harbour-works", 200, 200, 200),
            ("DELETE", LIST, 403, 204, 204),
            ("GET", "/metrics", 403, 403, 200),
        ] {
            for (key, expected) in [(READ_KEY, read), (EVICT_KEY, evict), (ADMIN_KEY, admin)] {
                let answer = world.send(world.request(method, path).bearer_auth(key)).await?;
                assert_eq!(answer.status, expected, "{method} {path} {key}");
                if expected == 403 {
                    answer.is_problem(403, "scope-missing");
                }
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_wrongs_the_first_in_order_is_told() {
    run_on_both(Setup::default, async |world: &mut World| {
        world.clerk.faults().add(rollcall::dev::Rule::always(rollcall::dev::Act::Hang).of_user("user_none"));
        for malformed in ["/v1/users/a.b/orgs", "/v1/users/user_ada/orgs/org_a.b", "/v1/users/user_ada/orgs/acme?role="] {
            let without_key = world.request("GET", malformed).header("cache-control", "max-age=x");
            world.send(without_key).await?.is_problem(401, "caller-unknown");
        }
        let without_key = world.request("POST", "/v1/checks").header("cache-control", "max-age=x").body("{");
        world.send(without_key).await?.is_problem(401, "caller-unknown");
        let with_too_little = world.request("DELETE", "/v1/users/a.b/orgs").bearer_auth(READ_KEY);
        world.send(with_too_little).await?.is_problem(403, "scope-missing");
        world.check("user_none", "org_a.b").await?.is_problem(400, "id-malformed");
        world.check_under("max-age=x", "user_none", "acme").await?.is_problem(400, "parameter-invalid");
        world.check("user_nobody", "no-such?role=org:none").await?.is_user_unknown();
        world.check("user_ada", "willow-ledger?role=org:none").await?.is_not_a_member();
        let role_missing = world.check("user_ada", "harbour-works?role=org:none").await?;
        role_missing.is_problem(403, "role-missing");
        assert_eq!(role_missing.header("rollcall-decision"), "role-missing");
        world.origin_answers(500);
        world.check("user_nobody_else", "no-such?role=org:none").await?.could_not_find_out("origin-unavailable");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_is_no_route_and_a_wrong_method_names_the_right_ones() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        for path in
            ["/", "/v1", "/v1/users", "/v1/users/user_ada", "/v1/users//orgs", "/v2/users/user_ada/orgs", "/v1/users/a%2Forgs"]
        {
            world.ask_raw(path).await?.is_problem(404, "route-unknown");
        }
        for (path, allowed) in [
            (LIST, "GET, DELETE"),
            ("/v1/users/user_ada/orgs/acme", "GET"),
            ("/v1/checks", "POST"),
            ("/webhooks/clerk", "POST"),
            ("/livez", "GET"),
            ("/readyz", "GET"),
            ("/metrics", "GET"),
        ] {
            for method in ["PUT", "PATCH", "OPTIONS", "PURGE"] {
                let answer = world.send(world.request(method, path).bearer_auth(ADMIN_KEY)).await?;
                answer.is_problem(405, "method-not-allowed");
                assert_eq!(answer.header("allow"), allowed, "{method} {path}");
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_waited_for_five_seconds() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let began = Instant::now();
        let head = format!("POST /v1/checks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {READ_KEY}\r\nContent-Length: 20\r\n\r\n");
        world.raw(head + "{\"checks\"").await?.is_problem(408, "body-timeout");
        let waited = began.elapsed();
        assert!((Duration::from_millis(4_900)..Duration::from_secs(7)).contains(&waited), "{waited:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_kind_is_not_taken() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let sent = async |name: &str, value: &str| {
            let request = world.request("POST", "/v1/checks").bearer_auth(READ_KEY).header(name, value);
            world.send(request.body("{\"checks\":[]}")).await
        };
        for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
            sent("content-type", media_type).await?.is_problem(415, "media-type-unsupported");
        }
        sent("content-encoding", "gzip").await?.is_problem(415, "media-type-unsupported");
        for media_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            assert_eq!(sent("content-type", media_type).await?.status, 200, "{media_type}");
        }
        Ok(())
    })
    .await;
}
